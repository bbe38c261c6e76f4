"""Hugging Face Qwen2 checkpoints (safetensors) ↔ parameters of `Transformer`.

The published warm-up checkpoint of the MaxRL paper's mazes has this format, and
a folder that `save` writes loads as a `Qwen2ForCausalLM`.
"""

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError
from safetensors.flax import load_file, save_file

from maxrl_jax.policies.transformer import Transformer

# Fields of the policy → fields of config.json.
_FIELDS = {
  "vocab_size": "vocab_size",
  "num_layers": "num_hidden_layers",
  "hidden_size": "hidden_size",
  "intermediate_size": "intermediate_size",
  "num_heads": "num_attention_heads",
  "num_kv_heads": "num_key_value_heads",
  "max_positions": "max_position_embeddings",
  "epsilon": "rms_norm_eps",
}
_EMBEDDING = "model.embed_tokens.weight"
# Modules of a block, and whether they have a bias; the others are norms.
_DENSE = {
  "query": ("self_attn.q_proj", True),
  "key": ("self_attn.k_proj", True),
  "value": ("self_attn.v_proj", True),
  "output": ("self_attn.o_proj", False),
  "gate": ("mlp.gate_proj", False),
  "up": ("mlp.up_proj", False),
  "down": ("mlp.down_proj", False),
}
_NORMS = {
  "input_norm": "input_layernorm",
  "output_norm": "post_attention_layernorm",
}


def architecture(folder: str | pathlib.Path) -> dict[str, Any]:
  """Options of `Transformer` given by a checkpoint's config.json.

  Raises:
    ValueError: the checkpoint is missing or has another architecture.
  """
  path = pathlib.Path(folder) / "config.json"
  try:
    config = dict(json.loads(path.read_text(encoding="utf-8")))
  except (OSError, TypeError, ValueError) as error:
    raise ValueError(
      f"policy.checkpoint = '{folder}': cannot read {path} ({error}); it must"
      " be a folder with config.json and model.safetensors"
    ) from None
  for name, wanted in (
    ("model_type", "qwen2"),
    ("tie_word_embeddings", True),
    ("hidden_act", "silu"),
    ("use_sliding_window", False),
  ):
    # A missing field has this value by default.
    if config.get(name, wanted) != wanted:
      raise ValueError(
        f"policy.checkpoint = '{folder}': {name} = {config[name]!r} in its"
        f" config.json, must be {wanted!r}"
      )
  rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
  kind = rope.get("rope_type", rope.get("type", "default"))
  if kind != "default":
    raise ValueError(
      f"policy.checkpoint = '{folder}': rotary positions of type {kind!r} in"
      " its config.json, must be 'default'"
    )
  theta = rope.get("rope_theta", config.get("rope_theta"))
  try:
    options = {name: config[field] for name, field in _FIELDS.items()}
  except KeyError as error:
    model = pathlib.Path(folder) / "model"
    wrong = f"its config.json lacks {error}"
    if model.is_dir():
      wrong = f"is the folder of a run, whose model is in '{model}'"
    raise ValueError(f"policy.checkpoint = '{folder}': {wrong}") from None
  return options | {"rope_theta": 1e4 if theta is None else theta}


def _check_architecture(
  folder: str | pathlib.Path, policy: Transformer
) -> None:
  for name, value in architecture(folder).items():
    expected = getattr(policy, name)
    if expected != value and name != "max_positions":
      raise ValueError(
        f"policy.checkpoint = '{folder}': {name} = {value} in the checkpoint,"
        f" but {name} = {expected} in the policy"
      )


def load(folder: str | pathlib.Path, policy: Transformer) -> Any:
  """Loads the parameters of a policy from a checkpoint, in float32.

  Raises:
    ValueError: names a field in which policy and checkpoint differ, or a tensor
      that is missing, unexpected or of another shape.
  """
  _check_architecture(folder, policy)
  path = pathlib.Path(folder) / "model.safetensors"
  try:
    tensors = load_file(path)
  except (OSError, SafetensorError) as error:
    raise ValueError(
      f"policy.checkpoint = '{folder}': cannot read {path} ({error})"
    ) from None
  head = tensors.pop("lm_head.weight", None)  # Tied: the embedding again.
  names = _names(policy)
  different = sorted(set(names) ^ set(tensors))
  if different:
    verb = "lacks" if different[0] in names else "has an unexpected"
    raise ValueError(f"policy.checkpoint = '{folder}': {verb} {different[0]}")
  if head is not None and not jnp.array_equal(head, tensors[_EMBEDDING]):
    raise ValueError(
      f"policy.checkpoint = '{folder}': lm_head.weight is not the embedding"
    )
  example = jnp.zeros((1, 1), jnp.int32)
  wanted = jax.eval_shape(policy.init, jax.random.key(0), example)
  wanted = traverse_util.flatten_dict(wanted["params"])
  leaves = {}
  for name, key in names.items():
    value = tensors[name].astype(jnp.float32)
    leaves[key] = value.T if key[-1] == "kernel" else value
    if leaves[key].shape != wanted[key].shape:
      raise ValueError(
        f"policy.checkpoint = '{folder}': {name} has shape {value.shape},"
        " which does not match its config.json"
      )
  return {"params": traverse_util.unflatten_dict(leaves)}


def save(folder: str | pathlib.Path, policy: Transformer, params: Any) -> None:
  """Writes config.json and model.safetensors, which transformers loads."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  tensors = {}
  leaves = traverse_util.flatten_dict(params["params"])
  for name, key in _names(policy).items():
    value = leaves[key]
    value = np.asarray(value.T if key[-1] == "kernel" else value)
    tensors[name] = jnp.asarray(np.ascontiguousarray(value))
  save_file(tensors, folder / "model.safetensors", {"format": "pt"})
  config = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "attention_dropout": 0.0,
    "rope_theta": policy.rope_theta,
    "torch_dtype": "float32",
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": policy.eos,
  }
  config |= {field: getattr(policy, name) for name, field in _FIELDS.items()}
  text = json.dumps(config, indent=2) + "\n"
  (folder / "config.json").write_text(text, encoding="utf-8")


def _names(policy: Transformer) -> dict[str, tuple[str, ...]]:
  """Name of each tensor in the file → its key in the flattened parameters."""
  names: dict[str, tuple[str, ...]] = {
    _EMBEDDING: ("embedding", "embedding"),
    "model.norm.weight": ("norm", "scale"),
  }
  for layer in range(policy.num_layers):
    prefix, block = f"model.layers.{layer}.", f"blocks_{layer}"
    for name, (module, bias) in _DENSE.items():
      names[f"{prefix}{module}.weight"] = (block, name, "kernel")
      if bias:
        names[f"{prefix}{module}.bias"] = (block, name, "bias")
    for name, module in _NORMS.items():
      names[f"{prefix}{module}.weight"] = (block, name, "scale")
  return names
