"""Grids, the programs they become, slices on disk and what is read back."""

import json
import math
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from configs import bandit, default
from maxrl_jax import evaluation, training
from maxrl_jax.sweeps import dataset, grid, programs, running

_ROOT = pathlib.Path(__file__).parents[1]


def _bandit(**fields):
  config = bandit.get_config()
  config.update_from_flattened_dict(
    {
      "steps": 6,
      "log_every": 2,
      "eval_every": 4,
      "batch_size": 5,
      "rollouts": 6,
      "task.num_prompts": 7,
      "task.num_arms": 4,
      "task.hardest": 0.05,
    }
    | fields
  )
  return config


# Grids


def test_a_grid_is_every_combination():
  axes = grid.parse(
    "estimator.order=1,4;optimizer.learning_rate=log(0.01,1,3)", _bandit()
  )
  found = grid.points(axes)
  assert [tuple(point.values()) for point in found] == [
    (order, rate) for order in (1, 4) for rate in (0.01, 0.1, 1.0)
  ]


def test_text_and_mapping_say_the_same():
  text = (
    "rollouts=range(4,12,4);batch_size+estimator.order=8+1,4+default;"
    "optimizer.warmup=lin(0,4,3);policy.hidden=(8,),(8,8);"
    "estimator.baseline=default,0.5,none;task.continuous=true,false"
  )
  mapping = {
    "rollouts": [4, 8, 12],
    ("batch_size", "estimator.order"): [(8, 1), (4, None)],
    "optimizer.warmup": [0, 2, 4],
    "policy.hidden": [(8,), (8, 8)],
    "estimator.baseline": [None, 0.5, "none"],
    "task.continuous": [True, False],
  }
  config = default.get_config()
  assert grid.parse(text, config) == grid.parse(mapping, config)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("estimator.ordre=1,2", "no field estimator.ordre; did you mean estimator"),
    ("estimater.order=1", "no field estimater.order"),
    ("estimator=1", "estimator is a block"),
    ("estimator.order=", "estimator.order has no values"),
    ("", "the grid is empty"),
    ("estimator.order", "is not field=values"),
    ("estimator.order=1,2,1", r"has the value \(1,\) twice"),
    ("estimator.order=1;estimator.order=2", "stands there twice"),
    ("estimator.order=1.5", "estimator.order = 1.5: must be of type int"),
    ("estimator.order=many", "estimator.order = many: must be of type int"),
    ("optimizer.learning_rate=log(1,2)", "write range"),
    ("seed=1,2", "seed cannot be swept: seeds are given beside"),
    ("steps=10,20", "steps cannot be swept: all runs"),
    ("batch_size+rollouts=1+2,3", "for 2 fields together"),
    ("batch_size+rollouts=range(8,16,8)", "for 2 fields together"),
    ("task.continuous=yes", "task.continuous = yes: must be of type bool"),
    ("estimator.order=inf", "estimator.order = inf: must be of type int"),
    ("estimator.order=range(1,9,0)", "write range"),
    ("estimator.order=range(1.5,4)", "a range is of whole numbers"),
    ({"estimator.order": 3}, "must be a list of values"),
  ],
)
def test_a_wrong_grid_is_one_clear_line(text, message):
  with pytest.raises(ValueError, match=message):
    grid.parse(text, default.get_config())


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("estimator.order=1,7", "grid point estimator.order=7: .*from 1 to 6"),
    ("estimator.order=5;rollouts=4,6", "rollouts=4: .*from 1 to 4"),
    ("estimator.name=maxrl,grop", "estimator.name=grop: .*choose from"),
    ("optimizer.learning_rate=0.1,-1", "learning_rate = -1.0: must be above"),
    ("likelihood.scale=1,2", r"likelihood\.scale = 1\.0: task 'bandit'"),
    ("estimator.name=power", "estimator.alpha is not set"),
    ("optimizer.schedule=constant,cosin", "schedule=cosin: .*choose from"),
    ("batch_size=default,8", "batch_size = None: must be at least 1"),
    ("optimizer.learning_rate=default", "learning_rate = None: must be a num"),
    (
      "optimizer.name+optimizer.momentum=sgd+0.5,adam+0.5",
      "momentum: means nothing to 'adam'",
    ),
    (
      "rollouts+estimator.name=4+exact_rl,6+exact_rl",
      "'exact_rl' draws none",
    ),
  ],
)
def test_a_point_that_cannot_train_is_refused(text, message):
  config = _bandit()
  with pytest.raises(ValueError, match=message):
    programs.plan(config, grid.points(grid.parse(text, config)), [0])


# Programs


def _plan(text, seeds=(0, 1), config=None):
  config = config or _bandit()
  points = grid.points(grid.parse(text, config))
  return points, programs.plan(config, points, seeds)


def test_what_keeps_shapes_is_one_program():
  points, (program,) = _plan(
    "estimator.order=1,2,4;optimizer.learning_rate=0.1,0.3;"
    "estimator.baseline=0.0,0.5"
  )
  assert len(points) == 12 and len(program.seeds) == 24
  assert set(program.varied) == {
    "estimator.order",
    "estimator.baseline",
    "optimizer.learning_rate",
  }


@pytest.mark.parametrize(
  ("text", "count"),
  [
    ("rollouts=4,6", 2),
    ("estimator.name=maxrl,grpo,rloo", 3),
    ("estimator.order=default,3", 2),
    ("estimator.baseline=none,centred,0.5,1.0", 3),
    ("rollouts=4,6;estimator.order=1,2;optimizer.learning_rate=0.1,0.2", 2),
    (
      "estimator.name+estimator.order+estimator.alpha+estimator.k="
      "maxrl+1+default+default,maxrl+5+default+default,power+3+0.5+default,"
      "pass_at_k+default+default+4",
      1,
    ),
  ],
)
def test_how_many_programs(text, count):
  points, planned = _plan(text)
  assert len(planned) == count
  runs = [
    (int(point), int(seed))
    for program in planned
    for point, seed in zip(program.points, program.seeds, strict=True)
  ]
  assert sorted(runs) == [(p, s) for p in range(len(points)) for s in (0, 1)]


def test_spaced_values_are_round_and_keep_their_ends():
  """But whole numbers stay whole, of however many digits."""
  axes = grid.parse(
    "rollouts=log(128,2048,5);optimizer.learning_rate=log(0.001234,0.9,3)",
    _bandit(),
  )
  assert [v for (v,) in axes[0].values] == [128, 256, 512, 1024, 2048]
  assert [v for (v,) in axes[1].values] == [0.001234, 0.0333, 0.9]


def test_a_learned_scale_starts_where_its_own_run_says():
  """The policy is built from it: it cannot be an array over runs."""
  config = default.get_config()
  config.task.name, config.policy.name = "bimodal", "grid"
  config.likelihood.learned, config.likelihood.smallest_scale = "global", 0.1
  config.likelihood.scale = 0.5
  points = grid.points(grid.parse("likelihood.scale=0.3,1.2", config))
  planned = programs.plan(config, points, [0])
  assert [p.config.likelihood.scale for p in planned] == [0.3, 1.2]
  with pytest.raises(ValueError, match=r"likelihood\.scale: cannot vary"):
    training.make_train(config, varying=["likelihood.scale"])


# Running


def _sweep(text, folder, config=None, seeds=(0, 1), budget=2**31):
  points, planned = _plan(text, seeds, config)
  sizes = []
  for program in planned:
    rows = running.remaining(program, running.load(folder))
    if len(rows):
      ready = running.prepare(program, rows, budget)
      sizes.append(ready.size)
      assert sum(running.run(ready, folder)) == len(rows) * 6
  return points, running.load(folder), sizes


_GRIDS = [
  "estimator.order=1,2,6;optimizer.learning_rate=0.1,0.4",
  "estimator.name+estimator.order+estimator.alpha+estimator.k="
  "maxrl+2+default+default,power+3+0.5+default,pass_at_k+default+default+4",
  "rollouts=4,6;estimator.name=grpo,maxrl",
  # Their metrics differ: what one lacks is NaN.
  "estimator.name=maxrl,exact_rl",
]


@pytest.mark.parametrize("text", _GRIDS)
def test_a_run_of_a_slice_is_the_run_alone(text, tmp_path):
  points, found, _ = _sweep(text, tmp_path)
  for row, (index, seed) in enumerate(
    zip(found["point"], found["seed"], strict=True)
  ):
    config = programs.at(_bandit(), points[index])
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
  _, (program,) = _plan(text)
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
  _, (program,) = _plan(text)
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
    assert _bits(running.load(folder)) == _bits(whole)
    assert not list(folder.glob("unfinished-*"))


def test_what_is_left_is_cut_as_before(tmp_path, monkeypatch):
  """7 runs cut to 3, 3 and 1: with the first done, 4 left are 3 and 1."""
  _, (program,) = _plan("optimizer.learning_rate=lin(0.1,0.7,7)", seeds=(0,))
  monkeypatch.setattr(
    running, "_compile", lambda made, _, size: (made, 10 * size)
  )
  slices = running.prepare(program, np.arange(7), 34).slices
  assert [rows.tolist() for rows in slices] == [[0, 1, 2], [3, 4, 5], [6]]
  slices = running.prepare(program, np.array([1, 3, 4, 5, 6]), 34).slices
  assert [rows.tolist() for rows in slices] == [[1], [3, 4, 5], [6]]


def test_a_budget_for_less_than_one_run_is_refused(tmp_path):
  _, (program,) = _plan("estimator.order=1,2")
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
    running.load(tmp_path)


def test_a_run_counts_once(tmp_path):
  _, found, _ = _sweep("estimator.order=1,3", tmp_path)
  (path,) = tmp_path.glob("*.npz")
  (tmp_path / "slice-again.npz").write_bytes(path.read_bytes())
  assert running.load(tmp_path)["seed"].tolist() == found["seed"].tolist()


def test_a_diverging_run_leaves_the_others_alone(tmp_path):
  config = default.get_config()
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
  text = "estimator.order=default,3;estimator.name=maxrl"
  points, found, _ = _sweep(text, tmp_path)
  about = {"config": _bandit().to_dict(), "command": "python …"}
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
  table = pd.read_csv(tmp_path / "summary.csv")
  assert len(table) == 4
  np.testing.assert_allclose(table["test_pass@1"], found["test/pass@1"])


# The command


def _command(workdir, *flags):
  config = [
    f"--config.{name}={value}"
    for name, value in {
      "steps": 40,
      "log_every": 10,
      "eval_every": 20,
      "task.num_prompts": 7,
      "task.num_arms": 4,
      "task.hardest": 0.05,
      "rollouts": 8,
    }.items()
  ]
  return [
    sys.executable,
    "-m",
    "experiments.sweep",
    f"--config={_ROOT / 'configs/bandit.py'}",
    f"--workdir={workdir}",
    *config,
    *flags,
  ]


def _run(workdir, *flags):
  return subprocess.run(
    _command(workdir, *flags),
    capture_output=True,
    text=True,
    cwd=_ROOT,
    check=False,
  )


def test_the_command_sweeps_reports_and_refuses_another_sweep(tmp_path):
  flags = ("--grid=estimator.order=1,4;optimizer.learning_rate=0.1,0.3",)
  done = _run(tmp_path / "w", *flags, "--seeds=4")
  assert done.returncode == 0, done.stderr
  assert "16 runs in 1 program:" in done.stderr
  assert "16 runs in 1 slice, about" in done.stderr
  page = (tmp_path / "w" / "report.html").read_text()
  for words in ("T = 1", "T = 4", "3 other seeds", "Holm", "--seeds=4"):
    assert words in page, words
  assert "http" not in page.replace("http-equiv", "")
  before = (tmp_path / "w" / "runs.nc").read_bytes()
  other = _run(tmp_path / "w", "--grid=estimator.order=1,2", "--seeds=4")
  assert other.returncode == 2
  assert other.stderr.splitlines()[-1].startswith("error: workdir")
  assert "holds another experiment: grid.estimator.order" in other.stderr
  assert (tmp_path / "w" / "runs.nc").read_bytes() == before
  again = _run(tmp_path / "w", *flags, "--seeds=4")
  assert "0 runs to do" in again.stderr


def test_a_killed_sweep_goes_on(tmp_path):
  flags = ("--grid=rollouts=4,8,16", "--seeds=2")
  flags += ("--config.steps=4000", "--config.log_every=100")
  flags += ("--config.eval_every=2000",)
  process = subprocess.Popen(
    _command(tmp_path, *flags),
    cwd=_ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  slices = tmp_path / "slices"
  for _ in range(1200):
    if list(slices.glob("slice-*.npz")):
      break
    time.sleep(0.05)
  process.send_signal(signal.SIGKILL)
  process.wait()
  kept = {p.name: p.stat().st_mtime_ns for p in slices.glob("slice-*.npz")}
  assert 1 <= len(kept) < 3
  done = _run(tmp_path, *flags)
  assert done.returncode == 0, done.stderr
  assert len(xr.load_dataset(tmp_path / "runs.nc")["run"]) == 6
  for name, stamp in kept.items():
    assert (slices / name).stat().st_mtime_ns == stamp
