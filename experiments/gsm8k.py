"""Post-train a Qwen3 on GSM8K with MaxRL, in Tunix (extra `tunix`).

    python -m experiments.gsm8k --model=DIR --data=DIR --workdir=DIR

`--model` is a Hugging Face folder of a Qwen3 (config.json, *.safetensors,
tokenizer); `--data` has train.jsonl and test.jsonl of GSM8K. Nothing is
downloaded. Writes config.json, metrics.jsonl (one object a batch), Tunix's
checkpoints/, from which the same command goes on, and summary.json with pass@k
on test problems.
"""

import importlib
import json
import pathlib
import re
from collections.abc import Iterator

import numpy as np
from absl import flags

from experiments import console, workdirs
from experiments.results import write_json

_MODEL = flags.DEFINE_string("model", None, "Folder of a Qwen3.", required=True)
_DATA = flags.DEFINE_string("data", None, "Folder of GSM8K.", required=True)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder for results.", required=True
)
_ESTIMATOR = flags.DEFINE_string(
  "estimator", "maxrl", "Of ours; or grpo, rloo as Tunix has them."
)
_ORDER = flags.DEFINE_integer("order", None, "T; default rollouts - 1.", 1)
_STEPS = flags.DEFINE_integer("steps", 500, "Updates.", 1)
_PROMPTS = flags.DEFINE_integer("prompts", 32, "Problems a step.", 1)
_ROLLOUTS = flags.DEFINE_integer("rollouts", 16, "Answers a problem, N.", 2)
_MICRO = flags.DEFINE_integer(
  "micro_batch", 4, "Problems that are trained on at a time.", 1
)
_RATE = flags.DEFINE_float("learning_rate", 1e-6, "Of AdamW.", 0)
_ROOM = flags.DEFINE_integer("prompt_tokens", 256, "Room for a problem.", 1)
_LENGTH = flags.DEFINE_integer("answer_tokens", 768, "Longest answer.", 1)
_TENSOR = flags.DEFINE_integer(
  "tensor_parallel", 1, "Devices that share each layer; the rest share data.", 1
)
_TESTS = flags.DEFINE_integer("tests", 200, "Problems of the test.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Of problems and answers.", 0)

_ASK = (
  "{question}\n\nThink step by step, and write the final number alone after"
  " ####.\n"
)


def main(argv) -> None:
  console.no_arguments(argv)
  # Says which extra is missing.
  importlib.import_module("maxrl_jax.integrations.tunix")
  llm_cluster = importlib.import_module("experiments.llm_cluster")
  settings = {
    name: flags.FLAGS[name].value
    for name in (
      *("model", "data", "estimator", "order", "steps", "prompts", "rollouts"),
      *("micro_batch", "learning_rate", "prompt_tokens", "answer_tokens"),
      *("tensor_parallel", "tests", "seed"),
    )
  }
  if _PROMPTS.value % _MICRO.value:
    raise ValueError(
      f"micro_batch = {_MICRO.value}: must divide prompts = {_PROMPTS.value}"
    )
  train, test = (
    read(pathlib.Path(_DATA.value) / f"{split}.jsonl")
    for split in ("train", "test")
  )
  workdir = pathlib.Path(_WORKDIR.value).absolute()
  workdirs.make(workdir)
  with workdirs.locked(workdir):
    workdirs.claim(workdir / "config.json", settings)
    write_json(workdir / "environment.json", workdirs.environment())
    found = llm_cluster.post_train(
      settings,
      batches(train, _STEPS.value, _PROMPTS.value, _SEED.value),
      batches(test, 1, min(_TESTS.value, len(test)), _SEED.value),
      verify,
      workdir,
    )
    write_json(workdir / "summary.json", found)
  print(json.dumps(found))


def read(path: pathlib.Path) -> list[dict[str, str]]:
  """Problems of one split: prompt, and the right number as text.

  Raises:
    ValueError: naming the file and the line, where it is not GSM8K's.
  """
  try:
    lines = path.read_text(encoding="utf-8").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(
      f"data = '{path.parent}': cannot read {path.name} ({error}); it must have"
      " train.jsonl and test.jsonl of github.com/openai/grade-school-math"
    ) from None
  problems = []
  for number, line in enumerate(lines, 1):
    try:
      record = json.loads(line)
      prompt = _ASK.format(question=record["question"].strip())
      right = final_number(record["answer"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
      raise ValueError(f"{path}, line {number}: {error!r}") from None
    if right is None:
      raise ValueError(f"{path}, line {number}: no number after ####")
    problems.append({"prompts": prompt, "answer": right})
  if not problems:
    raise ValueError(f"{path} is empty")
  return problems


def final_number(text: str) -> str | None:
  """The number after the last ####, in one way of writing it; or None.

  Without thousands' commas, dollar signs and zeros that mean nothing: of
  "#### $1,200.0" it is "1200".
  """
  found = re.findall(r"####\s*\$?\s*(-?)\s*\$?([\d,]*\.?\d+)", text)
  if not found:
    return None
  sign, digits = found[-1]
  whole, _, part = digits.replace(",", "").partition(".")
  number = (whole.lstrip("0") or "0") + ("." + part).rstrip("0").rstrip(".")
  return number if number == "0" else sign + number


def verify(prompts, completions, answer, **_) -> list[float]:
  """1 where a completion's final number is the right one."""
  del prompts
  pairs = zip(completions, answer, strict=True)
  return [float(final_number(text) == str(right)) for text, right in pairs]


def batches(
  problems: list[dict[str, str]], steps: int, size: int, seed: int
) -> Iterator[dict[str, np.ndarray]]:
  """As many batches of different problems; each pass in an order of its own.

  Raises:
    ValueError: fewer problems than a batch takes.
  """
  if len(problems) < size:
    raise ValueError(
      f"prompts = {size}: the data set has {len(problems)} problems only"
    )
  per_pass = len(problems) // size
  for step in range(steps):
    turn, place = divmod(step, per_pass)
    order = np.random.default_rng([seed, turn]).permutation(len(problems))
    chosen = [problems[i] for i in order[place * size : (place + 1) * size]]
    yield {
      name: np.array([problem[name] for problem in chosen])
      for name in ("prompts", "answer")
    }


if __name__ == "__main__":
  console.run(main)
