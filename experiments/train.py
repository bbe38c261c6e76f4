"""Train one config, for instance

    python -m experiments.train --config=configs/bandit.py --workdir=runs/bandit

Writes config.json, environment.json, metrics.jsonl (one object per logged
step), checkpoints/, runs.nc, summary.csv, summary.json, and model/, the
parameters, which `--config.policy.checkpoint` takes (of a transformer in
Hugging Face's format).
With several runs, values are lists with one number per run, and there is a
model-SEED/ for each. After an interruption, run the same command again: it
resumes, and the results are bit-identical. `--config.FIELD=VALUE` changes a
field; docs/config.md lists them. With optimizer.schedule=constant, a larger
config.steps continues a finished folder.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from experiments.shell import console

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "What to train: a file with get_config()."
)
flags.mark_flag_as_required("config")
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder for results.", required=True
)
_FRESH = flags.DEFINE_bool("fresh", False, "Delete the folder's results first.")
_LOG = flags.DEFINE_list(
  "log",
  [],
  "Also write metrics to tensorboard, wandb, or both, comma-separated (extra"
  " log).",
)


def main() -> None:
  from maxrl_jax.devices import processes
  from maxrl_jax.runs import train_to_folder

  workdir = pathlib.Path(_WORKDIR.value)
  summary = train_to_folder.train(
    _CONFIG.value, workdir, fresh=_FRESH.value, log=_LOG.value
  )
  if processes.is_first():
    lines = [f"{name} {value}" for name, value in summary.items()]
    text = "\n".join([*lines, str(workdir)])
    console.result(workdir, text, {"workdir": str(workdir)} | summary)


if __name__ == "__main__":
  console.run(main, together=True)
