"""Problems of GSM8K: reading, batches, and verification of answers."""

import json
import pathlib
import re
from collections.abc import Iterator

import numpy as np

_ASK = (
  "{question}\n\nThink step by step, and write the final number alone after"
  " ####.\n"
)


def read(path: pathlib.Path) -> list[dict[str, str]]:
  """Problems of one split: prompt, and the right number as text.

  Raises:
    ValueError: a file or a line not in GSM8K's format, naming it.
  """
  try:
    # str.splitlines would also split at U+2028 within a question.
    with open(path, encoding="utf-8") as file:
      lines = list(file)
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
  """The number after the last ####, normalized; None without one.

  Commas, dollar signs and superfluous zeros are removed: "#### $1,200.0" gives
  "1200". Fractions give None.
  """
  form = r"####\s*\$?\s*(-?)\s*\$?([\d,]*\.?\d+)(?![\d.,]*\s*/\s*\d)"
  matches = re.findall(form, text)
  if not matches:
    return None
  sign, digits = matches[-1]
  whole, _, part = digits.replace(",", "").partition(".")
  number = (whole.lstrip("0") or "0") + ("." + part).rstrip("0").rstrip(".")
  return number if number == "0" else sign + number


def verify(prompts, completions, answer, **_) -> list[float]:
  """1 if the final number of a completion is right, else 0."""
  del prompts
  pairs = zip(completions, answer, strict=True)
  return [float(final_number(text) == str(right)) for text, right in pairs]


def batches(
  problems: list[dict[str, str]], steps: int, size: int, seed: int
) -> Iterator[dict[str, np.ndarray]]:
  """Batches of distinct problems; every pass has another order.

  Raises:
    ValueError: fewer problems than a batch.
  """
  if len(problems) < size:
    raise ValueError(
      f"prompts = {size}: the data set has {len(problems)} problems only"
    )
  return _drawn(problems, steps, size, seed)


def _drawn(problems, steps: int, size: int, seed: int):
  per_pass = len(problems) // size
  for step in range(steps):
    turn, place = divmod(step, per_pass)
    order = np.random.default_rng([seed, turn]).permutation(len(problems))
    chosen = [problems[i] for i in order[place * size : (place + 1) * size]]
    yield {
      name: np.array([problem[name] for problem in chosen])
      for name in ("prompts", "answer")
    }
