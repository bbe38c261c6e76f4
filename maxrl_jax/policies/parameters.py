"""Saves and loads the parameters of a policy, to start another run.

A `Transformer` has Hugging Face's format (`qwen2`); other policies have
model.safetensors alone, a tensor for each parameter by its path.
"""

import hashlib
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
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
  leaves = jax.tree.leaves_with_path(params)
  tensors = {_name(path): jnp.asarray(leaf) for path, leaf in leaves}
  save_file(tensors, folder / _FILE)


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
    tensors = load_file(path)
  except (OSError, SafetensorError) as error:
    others = sorted(p.name for p in pathlib.Path(folder).glob("model*"))
    raise ValueError(
      f"policy.checkpoint = '{folder}': cannot read {path} ({error}); it must"
      f" be the folder model/ of a run{f'; it has {others}' if others else ''}"
    ) from None
  shapes = jax.eval_shape(policy.init, jax.random.key(0), example)
  return fitted(tensors, shapes, f"policy.checkpoint = '{folder}': ")


def _name(path: tuple) -> str:
  return jax.tree_util.keystr(path, simple=True, separator=".")


def fitted(given: Any, shapes: Any, where: str = "") -> Any:
  """Parameters in the structure and with the types of a policy's.

  Args:
    given: a tree, or a dict of leaves by path.
    shapes: what the policy's `init` returns.
    where: prefix of the error message.

  Raises:
    ValueError: the parameters of another policy.
  """
  values, wanted = (
    {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}
    for tree in (given, shapes)
  )
  _check(values, wanted, where)
  leaves = [jnp.asarray(values[k], x.dtype) for k, x in wanted.items()]
  return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def _check(values: dict, shapes: dict, where: str) -> None:
  given, wanted = (
    {name: np.shape(leaf) for name, leaf in leaves.items()}
    for leaves in (values, shapes)
  )
  for name in sorted(given.keys() | wanted.keys()):
    if name not in given:
      wrong = f"lack {name}, which this policy has"
    elif name not in wanted:
      wrong = f"have {name}, which this policy lacks"
    elif given[name] != wanted[name]:
      wrong = f"have {name} of shape {given[name]}, must be {wanted[name]}"
    else:
      continue
    raise ValueError(f"{where}params {wrong}; pass those of one of its runs")


def digest(folder: str | pathlib.Path) -> str:
  """A hash of the files in a folder; folders within it are ignored."""
  total = hashlib.sha256()
  for path in sorted(pathlib.Path(folder).glob("*")):
    if path.is_file():
      total.update(path.name.encode() + path.read_bytes())
  return total.hexdigest()[:12]
