"""A finished run goes on with more steps as if it had not ended."""

import json

import jax
import numpy as np
import pytest
import xarray as xr

from maxrl_jax.runs import train_to_folder
from tests.support.extent import long
from tests.support.resumable_cases import final, small

_CONSTANT = {"optimizer.schedule": "constant", "optimizer.warmup": 5}


def _json(path):
  return json.loads(path.read_text())


# The first ends between two evaluations of the longer run.
@pytest.mark.parametrize(
  "before, changes",
  [
    (50, {}),
    long(40, {"runs": 2}),
    long(30, {"off_policy.name": "clipped", "off_policy.staleness": 3}),
  ],
)
def test_more_steps_end_at_the_same_bits(tmp_path, capsys, before, changes):
  config = small(steps=before, **_CONSTANT, **changes)
  short = train_to_folder.train(config, tmp_path / "longer")
  assert short["steps"] == before
  config.steps = 80
  train_to_folder.train(config, tmp_path / "longer")
  assert f"resuming from step {before} of 80" in capsys.readouterr().err
  train_to_folder.train(config, tmp_path / "whole")
  one, other = tmp_path / "longer", tmp_path / "whole"
  for name in ("config.json", "metrics.jsonl"):
    assert (one / name).read_bytes() == (other / name).read_bytes()
  assert _json(one / "config.json")["steps"] == 80
  a, b = (_json(w / "summary.json") | {"seconds": 0} for w in (one, other))
  assert a == b and a["steps"] == 80
  a, b = (xr.load_dataset(w / "runs.nc") for w in (one, other))
  assert json.loads(a.attrs["config"])["steps"] == 80
  assert a["eval_step"].values.tolist() == [20, 40, 60, 80]
  xr.testing.assert_identical(a.drop_vars("seconds"), b.drop_vars("seconds"))
  models = [p.relative_to(one) for p in one.glob("model*/*")]
  assert len(models) == config.runs
  for path in models:
    assert (one / path).read_bytes() == (other / path).read_bytes()
  a, b = (final(config, w) for w in (one, other))
  assert a.step == b.step == 80
  jax.tree.map(np.testing.assert_array_equal, a.states, b.states)
  # And once more, it is finished.
  assert train_to_folder.train(config, one)["steps"] == 80
  assert "is finished" in capsys.readouterr().err


def test_a_schedule_that_depends_on_steps_is_refused(tmp_path):
  config = small(**{"optimizer.schedule": "cosine"})
  first = train_to_folder.train(config, tmp_path)
  config.steps = 80
  message = (
    "steps = 80: .* has a run of 60 steps, and optimizer.schedule = 'cosine'"
    " depends on their number: only 'constant' can be extended; choose another"
    " folder, or train it again with --fresh"
  )
  with pytest.raises(ValueError, match=message):
    train_to_folder.train(config, tmp_path)
  config.steps = 60
  assert train_to_folder.train(config, tmp_path) == first


def test_fewer_steps_and_more_of_another_config_are_refused(tmp_path):
  config = small(**_CONSTANT)
  first = train_to_folder.train(config, tmp_path)
  config.steps = 40
  message = "steps = 40: .* a run of 60 steps, and only more steps can be added"
  with pytest.raises(ValueError, match=message):
    train_to_folder.train(config, tmp_path)
  config.steps = 60
  assert train_to_folder.train(config, tmp_path) == first
  other = small(**_CONSTANT, steps=80, rollouts=4)
  with pytest.raises(ValueError, match=r"another experiment: rollouts is .* 4"):
    train_to_folder.train(other, tmp_path)


class _Killed(Exception):
  pass


def test_an_extension_that_dies_is_resumed(tmp_path):
  """Its folder does not look finished in between."""
  config = small(steps=40, **_CONSTANT)
  train_to_folder.train(config, tmp_path)
  config.steps = 80

  def die(step, metrics):
    if step == 60:
      raise _Killed

  with pytest.raises(_Killed):
    train_to_folder.train(config, tmp_path, on_chunk=die)
  assert not (tmp_path / "summary.json").exists()
  assert not list(tmp_path.glob("runs.nc")) + list(tmp_path.glob("model*"))
  assert train_to_folder.train(config, tmp_path)["steps"] == 80
  assert final(config, tmp_path).step == 80


def test_fresh_leaves_no_data_set_of_the_run_before(trained):
  def die(step, metrics):
    raise _Killed

  other = small(rollouts=4)
  with pytest.raises(_Killed):
    train_to_folder.train(other, trained, fresh=True, on_chunk=die)
  assert not list(trained.glob("runs.nc")) + list(trained.glob("summary.*"))
