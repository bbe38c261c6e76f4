"""Train one config: `python -m experiments.train --config=… --workdir=…`.

Writes config.json, metrics.jsonl (one object a logged step) and summary.json;
a transformer's parameters too, as model/ in Hugging Face's format, which
`--config.policy.checkpoint` takes. With several runs, values are lists with one
number a run, and there is a model-SEED/ for each.
"""

import json
import pathlib
import sys
import time

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags
from tqdm import tqdm

from experiments import console
from maxrl_jax import evaluation, training
from maxrl_jax.integrations import qwen2
from maxrl_jax.policies import Transformer

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "What to train: a file from configs/."
)
flags.mark_flag_as_required("config")
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder for results; made if need be.", required=True
)
_KS = (1, 4, 16, 64, 128, 256, 1024)


def main(argv) -> None:
  console.no_arguments(argv)
  summary = train(_CONFIG.value, pathlib.Path(_WORKDIR.value))
  print(json.dumps(summary))


def train(config, workdir: pathlib.Path) -> dict:
  """Trains, writing as it goes; returns what summary.json holds."""
  made = training.make_train(config)
  console.make_workdir(workdir)
  (workdir / "summary.json").unlink(missing_ok=True)  # Of an earlier run.
  (workdir / "config.json").write_text(config.to_json(indent=2) + "\n")
  evaluate = evaluation.make_evaluate(made, _KS, config.eval_rollouts)
  start = time.time()
  best_known = {}
  with (
    open(workdir / "metrics.jsonl", "w") as log,
    tqdm(total=config.steps, unit="step", file=sys.stderr) as bar,
  ):
    for step, states, metrics in training.chunks(made, config):
      line = {"step": step} | {k: v.mean(0) for k, v in metrics.items()}
      if step % config.eval_every == 0 or step == config.steps:
        best_known = evaluate("validation", states)
        line |= {f"validation/{k}": v for k, v in best_known.items()}
      log.write(json.dumps(_plain(line, config.runs)) + "\n")
      log.flush()
      if best_known:
        bar.set_postfix({"pass@1": f"{best_known['pass@1'].mean():.3f}"})
      bar.update(config.log_every)
  if isinstance(made.policy, Transformer):
    _save_models(workdir, made.policy, states.params, config)
  test = evaluate("test", states)
  summary = {"steps": config.steps, "seconds": round(time.time() - start, 1)}
  if made.task.is_regression:  # What to add to log l for a log density.
    summary["log_ceiling"] = made.task.likelihood.log_ceiling
  summary |= {f"test/{k}": v for k, v in test.items()}
  summary = _plain(summary, config.runs)
  (workdir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
  return summary


def _save_models(workdir: pathlib.Path, policy, params, config) -> None:
  """Writes model/ or, with several runs, model-SEED/ for each."""
  leaves, tree = jax.tree.flatten(params)
  for run in range(config.runs):
    name = "model" if config.runs == 1 else f"model-{config.seed + run}"
    own = tree.unflatten(leaf[run] for leaf in leaves)
    qwen2.save(workdir / name, policy, own)


def _plain(line: dict, runs: int) -> dict:
  """Arrays over runs → lists, or numbers when there is one run."""

  def plain(value):
    if isinstance(value, np.ndarray):
      values = [float(x) for x in value]
      return values if runs > 1 else values[0]
    return value

  return {name: plain(value) for name, value in line.items()}


if __name__ == "__main__":
  console.run(main)
