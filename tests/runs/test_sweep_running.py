"""Slices of a sweep: run, cut, gone on with, and what is read back."""

import json
import math
import os

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from maxrl_jax import evaluation
from maxrl_jax.config import default
from maxrl_jax.learning import training
from maxrl_jax.runs import dataset, finished, programs, running
from tests.support.sweep_cases import plan, swept_bandit


def _sweep(text, folder, config=None, seeds=(0, 1), budget=2**31):
  points, planned = plan(text, seeds, config)
  sizes = []
  for program in planned:
    rows = finished.remaining(program, finished.load(folder))
    if len(rows):
      ready = running.prepare(program, rows, budget)
      sizes.append(ready.size)
      assert sum(running.run(ready, folder)) == len(rows) * 6
  return points, finished.load(folder), sizes


_GRIDS = [
  "estimator.order=1,2,6;optimizer.learning_rate=0.1,0.4",
  "estimator.name+estimator.order+estimator.alpha+estimator.k="
  "maxrl+2+None+None,power+3+0.5+None,pass_at_k+None+None+4",
  "rollouts=4,6;estimator.name=grpo,maxrl",
  # Their metrics differ: what one lacks is NaN.
  "estimator.name=maxrl,exact_rl",
]


@pytest.mark.parametrize("text", _GRIDS)
@pytest.mark.long
def test_a_run_of_a_slice_is_the_run_alone(text, tmp_path):
  points, found, _ = _sweep(text, tmp_path)
  for row, (index, seed) in enumerate(
    zip(found["point"], found["seed"], strict=True)
  ):
    config = programs.at(swept_bandit(), points[index])
    made = training.make_train(config)
    evaluate = evaluation.make_evaluate(made, running.KS)
    *_, (_, states, metrics) = training.chunks(made, config, [seed])
    for name, values in evaluate("test", states).items():
      assert found[f"test/{name}"][row] == pytest.approx(
        values[0], rel=2e-4, abs=2e-6
      ), name
    norm = metrics["gradient_norm"][:, 0].mean()
    assert found["train/gradient_norm"][row, -1] == pytest.approx(
      norm, rel=1e-3, abs=1e-6
    )


def test_slices_are_cut_to_the_budget_and_change_nothing(tmp_path):
  text = "estimator.order=1,2,3,4,5;optimizer.learning_rate=0.1,0.2,0.4"
  _, whole, (size,) = _sweep(text, tmp_path / "whole")
  assert size == 30
  _, (program,) = plan(text)
  made = training.make_train(program.config, varying=list(program.varied))
  _, need = running._compile(made, program, 30)
  _, cut, (small,) = _sweep(text, tmp_path / "cut", budget=need // 4)
  assert small <= 8
  assert len(list((tmp_path / "cut").glob("*.npz"))) == math.ceil(30 / small)
  assert set(whole) == set(cut)
  for name in set(whole) - {"seconds"}:
    np.testing.assert_allclose(
      cut[name], whole[name], rtol=1e-4, atol=1e-5, err_msg=name
    )


def _bits(found):
  return {k: v.tobytes() for k, v in found.items() if k != "seconds"}


def test_a_slice_goes_on_where_it_was_closed(tmp_path):
  text = "estimator.order=1,2,6;optimizer.learning_rate=0.1,0.4"
  _, whole, _ = _sweep(text, tmp_path / "whole")
  _, (program,) = plan(text)
  for done in (2, 4, 6):  # Steps; after the last one all but the tests.
    folder = tmp_path / f"closed-{done}"
    ready = running.prepare(program, np.arange(12), 2**31)
    steps = running.run(ready, folder)
    assert sum(next(steps) for _ in range(done // 2)) == 12 * done
    steps.close()
    assert not list(folder.glob("*.npz"))
    steps = running.run(ready, folder)
    assert next(steps) == 12 * done  # At once: they are done.
    assert sum(steps) == 12 * (6 - done)
    assert _bits(finished.load(folder)) == _bits(whole)
    assert not list(folder.glob("unfinished-*"))


def test_what_is_left_is_cut_as_before(tmp_path, monkeypatch):
  """7 runs cut to 3, 3 and 1: with the first done, 4 left are 3 and 1."""
  _, (program,) = plan("optimizer.learning_rate=lin(0.1,0.7,7)", seeds=(0,))
  monkeypatch.setattr(
    running, "_compile", lambda made, _, size: (made, 10 * size)
  )
  slices = running.prepare(program, np.arange(7), 34).slices
  assert [rows.tolist() for rows in slices] == [[0, 1, 2], [3, 4, 5], [6]]
  slices = running.prepare(program, np.array([1, 3, 4, 5, 6]), 34).slices
  assert [rows.tolist() for rows in slices] == [[1], [3, 4, 5], [6]]


def test_added_seeds_are_cut_by_themselves(monkeypatch):
  _, (program,) = plan("estimator.order=1,3", seeds=range(5))
  added = programs.with_seeds(program, range(2, 5))
  assert added.points.tolist() == [0, 0, 0, 1, 1, 1]
  assert added.seeds.tolist() == [2, 3, 4] * 2
  assert added.varied["estimator.order"].tolist() == [1, 1, 1, 3, 3, 3]
  monkeypatch.setattr(
    running, "_compile", lambda made, _, size: (made, 10 * size)
  )
  ready = running.prepare(added, np.arange(6), 1000)
  # No room for the runs that are done: it would only be filled up.
  assert ready.size == 6 and [len(rows) for rows in ready.slices] == [6]


def test_a_budget_for_less_than_one_run_is_refused(tmp_path):
  _, (program,) = plan("estimator.order=1,2")
  with pytest.raises(ValueError, match="memory budget: one run takes"):
    running.prepare(program, np.arange(4), 100)


def test_a_finished_run_is_never_repeated(tmp_path):
  text = "estimator.order=1,3"
  _, first, _ = _sweep(text, tmp_path, seeds=(0, 1))
  stamps = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
  _, again, sizes = _sweep(text, tmp_path, seeds=(0, 1))
  assert sizes == []
  _, more, _ = _sweep(text, tmp_path, seeds=(0, 1, 2))
  assert len(more["seed"]) == 6 and len(again["seed"]) == 4
  for name, stamp in stamps.items():
    assert (tmp_path / name).stat().st_mtime_ns == stamp
  old = np.isin(more["seed"], (0, 1))
  np.testing.assert_array_equal(more["test/pass@1"][old], first["test/pass@1"])


def test_a_damaged_slice_is_named(tmp_path):
  _sweep("estimator.order=1,3", tmp_path)
  (path,) = tmp_path.glob("*.npz")
  path.write_bytes(path.read_bytes()[:1000])
  with pytest.raises(ValueError, match=rf"{path.name} is damaged"):
    finished.load(tmp_path)


def test_a_run_counts_once(tmp_path):
  _, found, _ = _sweep("estimator.order=1,3", tmp_path)
  (path,) = tmp_path.glob("*.npz")
  (tmp_path / "slice-again.npz").write_bytes(path.read_bytes())
  assert finished.load(tmp_path)["seed"].tolist() == found["seed"].tolist()


def test_a_diverging_run_leaves_the_others_alone(tmp_path):
  config = default()
  config.update_from_flattened_dict(
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
  _, found, _ = _sweep(
    "optimizer.learning_rate=0.01,1e30", tmp_path, config, seeds=(0,)
  )
  assert found["diverged"].tolist() == [False, True]
  assert np.isfinite(found["test/mse"][0])


def test_the_file_describes_itself(tmp_path):
  text = "estimator.order=None,3;estimator.name=maxrl"
  points, found, _ = _sweep(text, tmp_path)
  about = {"config": swept_bandit().to_dict(), "command": "python …"}
  data = dataset.dataset(found, points, about)
  dataset.write(data, tmp_path)
  read = xr.load_dataset(tmp_path / "runs.nc", engine="h5netcdf")
  assert read["train_pass_rate"].dims == ("run", "step")
  assert read["validation_pass@1"].dims == ("run", "eval_step")
  assert read["eval_step"].values.tolist() == [4, 6]
  np.testing.assert_array_equal(read["test_pass@1"], found["test/pass@1"])
  np.testing.assert_array_equal(read["estimator_order"], [np.nan, np.nan, 3, 3])
  assert set(read["estimator_name"].values) == {"maxrl"}
  assert json.loads(read.attrs["config"])["rollouts"] == 6
  summary = tmp_path / "summary.csv"
  table = pd.read_csv(summary)
  assert len(table) == 4
  np.testing.assert_allclose(table["test_pass@1"], found["test/pass@1"])
  # Whole or as it was: somebody may be reading it.
  with open(summary) as reader:
    dataset.write(data, tmp_path)
    assert reader.read() == summary.read_text()
    assert os.fstat(reader.fileno()).st_ino != summary.stat().st_ino
  assert not list(tmp_path.glob("*.part"))
