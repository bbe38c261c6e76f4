"""The same answer on any mesh; what is split, and what is communicated."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from maxrl_jax.config import default
from maxrl_jax.devices import mesh
from maxrl_jax.policies import Transformer
from tests.support.mesh_cases import CASES
from tests.support.virtual_devices import rows

_CASES = "tests.support.mesh_cases"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.long
def test_parameters_after_50_steps_are_the_same(case):
  one, *others = rows(_CASES, case)
  assert one["sizes"] is None
  assert len(others) == len(CASES[case][1])
  for row in others:
    assert np.prod(list(row["sizes"].values())) > 1
    assert row["traces"] == 1
    np.testing.assert_allclose(
      row["params"], one["params"], rtol=1e-3, atol=1e-4, err_msg=row["mesh"]
    )
    np.testing.assert_allclose(row["loss"], one["loss"], rtol=1e-2, atol=1e-5)
    _check_split(row, one)
    # In a pool of waves, devices draw for the prompts of others.
    if case not in ("regression", "maze_supervised", "sequential"):
      _check_gathered(row, CASES[case][0]())
  # They did learn: 50 steps with a gradient.
  assert np.std(one["loss"]) > 0


@pytest.mark.long
def test_a_sweep_is_spread_over_all_devices(tmp_path):
  (one,) = rows(_CASES, "sweep", str(tmp_path / "one"), devices=1)
  (eight,) = rows(_CASES, "sweep", str(tmp_path / "eight"))
  assert (one["devices"], one["size"], one["mesh"]) == (1, 12, None)
  assert (eight["devices"], eight["size"]) == (8, 16)
  assert eight["mesh"]["runs"] == 8
  for name in ("pass@1", "gradient_norm", "few"):
    np.testing.assert_allclose(eight[name], one[name], rtol=1e-4, atol=1e-6)
  assert np.std(one["pass@1"]) > 0


@pytest.mark.long
def test_a_likelihood_that_is_no_number_is_named_on_any_mesh():
  one, eight = rows(_CASES, "impossible")
  assert "likelihood_max = nan" in one["error"]
  assert eight == one


def _check_split(row, one):
  """Heads, feed-forward weights, the vocabulary are parted, and so are runs."""
  runs, model = row["sizes"]["runs"], row["sizes"]["model"]
  parted = 0
  for name, shape in row["shards"].items():
    whole = np.prod(one["shards"][name])
    layer = name.split("/")[-2]
    share = runs * (model if layer in Transformer.split else 1)
    assert np.prod(shape) * share == whole, name
    parted += share > runs
  assert (parted > 0) == (model > 1)


def _check_gathered(row, config):
  """A group's likelihoods and words of random bits, never its rollouts."""
  size = config.batch_size * config.rollouts
  for shape in row["gathered"]:
    kind, inside = shape.rstrip("]").split("[")
    numbers = np.prod([int(n) for n in inside.split(",") if n])
    assert numbers <= (size if kind in ("f32", "pred") else size // 2), shape


def _config(**fields):
  config = default()
  config.update_from_flattened_dict(fields)
  return config


@pytest.mark.parametrize(
  ("fields", "devices", "sizes"),
  [
    ({}, 1, (1, 1, 1, 1)),
    ({"batch_size": 12}, 8, (1, 6, 1, 1)),
    ({"batch_size": 12, "runs": 4}, 8, (4, 2, 1, 1)),
    ({"batch_size": 12, "mesh.data": 2, "runs": 6}, 8, (3, 2, 1, 1)),
    ({"batch_size": 2, "mesh.rollouts": 4}, 8, (1, 2, 4, 1)),
    ({"mesh.runs": 1, "runs": 8, "batch_size": 7}, 8, (1, 7, 1, 1)),
  ],
)
def test_a_mesh_uses_what_is_there(fields, devices, sizes):
  assert mesh._sizes(_config(**fields), nn.Dense(1), devices) == sizes


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"mesh.data": 3}, "mesh.data = 3: must divide batch_size = 128"),
    ({"mesh.data": 0}, "mesh.data = 0: must divide"),
    ({"mesh.runs": 2}, "mesh.runs = 2: must divide runs = 1"),
    ({"mesh.rollouts": 5}, "mesh.rollouts = 5: must divide rollouts = 128"),
    ({"mesh.model": 2}, "mesh.model = 2: only the weights of 'transformer'"),
    ({"mesh.data": 16}, "16 devices are needed, and there are 8"),
    ({"mesh.data": 4, "mesh.rollouts": 4}, "16 devices are needed"),
  ],
)
def test_a_mesh_that_does_not_fit_is_one_clear_line(fields, message):
  with pytest.raises(ValueError, match=message):
    mesh._sizes(_config(**fields), nn.Dense(1), 8)


def test_a_mesh_without_work_for_every_process_is_refused(monkeypatch):
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  config = _config(**{"mesh.data": 1})
  with pytest.raises(ValueError, match=r"data = 1.* only 1 of 2 processes"):
    mesh.layout(config, nn.Dense(1))


def test_weights_that_do_not_divide_are_whole_everywhere():
  devices = AbstractMesh((1, 1, 1, 2), mesh.AXES)
  layout = mesh.Layout(devices, Transformer.split)
  for vocabulary, spec in (
    (32, P("runs", "model", None)),
    (31, P("runs", None, None)),
  ):
    embedding = jax.ShapeDtypeStruct((1, vocabulary, 8), np.float32)
    states = layout.of_states({"embedding": {"embedding": embedding}})
    assert states["embedding"]["embedding"].spec == spec


def test_heads_are_shared_by_as_many_devices_as_divide_them():
  policy = Transformer(vocab_size=8, max_length=4, eos=1, num_kv_heads=2)
  assert mesh._sizes(_config(**{"mesh.model": 2}), policy, 8) == (1, 4, 1, 2)
  with pytest.raises(ValueError, match=r"must divide policy\.num_kv_heads = 2"):
    mesh._sizes(_config(**{"mesh.model": 4}), policy, 8)
