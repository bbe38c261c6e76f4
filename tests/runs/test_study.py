"""Studies: trained, cut, interrupted and resumed, and their data sets."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from maxrl_jax import evaluation
from maxrl_jax.config import overlay
from maxrl_jax.learning import training
from maxrl_jax.runs import cache, dataset, measure, programs, study
from maxrl_jax.runs.measure import Measure
from maxrl_jax.runs.slices import Slices
from tests.support.configs import make_config
from tests.support.sweep_cases import swept_bandit

_ORDERS = "estimator.order=1,2,6;optimizer.learning_rate=0.1,0.4"


def _study(text, seeds=(0, 1), config=None, what=None):
  return study.study(config or swept_bandit(), text, seeds, what)


@pytest.mark.parametrize(
  "text",
  [
    _ORDERS,
    "estimator.name+estimator.order+estimator.alpha+estimator.k="
    "maxrl+2+None+None,power+3+0.5+None,pass_at_k+None+None+4",
    "rollouts=4,6;estimator.name=grpo,maxrl",
    # Their metrics differ: those that a run lacks are NaN.
    "estimator.name=maxrl,exact_rl",
  ],
)
@pytest.mark.long
def test_a_run_of_a_study_is_the_run_alone(text, tmp_path):
  what = _study(text)
  data = study.run(what, tmp_path)
  for row, (point, seed) in enumerate(
    zip(data["point"].values, data["seed"].values, strict=True)
  ):
    config = overlay(swept_bandit(), what.points[point])
    trainer = training.make_train(config)
    evaluate = evaluation.make_evaluate(trainer, measure.KS)
    *_, (_, states, metrics) = training.chunks(trainer, config, [seed])
    for name, values in evaluate("test", states).items():
      assert float(data[f"test_{name}"][row]) == pytest.approx(
        values[0], rel=2e-4, abs=2e-6
      ), name
    norm = metrics["gradient_norm"][:, 0].mean()
    assert float(data["train_gradient_norm"][row, -1]) == pytest.approx(
      norm, rel=1e-3, abs=1e-6
    )


def _slices(what, folder):
  (program,) = what.plan()
  folder.mkdir(exist_ok=True)
  return Slices(program, what.measure, folder, None, None, True)


def _same(data, other, rtol=0.0, atol=0.0):
  for name in {*data.variables} - {"seconds"}:
    np.testing.assert_allclose(
      data[name].values, other[name].values, rtol, atol, err_msg=name
    )


@pytest.mark.long
def test_slices_fit_the_budget_and_change_nothing(tmp_path, monkeypatch):
  what = _study("estimator.order=1,2,3,4,5;optimizer.learning_rate=0.1,0.2,0.4")
  whole = study.run(what, tmp_path / "whole")
  _, need = _slices(what, tmp_path / "cut")._compiled(30)
  monkeypatch.setattr("maxrl_jax.runs.slices.free_memory", lambda _: need // 4)
  slices = _slices(what, tmp_path / "cut").cut(set(what.plan()[0].keys))
  sizes = {part.size for part in slices}
  assert len(sizes) == 1 and max(sizes) <= 8
  assert sorted(np.concatenate([s.rows for s in slices])) == [*range(30)]
  _same(study.run(what, tmp_path / "cut"), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_a_closed_slice_resumes_to_the_same_bits(tmp_path):
  what = _study(_ORDERS)
  whole = study.run(what, tmp_path / "whole")
  for done in (2, 4, 6):  # Steps; after the last one only tests are missing.
    folder = tmp_path / f"closed-{done}"
    keys = set(what.plan()[0].keys)
    steps = _slices(what, folder).train(keys)
    assert sum(next(steps) for _ in range(done // 2)) == 12 * done
    steps.close()
    assert cache.missing(folder, keys) == keys
    steps = _slices(what, folder).train(keys)
    assert next(steps) == 12 * done  # At once: these steps are done.
    assert sum(steps) == 12 * (6 - done)
    _same(study.load(what, folder), whole)
    assert not list(folder.glob("unfinished-*"))


def test_an_unfinished_slice_resumes_with_more_seeds(tmp_path):
  """Of a study of two seeds that is asked for three the next time."""
  what = _study(_ORDERS)
  keys = set(what.plan()[0].keys)
  steps = _slices(what, tmp_path).train(keys)
  next(steps)
  steps.close()
  more = _study(_ORDERS, seeds=(0, 1, 2))
  slices = _slices(more, tmp_path)
  parts = slices.cut(set(more.plan()[0].keys))
  assert [len(part.rows) for part in parts] == [12, 6]
  assert set(slices.program.keys[parts[0].rows]) == keys
  assert next(slices.train(set(slices.program.keys))) == 12 * 2


def test_a_budget_below_one_run_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr("maxrl_jax.runs.slices.free_memory", lambda _: 100)
  with pytest.raises(ValueError, match="memory_gib = None: 1 run of a slice"):
    study.run(_study("estimator.order=1,2"), tmp_path)


def _stamps(folder):
  return {p.name: p.stat().st_mtime_ns for p in folder.glob("*.npz")}


def test_runs_on_disk_are_shared_and_never_repeated(tmp_path):
  first = study.run(_study("estimator.order=1,3"), tmp_path)
  before = _stamps(tmp_path)
  study.run(_study("estimator.order=1,3"), tmp_path)
  assert _stamps(tmp_path) == before
  # More seeds, and another order: only these are trained.
  more = study.run(_study("estimator.order=3,5", seeds=(0, 1, 2)), tmp_path)
  after = _stamps(tmp_path)
  assert len(before) == 4 and len(after) == 8
  assert {name: after[name] for name in before} == before
  np.testing.assert_array_equal(
    more["test_pass@1"].values[:2], first["test_pass@1"].values[2:]
  )


def test_other_configs_seeds_and_measurements_are_other_runs():
  def keys(config=None, **options):
    (program,) = _study(None, config=config, **options).plan()
    return {*program.keys}

  base = keys()
  assert len(base) == 2
  for other in (
    keys(seeds=(2, 3)),
    keys(config=overlay(swept_bandit(), {"optimizer.learning_rate": 0.2})),
    keys(what=Measure(splits=("validation", "test"))),
    keys(what=Measure(probe=_mean_logit)),
    keys(what=Measure(probe=_mean_logit, options=(("scale", 2.0),))),
  ):
    assert not base & other
  # The number of runs beside it, devices and checkpoints change no result.
  assert base == keys(config=overlay(swept_bandit(), {"checkpoint.every": 2}))


def test_results_of_another_version_are_not_used(monkeypatch):
  before = {*_study(None).plan()[0].keys}
  version = programs.RESULTS_VERSION + 1
  monkeypatch.setattr(programs, "RESULTS_VERSION", version)
  assert not before & {*_study(None).plan()[0].keys}


def test_a_damaged_file_is_named(tmp_path):
  what = _study("estimator.order=1,3")
  study.run(what, tmp_path)
  path = min(tmp_path.glob("*.npz"))
  path.write_bytes(path.read_bytes()[:500])
  with pytest.raises(ValueError, match=rf"{path.name} is damaged"):
    study.run(what, tmp_path)


def test_a_diverging_run_leaves_the_others_alone(tmp_path):
  config = make_config(
    {
      "task.name": "teacher",
      "policy.name": "normal",
      "policy.policy_scale": 0.5,
      "policy.hidden": (),
      "likelihood.scale": 1.0,
      "task.eval_size": 20,
      "estimator.name": "mse",
      "optimizer.schedule": "constant",
      "steps": 6,
      "log_every": 2,
      "eval_every": 2,
      "batch_size": 4,
    }
  )
  what = _study("optimizer.learning_rate=0.01,1e30", (0,), config)
  data = study.run(what, tmp_path)
  assert data["diverged"].values.tolist() == [False, True]
  assert np.isfinite(data["test_mse"][0])


def _mean_logit(trainer, scale=1.0):
  def probe(params):
    logits = params["params"]["logits"]
    return {"mean": scale * jnp.mean(logits), "first": logits[0]}

  return probe


def test_probes_and_curves_are_measured_along_the_way(tmp_path):
  what = Measure(
    splits=("test",),
    ks=(1, 2),
    probe=_mean_logit,
    options=(("scale", 2.0),),
    at_start=True,
    every_step=True,
  )
  data = study.run(_study(None, what=what), tmp_path)
  assert data["step"].values.tolist() == [1, 2, 3, 4, 5, 6]
  assert data["eval_step"].values.tolist() == [0, 4, 6]
  assert data["train_loss"].shape == (2, 6)
  assert data["test_pass@2"].dims == ("run", "eval_step")
  assert data["validation_pass@1"].dims == ("run",)
  config = swept_bandit()
  trainer = training.make_train(config)
  start_keys, _ = trainer.keys(np.array([1], np.uint32))
  logits = [trainer.start(start_keys, {}).params["params"]["logits"][0]]
  losses = []
  for _, states, metrics in training.chunks(trainer, config, [1]):
    logits.append(np.asarray(states.params["params"]["logits"][0]))
    losses.append(metrics["loss"][:, 0])
  for row, step in enumerate((0, 2, 3)):
    expected = 2 * float(np.mean(logits[step]))
    assert float(data["probe_mean"][1, row]) == pytest.approx(expected, 1e-5)
    np.testing.assert_allclose(
      data["probe_first"][1, row], logits[step][0], 1e-4, 1e-6
    )
  np.testing.assert_allclose(
    data["train_loss"][1], np.concatenate(losses), rtol=1e-4, atol=1e-6
  )
  test = dataset.final(data, "test_pass@1")
  np.testing.assert_array_equal(test, data["test_pass@1"].values[:, -1])


def test_the_data_set_describes_itself(tmp_path):
  about = {"command": "python …"}
  text = "estimator.order=None,3;estimator.name=maxrl"
  data = study.run(_study(text), tmp_path / "runs", about=about)
  dataset.write(data, tmp_path)
  read = xr.load_dataset(tmp_path / "runs.nc", engine="h5netcdf")
  assert read["train_pass_rate"].dims == ("run", "step")
  assert read["validation_pass@1"].dims == ("run", "eval_step")
  assert read["eval_step"].values.tolist() == [4, 6]
  np.testing.assert_array_equal(read["test_pass@1"], data["test_pass@1"])
  np.testing.assert_array_equal(read["estimator_order"], [np.nan, np.nan, 3, 3])
  assert set(read["estimator_name"].values) == {"maxrl"}
  assert json.loads(read.attrs["config"])["rollouts"] == 6
  assert read.attrs["command"] == "python …"
  summary = tmp_path / "summary.csv"
  table = pd.read_csv(summary)
  assert len(table) == 4
  np.testing.assert_allclose(table["test_pass@1"], data["test_pass@1"])
  # Atomic: somebody may be reading it.
  with open(summary) as reader:
    dataset.write(data, tmp_path)
    assert reader.read() == summary.read_text()
    assert os.fstat(reader.fileno()).st_ino != summary.stat().st_ino
  assert not list(tmp_path.glob("*.part"))


def test_a_single_run_is_a_study_with_one_point(tmp_path):
  from maxrl_jax.runs import train_to_folder

  config = overlay(swept_bandit(), {"runs": 2})
  summary = train_to_folder.train(config, tmp_path / "run")
  alone = xr.load_dataset(tmp_path / "run" / "runs.nc", engine="h5netcdf")
  data = study.run(_study(None, config=swept_bandit()), tmp_path / "study")
  _same(alone, data)
  assert set(alone.variables) == set(data.variables)
  assert summary["test/pass@1"] == data["test_pass@1"].values.tolist()
  assert jax.tree.leaves(summary)


@pytest.mark.parametrize("option", ["workers", "slice_size"])
@pytest.mark.parametrize("count", [-1, 0, 1.5])
def test_counts_are_checked_before_anything_is_written(option, count, tmp_path):
  what = _study("estimator.order=1,2")
  with pytest.raises(ValueError, match=f"{option} = {count}: must be a whole"):
    study.run(what, tmp_path / "runs", **{option: count})
  assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("seeds", [["0"], [-1], [2**31], [0.5]])
def test_seeds_are_checked_first(seeds):
  with pytest.raises(ValueError, match="must be a list of whole"):
    _study("estimator.order=1,2", seeds)


def test_splits_are_checked_before_training(tmp_path):
  what = _study("estimator.order=1,2", what=Measure(splits=("valid",)))
  with pytest.raises(ValueError, match="split = 'valid': did you mean"):
    study.run(what, tmp_path / "runs")
  assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("ks", [(), (1.0, 4.0)])
def test_any_list_of_k_and_no_evaluations(ks, tmp_path):
  what = _study("estimator.order=1,2", (0,), what=Measure(splits=(), ks=ks))
  data = study.run(what, tmp_path)
  scores = {name for name in data if "pass@" in name}
  assert scores == {
    f"{s}_pass@{int(k)}" for s in ("validation", "test") for k in ks
  }
  dataset.write(data, tmp_path)
  table = pd.read_csv(tmp_path / "summary.csv")
  assert len(table) == 2 and "train_loss" in table
  if ks:
    np.testing.assert_allclose(table["test_pass@4"], data["test_pass@4"])
