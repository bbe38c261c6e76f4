"""Hugging Face checkpoints, loaded by JAX and by transformers."""

import copy
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors

from maxrl_jax.policies import Transformer, qwen2
from tests.support.qwen2_checkpoints import make_params, make_policy, save_small

PAPER = {
  "vocab_size": 32,
  "hidden_size": 256,
  "intermediate_size": 1024,
  "num_layers": 4,
  "num_heads": 4,
  "num_kv_heads": 2,
  "max_positions": 512,
}
FILE = "model.safetensors"
EMBEDDING = "model.embed_tokens.weight"
NORM = "model.norm.weight"
QUERY = "model.layers.0.self_attn.q_proj.weight"
KEY_BIAS = "model.layers.0.self_attn.k_proj.bias"


def _text(rows, length, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(32, size=(rows, length))


def _logits(policy, params, text):
  """Logits after the last token of a prompt."""
  return jax.jit(policy.apply)(params, jnp.asarray(text, jnp.int32)).logits


@pytest.fixture(scope="module")
def torch_model():
  """The paper's model in PyTorch, with perturbed parameters."""
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  config = transformers.Qwen2Config(
    vocab_size=32,
    hidden_size=256,
    intermediate_size=1024,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
    tie_word_embeddings=True,
  )
  torch.manual_seed(0)
  model = transformers.Qwen2ForCausalLM(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter += 0.05 * torch.randn_like(parameter)
  return model


def _torch_logits(model, text):
  torch = pytest.importorskip("torch")
  with torch.no_grad():
    return model(torch.from_numpy(text)).logits.float().numpy()


def test_torch_checkpoint_has_the_same_logits_in_jax(torch_model, tmp_path):
  torch_model.save_pretrained(tmp_path)
  options = qwen2.architecture(tmp_path)
  assert options == PAPER | {"rope_theta": 1e6, "epsilon": 1e-6}
  policy = make_policy(**options)
  params = qwen2.load(tmp_path, policy)
  text = _text(3, 200)
  expected = _torch_logits(torch_model, text)
  assert expected.std() > 0.5
  np.testing.assert_allclose(
    _logits(policy, params, text), expected[:, -1], atol=1e-4
  )


def test_jax_checkpoint_has_the_same_logits_in_torch(tmp_path):
  transformers = pytest.importorskip("transformers")
  pytest.importorskip("torch")
  policy = make_policy(**PAPER)
  params = make_params(policy, 1)
  qwen2.save(tmp_path, policy, params)
  model, loading_info = transformers.Qwen2ForCausalLM.from_pretrained(
    tmp_path, output_loading_info=True
  )
  assert not any(loading_info.values()), loading_info
  text = _text(3, 200, 1)
  expected = _torch_logits(model.eval(), text)[:, -1]
  assert expected.std() > 0.1
  np.testing.assert_allclose(_logits(policy, params, text), expected, atol=1e-4)


def test_bfloat16_checkpoint_loads(torch_model, tmp_path):
  torch = pytest.importorskip("torch")
  copy.deepcopy(torch_model).to(torch.bfloat16).save_pretrained(tmp_path)
  with open(tmp_path / FILE, "rb") as file:
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
  assert header[NORM]["dtype"] == "BF16"
  policy = make_policy(**qwen2.architecture(tmp_path))
  params = qwen2.load(tmp_path, policy)
  assert {x.dtype.name for x in jax.tree.leaves(params)} == {"float32"}
  text = _text(2, 50)
  reloaded = type(torch_model).from_pretrained(tmp_path, dtype=torch.float32)
  expected = _torch_logits(reloaded.eval(), text)[:, -1]
  np.testing.assert_allclose(_logits(policy, params, text), expected, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"num_layers": 3, "num_kv_heads": 1}])
def test_save_and_load_are_bit_exact(tmp_path, options):
  policy, params = save_small(
    tmp_path / "a" / "b", rope_theta=123.0, epsilon=1e-5, **options
  )
  loaded = qwen2.load(tmp_path / "a" / "b", policy)
  jax.tree.map(np.testing.assert_array_equal, params, loaded)
  fields = qwen2.architecture(str(tmp_path / "a" / "b"))
  assert Transformer(max_length=4, eos=2, **fields) == policy


def test_a_head_equal_to_the_embedding_is_accepted(tmp_path):
  policy, params = save_small(tmp_path)
  _change_tensors(tmp_path, lambda t: t | {"lm_head.weight": t[EMBEDDING]})
  loaded = qwen2.load(tmp_path, policy)
  jax.tree.map(np.testing.assert_array_equal, params, loaded)


# Errors


def _change_tensors(folder, change):
  tensors = safetensors.load_file(folder / FILE)
  safetensors.save_file(change(tensors), folder / FILE, {"format": "pt"})


def _change_config(folder, **fields):
  path = folder / "config.json"
  config = json.loads(path.read_text()) | fields
  config = {name: value for name, value in config.items() if value is not ...}
  path.write_text(json.dumps(config))


def _without(tensors, *names):
  return {name: t for name, t in tensors.items() if name not in names}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda t: _without(t, NORM), f"lacks {NORM}"),
    (lambda t: _without(t, KEY_BIAS), f"lacks {KEY_BIAS}"),
    (lambda t: t | {"model.more": t[NORM]}, "has an unexpected model.more"),
    (
      lambda t: t | {"model.layers.1.input_layernorm.weight": t[NORM]},
      "has an unexpected model.layers.1.input_layernorm.weight",
    ),
    (lambda t: t | {NORM: t[NORM][1:]}, rf"{NORM} has shape \(15,\)"),
    (lambda t: t | {QUERY: t[QUERY][:8]}, rf"{QUERY} has shape \(8, 16\)"),
    (
      lambda t: t | {EMBEDDING: np.zeros((64, 16), np.float32)},
      rf"{EMBEDDING} has shape \(64, 16\)",
    ),
    (
      lambda t: t | {"lm_head.weight": t[EMBEDDING] + 1},
      "lm_head.weight is not the embedding",
    ),
  ],
)
def test_error_names_a_wrong_tensor(tmp_path, change, message):
  policy, _ = save_small(tmp_path)
  _change_tensors(tmp_path, change)
  with pytest.raises(ValueError, match=f"policy.checkpoint = '.*': {message}"):
    qwen2.load(tmp_path, policy)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"model_type": "llama"}, "model_type = 'llama' .* must be 'qwen2'"),
    ({"tie_word_embeddings": False}, "tie_word_embeddings = False .* True"),
    ({"hidden_act": "gelu"}, "hidden_act = 'gelu' .* must be 'silu'"),
    ({"use_sliding_window": True}, "use_sliding_window = True .* False"),
    ({"num_hidden_layers": ...}, "lacks 'num_hidden_layers'"),
    ({"rope_scaling": {"type": "yarn"}}, "positions of type 'yarn'"),
    (
      {"rope_parameters": {"rope_type": "linear"}},
      "positions of type 'linear'",
    ),
    (
      {"num_hidden_layers": 2},
      "num_layers = 2 in the checkpoint, but num_layers = 1",
    ),
  ],
)
def test_error_names_a_wrong_config_field(tmp_path, fields, message):
  policy, _ = save_small(tmp_path)
  _change_config(tmp_path, **fields)
  with pytest.raises(
    ValueError, match=f"policy.checkpoint = '.*': .*{message}"
  ):
    qwen2.load(tmp_path, policy)


@pytest.mark.parametrize("text", ["{", "[1]", "3"])
def test_an_unreadable_config_raises(tmp_path, text):
  policy, _ = save_small(tmp_path)
  (tmp_path / "config.json").write_text(text)
  with pytest.raises(ValueError, match=r"cannot read .*config.json"):
    qwen2.load(tmp_path, policy)


@pytest.mark.parametrize("length", [None, 0, 5, 300, -4])
def test_a_damaged_file_raises(tmp_path, length):
  policy, _ = save_small(tmp_path)
  content = (tmp_path / FILE).read_bytes()
  (tmp_path / FILE).unlink()
  if length is not None:
    (tmp_path / FILE).write_bytes(content[:length])
  with pytest.raises(ValueError, match=rf"cannot read .*{FILE}"):
    qwen2.load(tmp_path, policy)
