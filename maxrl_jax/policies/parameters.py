"""Parameters of a policy in a folder, to start another run from.

A `Transformer` has Hugging Face's format (`qwen2`); other policies have
model.safetensors alone, a tensor for each parameter by its path.
"""

import hashlib
import pathlib
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError
from safetensors.flax import load_file, save_file

from maxrl_jax.policies import qwen2
from maxrl_jax.policies.transformer import Transformer

_FILE = "model.safetensors"


def save(folder: str | pathlib.Path, policy: nn.Module, params: Any) -> None:
  """Writes the parameters of one run; creates the folder if it is missing."""
  if isinstance(policy, Transformer):
    qwen2.save(folder, policy, params)
    return
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  save_file(traverse_util.flatten_dict(params, sep="."), folder / _FILE)


def load(folder: str | pathlib.Path, policy: nn.Module, example: Any) -> Any:
  """Loads what `save` wrote.

  Args:
    folder: as in config.policy.checkpoint.
    policy: of the same sizes.
    example: inputs that `policy.init` takes.

  Raises:
    ValueError: names the file, or the parameter that has another shape.
  """
  if isinstance(policy, Transformer):
    return qwen2.load(folder, policy)
  path = pathlib.Path(folder) / _FILE
  try:
    params = traverse_util.unflatten_dict(load_file(path), sep=".")
  except (OSError, SafetensorError) as error:
    others = sorted(p.name for p in pathlib.Path(folder).glob("model*"))
    raise ValueError(
      f"policy.checkpoint = '{folder}': cannot read {path} ({error}); it must"
      f" be the folder model/ of a run{f'; it has {others}' if others else ''}"
    ) from None
  shapes = jax.eval_shape(policy.init, jax.random.key(0), example)
  check(params, shapes, f"policy.checkpoint = '{folder}': ")
  return params


def check(params: Any, shapes: Any, where: str = "") -> None:
  """Raises ValueError if parameters are of another policy.

  Args:
    params: given.
    shapes: what the policy's `init` gives.
    where: they are from, for the message.
  """
  given, wanted = (
    {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}
    for leaves in map(jax.tree.leaves_with_path, (params, shapes))
  )
  for name in sorted(given.keys() | wanted.keys()):
    if name not in given:
      wrong = f"are without {name}, which this policy has"
    elif name not in wanted:
      wrong = f"have {name}, which this policy has not"
    elif given[name] != wanted[name]:
      wrong = f"have {name} of shape {given[name]}, must be {wanted[name]}"
    else:
      continue
    raise ValueError(f"{where}params {wrong}; give those of one run of it")


def digest(folder: str | pathlib.Path) -> str:
  """Identifies the contents of a folder."""
  total = hashlib.sha256()
  for path in sorted(pathlib.Path(folder).glob("*")):
    total.update(path.name.encode() + path.read_bytes())
  return total.hexdigest()[:12]
