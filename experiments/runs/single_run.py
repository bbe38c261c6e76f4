"""One config, trained into a folder of its own."""

import contextlib
import json
import pathlib
import shutil
import zlib

import jax

from experiments.runs import resumable
from experiments.shell import output, workdirs
from maxrl_jax import evaluation
from maxrl_jax.devices import processes
from maxrl_jax.learning import training
from maxrl_jax.policies import Transformer, qwen2
from maxrl_jax.runs.files import write_json

_KS = (1, 4, 16, 64, 128, 256, 1024)


def train(config, workdir: pathlib.Path, *, fresh: bool = False) -> dict:
  """Trains, or goes on training; returns what summary.json holds."""
  made = training.make_train(config)
  if not processes.all_same(zlib.crc32(config.to_json().encode())):
    raise ValueError("processes were started with different configs")
  first = processes.is_first()
  with contextlib.ExitStack() as stack:
    summary = workdir / "summary.json"
    environment = workdirs.environment()
    if first:
      workdirs.make(workdir)
      stack.enter_context(workdirs.locked(workdir))
      finished = _opened(config, workdir, fresh) and summary.exists()
      if not finished:
        write_json(workdir / "environment.json", environment)
    if processes.any_of(first and finished):
      output.say(f"{workdir} is finished; --fresh trains it anew")
      return json.loads(summary.read_text()) if first else {}
    evaluate = evaluation.make_evaluate(made, _KS, config.eval_rollouts)
    states, seconds = resumable.advance(
      made, config, evaluate, workdir, environment
    )
    found = {"steps": config.steps, "seconds": round(seconds, 1)}
    if made.task.likelihood is not None:
      # What to add to log l for a log density.
      found["log_ceiling"] = made.task.likelihood.log_ceiling
    tested = evaluate("test", states)
    found |= {f"test/{name}": values for name, values in tested.items()}
    found = resumable.plain(found, config.runs)
    if isinstance(made.policy, Transformer):
      params = processes.whole(states.params)
      if first:
        _save_models(workdir, made.policy, params, config)
    if first:
      write_json(summary, found)
    processes.wait("written")
  return found


def _opened(config, workdir: pathlib.Path, fresh: bool) -> bool:
  """Makes the folder this config's; whether it was already."""
  fields = json.loads(config.to_json())
  if fresh:
    _clear(workdir, fields)
  return workdirs.claim(
    workdir / "config.json", fields, ", or train this one anew with --fresh"
  )


def _clear(workdir: pathlib.Path, fields: dict) -> None:
  """Makes a folder of `train` one of this config; other files stay."""
  if not (workdir / "config.json").exists():
    return
  for name in ("environment.json", "summary.json", "metrics.jsonl"):
    (workdir / name).unlink(missing_ok=True)
  for pattern in ("checkpoints", "model", "model-*"):
    for path in workdir.glob(pattern):
      shutil.rmtree(path)
  write_json(workdir / "config.json", fields)


def _save_models(workdir: pathlib.Path, policy, params, config) -> None:
  """Writes model/ or, with several runs, model-SEED/ for each."""
  for run in range(config.runs):
    name = "model" if config.runs == 1 else f"model-{config.seed + run}"
    own = jax.tree.map(lambda leaf, run=run: leaf[run], params)
    qwen2.save(workdir / name, policy, own)
