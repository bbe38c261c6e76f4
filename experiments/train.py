"""Train one config, for instance

    python -m experiments.train --config=configs/bandit.py --workdir=runs/bandit

Writes config.json, environment.json, metrics.jsonl (one object a logged step),
checkpoints/ and summary.json; a transformer's parameters too, as model/ in
Hugging Face's format, which `--config.policy.checkpoint` takes. With several
runs, values are lists with one number a run, and there is a model-SEED/ for
each. The same command goes on where it was interrupted, to the same numbers.
`--config.FIELD=VALUE` changes a field; docs/config.md lists them.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from experiments.shell import console, output

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "What to train: a file from configs/."
)
flags.mark_flag_as_required("config")
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder for results; made if need be.", required=True
)
_FRESH = flags.DEFINE_bool("fresh", False, "Delete what the folder has first.")


def main(argv) -> None:
  console.no_arguments(argv)
  from experiments.runs import single_run
  from maxrl_jax.devices import processes

  workdir = pathlib.Path(_WORKDIR.value)
  found = single_run.train(_CONFIG.value, workdir, fresh=_FRESH.value)
  if processes.is_first():
    lines = [f"{name} {value}" for name, value in found.items()]
    text = "\n".join([*lines, str(workdir)])
    output.result(workdir, text, {"workdir": str(workdir)} | found)


if __name__ == "__main__":
  console.run(main, together=True)
