"""Runs that are interrupted, refused, or meet numbers that cannot be."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from concurrent import futures

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest

from configs import bandit, default, digits
from experiments.runs import resumable, single_run, store
from experiments.shell import workdirs
from experiments.shell.interruptions import Interruptions, Stopped
from maxrl_jax import checkpoints, evaluation, guards, training
from maxrl_jax.resuming import Resumable
from maxrl_jax.tasks import TASKS


def _small(**changes):
  config = bandit.get_config()
  config.steps, config.log_every, config.eval_every = 60, 10, 20
  config.optimizer.name, config.task.num_prompts = "adam", 8
  config.update_from_flattened_dict(changes)
  return config


def _final(config, workdir):
  """What a run would go on from."""
  made = training.make_train(config)
  return Resumable(made, config, workdir / "checkpoints")


def _same_runs(config, one, other):
  assert (one / "metrics.jsonl").read_bytes() == (
    other / "metrics.jsonl"
  ).read_bytes()
  a, b = (_final(config, workdir) for workdir in (one, other))
  assert a.step == b.step == config.steps
  jax.tree.map(np.testing.assert_array_equal, a.states, b.states)
  a, b = (json.loads((w / "summary.json").read_text()) for w in (one, other))
  assert a | {"seconds": 0} == b | {"seconds": 0}


def _signalled(monkeypatch, number, at: int):
  """The process gets a signal while it evaluates for the `at`-th time."""
  count, make = 0, evaluation.make_evaluate

  def made(*arguments):
    evaluate = make(*arguments)

    def once(split, states):
      nonlocal count
      count += 1
      if count == at:
        os.kill(os.getpid(), number)
      return evaluate(split, states)

    return once

  monkeypatch.setattr(evaluation, "make_evaluate", made)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("runs", [1, 2])
def test_a_stopped_run_goes_on_to_the_same_bits(
  monkeypatch, tmp_path, capsys, number, runs
):
  config = _small(runs=runs)
  single_run.train(config, tmp_path / "whole")
  _signalled(monkeypatch, number, at=2)
  with pytest.raises(Stopped, match="stopped; the same command"):
    single_run.train(config, tmp_path / "stopped")
  assert "once more to stop at once" in capsys.readouterr().err
  assert not (tmp_path / "stopped" / "summary.json").exists()
  single_run.train(config, tmp_path / "stopped")
  assert "going on from step 40 of 60" in capsys.readouterr().err
  _same_runs(config, tmp_path / "whole", tmp_path / "stopped")


def test_lines_after_the_last_checkpoint_are_written_once(tmp_path):
  """A run killed between a line, torn at that, and the next checkpoint."""
  config = _small(**{"checkpoint.every": 20})
  single_run.train(config, tmp_path / "whole")
  single_run.train(config, tmp_path / "torn")
  folder = tmp_path / "torn"
  for place in (folder / "checkpoints").iterdir():
    if place.name == "60":
      place.rename(folder / "gone")
  (folder / "summary.json").unlink()
  with open(folder / "metrics.jsonl", "a") as file:
    file.write('{"step": 70, "pass_ra')
  single_run.train(config, folder)
  _same_runs(config, tmp_path / "whole", folder)


def test_after_the_last_step_only_the_summary_is_made(monkeypatch, tmp_path):
  config = _small()
  first = single_run.train(config, tmp_path)
  (tmp_path / "summary.json").unlink()
  never = training.make_train(config)._replace(advance=None)
  monkeypatch.setattr(training, "make_train", lambda _: never)
  again = single_run.train(config, tmp_path)
  assert again | {"seconds": 0} == first | {"seconds": 0}


def test_a_finished_run_is_not_trained_again(tmp_path, capsys):
  config = _small()
  first = single_run.train(config, tmp_path)
  assert single_run.train(config, tmp_path) == first
  assert "is finished" in capsys.readouterr().err
  (tmp_path / "mine.json").write_text("{}")
  fresh = single_run.train(config, tmp_path, fresh=True)
  assert fresh | {"seconds": 0} == first | {"seconds": 0}
  assert (tmp_path / "mine.json").exists()


def test_damage_is_told_and_the_run_ends_the_same(tmp_path, capsys):
  config = _small()
  for name in ("whole", "harmed"):
    single_run.train(config, tmp_path / name)
  (tmp_path / "harmed" / "summary.json").unlink()
  newest = tmp_path / "harmed" / "checkpoints" / "60"
  (newest / "_CHECKPOINT_METADATA").write_text("")
  with pytest.warns(UserWarning, match=f"{newest} is damaged"):
    single_run.train(config, tmp_path / "harmed")
  assert "going on from step 40" in capsys.readouterr().err
  _same_runs(config, tmp_path / "whole", tmp_path / "harmed")


def test_a_checkpoint_knows_where_it_comes_from(monkeypatch, tmp_path, capsys):
  config = _small()
  single_run.train(config, tmp_path)
  about = _final(config, tmp_path).about
  assert about["config"] == json.loads(config.to_json())
  environment = json.loads((tmp_path / "environment.json").read_text())
  assert about["environment"] == environment
  assert environment["versions"]["jax"] == jax.__version__
  other = environment | {"device": "abacus"}
  other["versions"] = environment["versions"] | {"jax": "99.0"}
  monkeypatch.setattr(workdirs, "environment", lambda: other)
  (tmp_path / "summary.json").unlink()
  single_run.train(config, tmp_path)
  told = capsys.readouterr().err
  assert f"jax was {jax.__version__} and is 99.0" in told
  assert "and is abacus: numbers may not be those" in told


def test_another_config_is_refused_and_nothing_lost(tmp_path):
  single_run.train(_small(), tmp_path)
  before = _times(tmp_path)
  other = _small(**{"estimator.order": 3, "steps": 80})
  message = (
    "holds another experiment: estimator.order is None there and 3 here;"
    " steps is 60 there and 80 here; choose another folder"
  )
  with pytest.raises(ValueError, match=message):
    single_run.train(other, tmp_path)
  assert _times(tmp_path) == before


def test_a_folder_that_another_loop_went_on_with_is_refused(tmp_path):
  config = _small()
  workdirs.claim(tmp_path / "config.json", json.loads(config.to_json()))
  chunks = _final(config, tmp_path).chunks(lambda step, states, metrics: {})
  for _ in chunks:
    break
  chunks.close()  # Saves what is done.
  with pytest.raises(ValueError, match=r"loop of your own.*--fresh"):
    single_run.train(config, tmp_path)
  assert single_run.train(config, tmp_path, fresh=True)["steps"] == 60


def _times(folder):
  files = [p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"]
  return {p: p.stat().st_mtime_ns for p in files}


def test_a_folder_with_other_things_is_refused(tmp_path):
  (tmp_path / "thesis.tex").write_text("…")
  with pytest.raises(ValueError, match=r"is not empty and has no config.json"):
    single_run.train(_small(), tmp_path)
  assert [p.name for p in tmp_path.iterdir() if p.name != ".lock"] == [
    "thesis.tex"
  ]


def test_what_a_killed_start_leaves_is_nothing(tmp_path):
  for name in (".writable", ".lock", "config.4711.part"):
    (tmp_path / name).write_text("{")
  assert not workdirs.claim(tmp_path / "config.json", {"steps": 3})
  assert workdirs.claim(tmp_path / "config.json", {"steps": 3})


def test_two_processes_do_not_share_a_folder(tmp_path):
  with (
    workdirs.locked(tmp_path),
    pytest.raises(ValueError, match="another process is at work there"),
    workdirs.locked(tmp_path),
  ):
    pass
  with workdirs.locked(tmp_path):  # Let go of again.
    pass


def test_a_killed_process_lets_go_of_its_folder(tmp_path):
  hold = (
    "import pathlib, sys, time; from experiments import workdirs\n"
    "with workdirs.locked(pathlib.Path(sys.argv[1])):\n"
    "  print('held', flush=True); time.sleep(600)"
  )
  holder = subprocess.Popen(
    [sys.executable, "-c", hold, tmp_path], stdout=subprocess.PIPE
  )
  assert holder.stdout.readline() == b"held\n"
  with (
    pytest.raises(ValueError, match="another process"),
    workdirs.locked(tmp_path),
  ):
    pass
  holder.kill()
  holder.communicate()
  with workdirs.locked(tmp_path):
    pass


def test_a_damaged_config_file_is_named(tmp_path):
  single_run.train(_small(), tmp_path)
  (tmp_path / "config.json").write_text('{"steps": 6')
  with pytest.raises(ValueError, match=r"config.json is damaged .* delete it"):
    single_run.train(_small(), tmp_path)


def test_a_second_signal_is_not_kept():
  before = signal.getsignal(signal.SIGINT)
  with Interruptions() as interruptions:
    os.kill(os.getpid(), signal.SIGINT)
    assert interruptions.asked_to_stop
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
  assert signal.getsignal(signal.SIGINT) == before


# Runs of figures


def _measured(folder, config, stop_at=None):
  """What `measured` gives of two runs, with a signal after so many steps."""
  made = training.make_train(config)

  def tick(step):
    if step == stop_at:
      os.kill(os.getpid(), signal.SIGTERM)

  def measure(step, states, metrics):
    return {"step": np.array(step), "loss": metrics["loss"]}

  varied = {training.RATE: [0.1, 0.3]}
  return resumable.measured(
    made, config, measure, folder, tick, seeds=[3, 4], varied=varied
  )


def test_runs_of_a_figure_go_on_where_they_were_stopped(tmp_path):
  config = _small()
  records, states = _measured(tmp_path / "whole", config)
  assert not (tmp_path / "whole").exists()  # Too short for checkpoints.
  for step in (10, 40):
    with pytest.raises(Stopped):
      _measured(tmp_path / "stopped", config, step)
    assert (tmp_path / "stopped" / "checkpoints" / str(step)).exists()
  found, ends = _measured(tmp_path / "stopped", config)
  assert [r["step"] for r in found] == [10, 20, 30, 40, 50, 60]
  jax.tree.map(np.testing.assert_array_equal, found, records)
  jax.tree.map(np.testing.assert_array_equal, ends, states)


def test_the_best_policy_is_given_back(tmp_path):
  config = _small(**{"optimizer.learning_rate": 0.01})
  run = Resumable(training.make_train(config), config, tmp_path / "run")
  with pytest.raises(ValueError, match="has no checkpoint"):
    run.best()
  scores = iter([0.2, 0.7, 0.3])

  def measure(step, states, metrics):
    if step % 20:
      return {}
    return {"validation/pass@1": np.array([next(scores)])}

  kept = {}
  for step in run.chunks(measure):
    kept[step] = jax.tree.map(np.array, run.states)
  assert run.step == 60
  jax.tree.map(np.testing.assert_array_equal, run.best(), kept[40])


def test_two_processes_do_not_train_the_same_run(tmp_path):
  """The second one waits, and takes what the first one has made."""
  count = []

  def compute(unfinished):
    count.append(unfinished.exists())
    time.sleep(0.5)
    return {"x": np.arange(3)}

  def one(_):
    return store.stored(tmp_path, "a run", _small(), compute)["x"]

  with futures.ThreadPoolExecutor(2) as pool:
    found = list(pool.map(one, range(2)))
  assert count == [True]
  np.testing.assert_array_equal(found, [[0, 1, 2]] * 2)
  assert [p.name for p in tmp_path.iterdir() if p.name != ".locks"] == [
    p.name for p in tmp_path.glob("a-run-*.npz")
  ]


_WORKER = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from experiments.runs import maze_runs
from experiments.shell.interruptions import until_stopped

def work(path):
  def each(_):
    if not os.path.exists(path):
      open(path, "w").write(f"at work {os.getpid()}")

  with maze_runs._AT_WORK:
    try:
      until_stopped((time.sleep(0.1) for _ in range(10**6)), each)
    finally:
      open(path, "w").write("saved")

if __name__ == "__main__":
  spawn = get_context("spawn")
  queue = spawn.Queue()
  queue.put(0)
  with ProcessPoolExecutor(
    1, mp_context=spawn, initializer=maze_runs._prepare, initargs=(queue,)
  ) as pool:
    pool.submit(work, sys.argv[1]).result()
"""


def test_a_worker_saves_and_ends_when_its_parent_is_killed(tmp_path):
  script, said = tmp_path / "parent.py", tmp_path / "said"
  script.write_text(_WORKER)
  parent = subprocess.Popen(
    [sys.executable, script, said],
    env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[1])},
  )
  _wait_for(lambda: said.exists() and said.read_text().startswith("at work "))
  worker = psutil.Process(int(said.read_text().split()[-1]))
  parent.kill()
  parent.wait()
  _wait_for(lambda: said.read_text() == "saved")
  worker.wait(timeout=30)


def _wait_for(condition, seconds: float = 60.0):
  end = time.time() + seconds
  while not condition():
    assert time.time() < end
    time.sleep(0.05)


# Numbers that cannot be


def _leaky(bad: float, at: int):
  """A bandit whose likelihoods are `bad` for one prompt of the 8."""
  task = TASKS["bandit"](num_prompts=8, num_arms=4, continuous=True)

  def likelihoods(target, actions):
    l = task.likelihoods(target[1], actions)
    return jnp.where(target[0] == at, bad, l)

  def marked(prompts):
    return prompts._replace(targets=(prompts.inputs, prompts.targets))

  return task.__class__(
    draw=lambda key, batch: marked(task.draw(key, batch)),
    splits={name: marked(p) for name, p in task.splits.items()},
    log_pass_rate=lambda target, policy: task.log_pass_rate(target[1], policy),
    likelihoods=likelihoods,
    policies=task.policies,
    policy_options=task.policy_options,
  )


def _own(task, config):
  """(made, states, metrics of all steps) of one run on a task of one's own."""
  made = training.make_train(config, task=task)
  rows = []
  check = config.on_nonfinite == "stop"
  for _, states, metrics in training.chunks(made, config, check=check):  # noqa: B007
    rows.append(metrics)
  found = {k: np.concatenate([r[k][:, 0] for r in rows]) for k in rows[0]}
  return made, states, found


def _leaky_config(**changes):
  config = _small(**{"batch_size": 2, "rollouts": 4})
  config.update_from_flattened_dict(changes)
  return config


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.5, -0.5])
def test_impossible_likelihoods_are_skipped_and_counted(bad):
  config = _leaky_config(on_nonfinite="skip")
  made, states, metrics = _own(_leaky(bad, at=3), config)
  key = jax.random.split(jax.random.key(0))[1]
  drawn = [
    made.task.draw(jax.random.split(jax.random.fold_in(key, step))[0], 2)
    for step in range(60)
  ]
  skipped = [bool((prompts.inputs == 3).any()) for prompts in drawn]
  assert 0 < sum(skipped) < 60
  np.testing.assert_array_equal(metrics["skipped"], skipped)
  assert int(states.step[0]) == 60
  for leaf in jax.tree.leaves((states.params, states.opt_state)):
    assert np.isfinite(leaf).all()
  # Adam's own count tells how many updates were made.
  assert int(states.opt_state[0].count[0]) == 60 - sum(skipped)
  with pytest.raises(FloatingPointError, match=r"likelihood_.*\[0, 1\]"):
    _own(_leaky(bad, at=3), _leaky_config())


def _first_with(made, at: int) -> tuple[int, int]:
  """Step, counted from 1, and place in its batch of a prompt's first draw."""
  key = jax.random.split(jax.random.key(0))[1]
  for step in range(60):
    draw_key = jax.random.split(jax.random.fold_in(key, step))[0]
    places = np.flatnonzero(made.task.draw(draw_key, 2).inputs == at)
    if places.size:
      return step + 1, places[0]
  raise AssertionError("never drawn")


@pytest.mark.parametrize(
  ("bad", "quantity"),
  [
    (np.nan, "likelihood_m"),
    (np.inf, "likelihood_max = inf"),
    (1.5, r"likelihood_max = 1\.5"),
    (-0.5, r"likelihood_min = -0\.5"),
  ],
)
def test_the_prompt_of_an_impossible_likelihood_is_named(bad, quantity):
  task, config = _leaky(bad, at=5), _leaky_config()
  step, place = _first_with(training.make_train(config, task=task), at=5)
  message = rf"step {step}, run 0: {quantity}.* \(prompt {place} of the batch\)"
  with pytest.raises(FloatingPointError, match=message):
    _own(task, config)


def _breaking(harm, at: int):
  """A bandit with `harm` added to the log pass rate of one prompt of the 8."""
  task = _leaky(0.0, at)

  def log_pass_rate(target, policy):
    log_p = task.log_pass_rate(target, policy)
    return log_p + jnp.where(target[0] == at, harm(log_p), 0.0)

  return dataclasses.replace(task, log_pass_rate=log_pass_rate)


def test_the_prompt_of_an_infinite_loss_is_named():
  config = _leaky_config(**{"estimator.name": "cross_entropy"})
  task = _breaking(lambda log_p: -jnp.inf, at=5)
  step, place = _first_with(training.make_train(config, task=task), at=5)
  message = rf"step {step}, run 0: loss = inf.*\(prompt {place} of the batch\)"
  with pytest.raises(FloatingPointError, match=message):
    _own(task, config)


def test_a_gradient_alone_that_is_no_number_is_named():
  """√(0·x) has the value 0 and no derivative."""
  config = _leaky_config(**{"estimator.name": "cross_entropy"})
  task = _breaking(lambda log_p: jnp.sqrt(0.0 * log_p), at=5)
  message = r"gradient_norm = nan, .*the loss of every prompt is\)"
  with pytest.raises(FloatingPointError, match=message):
    _own(task, config)


def test_what_is_skipped_has_not_diverged():
  metrics = {"loss": np.array([[np.nan, 1.0], [np.inf, np.nan], [2.0, 3.0]])}
  np.testing.assert_array_equal(guards.diverged(metrics), [True, True])
  metrics["skipped"] = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
  np.testing.assert_array_equal(guards.diverged(metrics), [False, True])


def test_where_nothing_is_wrong_nothing_is_skipped():
  plain = _own(None, _small())
  guarded = _own(None, _small(on_nonfinite="skip"))
  assert not guarded[2]["skipped"].any()
  jax.tree.map(
    np.testing.assert_array_equal, plain[1].params, guarded[1].params
  )


def test_a_stop_names_the_last_good_checkpoint(monkeypatch, tmp_path):
  config = digits.get_config()
  config.steps, config.log_every, config.eval_every = 40, 10, 10
  config.batch_size, config.rollouts, config.policy.hidden = 4, 4, (4,)
  config.optimizer.warmup, config.estimator.name = 0, "cross_entropy"
  made = training.make_train(config)
  advance, calls = made.advance, []

  def broken(states, keys):
    calls.append(1)
    if len(calls) == 3:
      states = states.replace(
        params=jax.tree.map(lambda x: x * jnp.nan, states.params)
      )
    return advance(states, keys)

  monkeypatch.setattr(
    training, "make_train", lambda _: made._replace(advance=broken)
  )
  folder = tmp_path / "checkpoints"
  message = f"step 21, run 0: .*; last good checkpoint: step 20 in {folder}"
  with pytest.raises(FloatingPointError, match=message):
    single_run.train(config, tmp_path)
  states = training.make_train(config).start
  assert checkpoints.restore(folder, _like(states))[0].step == 20


def _like(start):
  keys = jax.vmap(jax.random.key)(jnp.zeros(1, jnp.uint32))
  return jax.eval_shape(start, keys, {})


def test_spikes_are_skipped_by_hand():
  """Norms 2, …, 2, then 2.1, 9, 2 against twice the running mean."""
  config = default.get_config()
  config.optimizer.spike_factor = 2.0
  norms = [2.0] * 25 + [2.1, 9.0, 2.0]
  state = training.TrainState(
    jnp.int32(0), jnp.float32(0), (), {}, jnp.float32(0)
  )
  skipped = []
  for norm in norms:
    after = state.replace(step=state.step + 1, params=state.params + 1)
    state, metrics = guards.guarded(
      config, state, after, {"gradient_norm": jnp.float32(norm)}
    )
    skipped.append(float(metrics["skipped"]))
  assert skipped == [0.0] * 26 + [1.0, 0.0]
  assert (float(state.params), int(state.step)) == (27, 28)
  # Two norms have moved the mean of 2, and the spike has not.
  mean = 0.99 * (0.99 * 2 + 0.01 * 2.1) + 0.01 * 2
  np.testing.assert_allclose(state.typical_norm, mean, rtol=1e-6)


def test_skipped_updates_are_counted_in_the_log(tmp_path):
  config = _small(**{"optimizer.spike_factor": 1.0001})
  single_run.train(config, tmp_path)
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  counts = [json.loads(line)["skipped"] for line in lines]
  assert all(count == int(count) <= 10 for count in counts)
  assert sum(counts[:2]) == 0 < sum(counts)


def test_json_has_null_where_there_is_no_number():
  line = {"step": 3, "a": np.array([np.nan]), "b": np.array([1.0])}
  assert resumable.plain(line, 1) == {"step": 3, "a": None, "b": 1.0}
  line = {"a": np.array([np.inf, 2.0])}
  assert json.dumps(resumable.plain(line, 2)) == '{"a": [null, 2.0]}'
