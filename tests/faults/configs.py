"""Random and hostile configs either run or fail with the field's name.

    python -m tests.faults.configs --count=500

A config file is taken and one to four of its fields are set to values of their
type that are at the edge of what can be meant, or beyond it. What passes the
checks is traced, and a tenth of it trained for a step.
"""

import argparse
import collections
import functools
import importlib
import re

import jax
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maxrl_jax.config import flatten
from maxrl_jax.learning import training

FILES = ("bandit", "bimodal", "gaussian_teacher", "digits", "family")
_INTEGERS = (-(2**31), -1, 0, 1, 2, 3, 5, 17, 200)
_FLOATS = (-1.0, 0.0, 1e-30, 0.3, 0.5, 1.0, 2.0, 1e30)
_FLOATS += (float("nan"), float("inf"), -float("inf"))
_TUPLES = ((), (0,), (3,), (-1,), (2.5,), (1.0, 0.5), (float("nan"),), ("a",))
_NAMES = (
  *("", "nope", "maxrl", "grpo", "rloo", "pass_at_k", "power", "series"),
  *("tail_rl", "reinforce", "cross_entropy", "exact_maxrl", "mse", "vimco"),
  *("adam", "adamw", "sgd", "cosine", "constant", "skip", "stop", "reward"),
  *("gaussian", "laplace", "student_t", "tolerance", "exact_match", "global"),
  *("grid", "normal", "mixture", "digits", "mlp", "cnn", "tabular", "none"),
  *("bandit", "teacher", "bimodal", "heteroscedastic", "bag_of_words", "input"),
  *("in_context", "diabetes", "gaussian_teacher", "linear", "float32", "loo"),
)
_VALUES = {int: _INTEGERS, float: _FLOATS, str: _NAMES, tuple: _TUPLES}


@functools.cache
def fields(file: str) -> dict[str, type]:
  """Every field of a config with its type."""
  config = importlib.import_module(f"configs.{file}").get_config()
  types = {}
  for name in flatten(config.to_dict()):
    *path, last = name.split(".")
    block = config
    for part in path:
      block = block[part]
    types[name] = block.get_type(last)
  return types


@st.composite
def hostile(draw):
  """(file, {field: value}) of a random config."""
  file, changes = draw(st.sampled_from(FILES)), {}
  types = fields(file)
  config = importlib.import_module(f"configs.{file}").get_config()
  flat = flatten(config.to_dict())
  # Half of them fields that the file sets: others are mostly of other tasks.
  own = sorted(name for name, value in flat.items() if value is not None)
  names = draw(st.lists(st.sampled_from(own), min_size=1, max_size=2))
  names += draw(st.lists(st.sampled_from(sorted(types)), max_size=2))
  for name in names:
    # Files and folders are not made up.
    if name.split(".")[-1] in ("data_dir", "data_name", "checkpoint"):
      continue
    pool = _VALUES.get(types[name], (*_INTEGERS, *_FLOATS, *_NAMES))
    if types[name] is bool:
      pool = (True, False)
    changes[name] = draw(st.sampled_from(pool))
  return file, changes


def outcome(file: str, changes: dict, run: bool) -> str:
  """'traced', 'ran', 'refused', or what is wrong."""
  config = importlib.import_module(f"configs.{file}").get_config()
  config.batch_size, config.rollouts = 4, 6
  config.steps = config.log_every = config.eval_every = 1
  config.optimizer.warmup = 0
  config.update_from_flattened_dict(changes)
  try:
    trainer = training.make_train(config)
    key = jax.random.key(0)
    states = jax.eval_shape(trainer.init, key)
    jax.eval_shape(trainer.step, states, key)
    if not run:
      return "traced"
    for _ in training.chunks(trainer, config):
      return "ran"
  except (ValueError, FloatingPointError, ImportError) as error:
    words = str(error)
    # A choice may make another field impossible, which is then the one named.
    last = "|".join({name.split(".")[-1] for name in fields(file)})
    named = re.search(rf"\b({last})( = | is |: )", words)
    step = isinstance(error, FloatingPointError) and words.startswith("step ")
    if named or step:
      return "refused"
    return f"WRONG: names no field: {words}"
  except Exception as error:
    return f"WRONG: {type(error).__name__}: {error}"


def trial(count: int, every: int = 10) -> collections.Counter:
  """How many random configs had which outcome; every tenth that can is run.

  Raises:
    AssertionError: at one that goes wrong, made as small as it can be.
  """
  counts = collections.Counter()

  @settings(
    max_examples=count,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
  )
  @given(hostile())
  def look(case):
    outcome_text = outcome(*case, run=counts.total() % every == 0)
    counts[outcome_text.split(":")[0]] += 1
    assert not outcome_text.startswith("WRONG"), (case, outcome_text)

  look()
  return counts


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--count", type=int, default=500, help="configs")
  counts = trial(parser.parse_args().count)
  print(f"{counts.total()} configs: {dict(counts)}, none wrong")


if __name__ == "__main__":
  main()
