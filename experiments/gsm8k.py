"""Post-train a Qwen3 on GSM8K with MaxRL, in Tunix (extra `tunix`).

    python -m experiments.gsm8k --model=DIR --data=DIR --workdir=DIR

Downloads nothing. Writes config.json, environment.json, metrics.jsonl (one line
per step), checkpoints/ and summary.json with pass@k on test problems. After an
interruption, run the same command again to resume.
"""

import importlib
import json
import pathlib

from absl import flags

from experiments.shell import console

_MODEL = flags.DEFINE_string(
  "model",
  None,
  "Hugging Face folder of a Qwen3: config.json, *.safetensors, a tokenizer.",
  required=True,
)
_DATA = flags.DEFINE_string(
  "data", None, "Folder with GSM8K's train.jsonl, test.jsonl.", required=True
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder for results.", required=True
)
_ESTIMATOR = flags.DEFINE_string(
  "estimator",
  "maxrl",
  "A name in estimators.ESTIMATORS; grpo and rloo are Tunix's.",
)
_ORDER = flags.DEFINE_integer("order", None, "T; default rollouts - 1.", 1)
_STEPS = flags.DEFINE_integer("steps", 500, "Updates.", 1)
_PROMPTS = flags.DEFINE_integer("prompts", 32, "Problems per step.", 1)
_ROLLOUTS = flags.DEFINE_integer("rollouts", 16, "N, answers per problem.", 2)
_MICRO = flags.DEFINE_integer(
  "micro_batch", 4, "Problems in memory at a time.", 1
)
_RATE = flags.DEFINE_float("learning_rate", 1e-6, "Of AdamW.", 0)
_ROOM = flags.DEFINE_integer("prompt_tokens", 256, "Longest problem.", 1)
_LENGTH = flags.DEFINE_integer("answer_tokens", 768, "Longest answer.", 1)
_TENSOR = flags.DEFINE_integer(
  "tensor_parallel", 1, "Devices that share each layer.", 1
)
_TESTS = flags.DEFINE_integer("tests", 200, "Problems of the test.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Of problems and answers.", 0)

# Flags that identify a run.
_SETTINGS = (
  *("model", "data", "estimator", "order", "steps", "prompts", "rollouts"),
  *("micro_batch", "learning_rate", "prompt_tokens", "answer_tokens"),
  *("tensor_parallel", "tests", "seed"),
)


def main() -> None:
  from experiments.llm.gsm8k_problems import batches, read, verify
  from maxrl_jax.runs import folders, progress
  from maxrl_jax.runs.files import write_json

  # Imported first: its error names the missing extra.
  importlib.import_module("maxrl_jax.integrations.tunix")
  cluster = importlib.import_module("experiments.llm.cluster")
  settings = {name: flags.FLAGS[name].value for name in _SETTINGS}
  _check_flags()
  # Raises at invalid options before any file is read.
  cluster.algorithm(_ESTIMATOR.value, _ROLLOUTS.value, _ORDER.value)
  train, test = (
    read(pathlib.Path(_DATA.value) / f"{split}.jsonl")
    for split in ("train", "test")
  )
  _check_model(pathlib.Path(_MODEL.value))
  training = batches(train, _STEPS.value, _PROMPTS.value, _SEED.value)
  tests = batches(test, 1, min(_TESTS.value, len(test)), _SEED.value)
  workdir = pathlib.Path(_WORKDIR.value).absolute()
  folders.make(workdir)
  with folders.locked(workdir, "config.json"):
    claimed = folders.claim(workdir / "config.json", settings)
    summary = workdir / "summary.json"
    if claimed and summary.exists():
      progress.info(f"{workdir} is finished")
      scores = json.loads(summary.read_text(encoding="utf-8"))
    else:
      write_json(workdir / "environment.json", folders.environment())
      scores = cluster.post_train(settings, training, tests, verify, workdir)
      write_json(summary, scores)
  text = "\n".join(f"{name} {value}" for name, value in scores.items())
  record = {"workdir": str(workdir)} | scores
  console.result(workdir, f"{text}\n{workdir}", record)


def _check_flags() -> None:
  """Raises ValueError at flags that contradict each other."""
  if _PROMPTS.value % _MICRO.value:
    raise ValueError(
      f"micro_batch = {_MICRO.value}: must divide prompts = {_PROMPTS.value}"
    )
  if _ORDER.value is not None and _ESTIMATOR.value in ("grpo", "rloo"):
    raise ValueError(
      f"order = {_ORDER.value}: has no effect on estimator ="
      f" {_ESTIMATOR.value!r}; leave it out"
    )


def _check_model(folder: pathlib.Path) -> None:
  """Raises ValueError if a file of the model is missing."""
  for pattern in ("config.json", "*.safetensors", "tokenizer*"):
    if not any(folder.glob(pattern)):
      raise ValueError(
        f"model = '{folder}': has no {pattern}; it must be a Hugging Face"
        " folder of a Qwen3"
      )


if __name__ == "__main__":
  console.run(main)
