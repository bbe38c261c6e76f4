"""Plans which runs share a compiled program.

Fields of `config.may_vary` become arrays over runs; all others change shapes or
the computation, and need separate programs. MaxRL, pass@K and power α differ
only in the coefficients a_k of their series: a study that mixes them trains
them in one program.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from maxrl_jax import config as configs
from maxrl_jax import options
from maxrl_jax.config import may_vary, overlay
from maxrl_jax.config.lookup import choice
from maxrl_jax.estimators import ESTIMATORS
from maxrl_jax.learning import training
from maxrl_jax.learning.build_loss import make_loss
from maxrl_jax.learning.off_policy import REWEIGHTED
from maxrl_jax.optimizers import OPTIMIZERS
from maxrl_jax.policies import parameters
from maxrl_jax.runs import files

# Increase when the results of a config change by more than rounding: cached
# runs are then not used.
RESULTS_VERSION = 6

_COEFFICIENTS = "estimator.coefficients"
# Fields outside the digest: a key has the seed, the others change no result.
_NOT_IN_DIGEST = ("seed", "runs", "mesh", "checkpoint")


class Program(NamedTuple):
  """Runs that one compiled program trains side by side.

  Attributes:
    config: shared by all runs.
    points: index of each run's point of the grid, [runs].
    seeds: [runs].
    hyper: values, by dotted name, of fields that vary, each [runs, …].
    keys: of each run in the cache, [runs].
  """

  config: ConfigDict
  points: np.ndarray
  seeds: np.ndarray
  hyper: dict[str, np.ndarray]
  keys: np.ndarray


def plan(
  config: ConfigDict,
  points: list[dict[str, Any]],
  seeds: Sequence[int],
  measured: Any = None,
  splits: Sequence[str] = (),
) -> list[Program]:
  """Groups every point with every seed into programs.

  Args:
    config: of all runs, except for the fields of the grid.
    points: of the grid.
    seeds: of every point.
    measured: the measurements of a run as JSON, which are part of its key.
    splits: which every task must have.

  Raises:
    ValueError: a point that cannot be trained, with the field and what is
      allowed; before anything compiles.
  """
  _check(config, points, splits)
  mixed = _mixes_series(config, points)
  groups: dict[str, list] = {}
  for index, point in enumerate(points):
    shared, hyper = _split(config, point, mixed)
    fixed = overlay(shared, dict.fromkeys(hyper)).to_dict()
    name = json.dumps([fixed, sorted(hyper)], default=repr)
    identity = digest(overlay(config, point), measured=measured)
    groups.setdefault(name, []).append((index, shared, hyper, identity))
  return [_program(group, np.asarray(seeds)) for group in groups.values()]


def _program(group: list, seeds: np.ndarray) -> Program:
  """The program of a group of points; the seed changes fastest."""
  count = len(seeds)
  hyper = {
    name: np.repeat(
      np.stack([values[name] for _, _, values, _ in group]), count, 0
    )
    for name in group[0][2]
  }
  points = np.repeat([index for index, *_ in group], count)
  keys = [f"{identity}-{seed}" for *_, identity in group for seed in seeds]
  return Program(
    group[0][1], points, np.tile(seeds, len(group)), hyper, np.array(keys)
  )


def digest(config: ConfigDict, **more: Any) -> str:
  """A hash of `more` and of every field that changes a config's results."""
  fields = {
    k: v for k, v in config.to_dict().items() if k not in _NOT_IN_DIGEST
  }
  if config.policy.checkpoint is not None:  # Its contents, not its path.
    fields["policy"]["checkpoint"] = parameters.digest(config.policy.checkpoint)
  # Without unset fields: a new field leaves cached runs valid.
  known = {"config": _set_fields(fields), "version": RESULTS_VERSION, **more}
  return files.digest(known)


def _set_fields(block: dict) -> dict:
  """The block without fields that are None and without empty blocks."""
  fields = {
    name: _set_fields(value) if isinstance(value, dict) else value
    for name, value in block.items()
  }
  return {k: v for k, v in fields.items() if v is not None and v != {}}


def _split(
  config: ConfigDict, point: dict[str, Any], mixed: bool
) -> tuple[ConfigDict, dict[str, Any]]:
  """The config that a point shares with its program, and its varying values."""
  merged = overlay(config, point)
  varying = may_vary(merged)
  numbers = {
    name: np.float32(value)
    for name, value in point.items()
    if name in varying
    and isinstance(value, (int, float))
    and not isinstance(value, bool)
  }
  if not (mixed and _has_series(merged)):
    return merged, numbers
  options: dict[str, Any] = dict.fromkeys(
    f"estimator.{name}" for name in ("order", "k", "alpha")
  )
  hyper: dict[str, Any] = {
    name: x for name, x in numbers.items() if name not in options
  }
  hyper[_COEFFICIENTS] = _coefficients(merged)
  options |= {"estimator.name": "series", _COEFFICIENTS: (1.0,)}
  return overlay(merged, options), hyper


def _has_series(config: ConfigDict) -> bool:
  entry = ESTIMATORS.get(config.estimator.name)
  return entry is not None and entry.series is not None


def _coefficients(config: ConfigDict) -> np.ndarray:
  """a [N] of the estimator's series, padded with zeros."""
  block, size = config.estimator, config.rollouts
  terms = block.k or block.order or max(size - 1, 1)
  make = ESTIMATORS[block.name].series
  assert make is not None
  objective = make(order=terms, k=block.k, alpha=block.alpha)
  assert objective.coefficients is not None
  a = np.asarray(objective.coefficients(terms), np.float32)
  return np.pad(a, (0, size - terms))


def _mixes_series(config: ConfigDict, points: list[dict[str, Any]]) -> bool:
  """Whether the series of points differ in more than MaxRL's order."""
  swept = {name for point in points for name in point}
  merged = [overlay(config, point) for point in points]
  if any(c.off_policy.name == REWEIGHTED for c in merged):
    return False  # It computes coefficients from the estimator's own options.
  if swept & {"estimator.k", "estimator.alpha"}:
    return True
  names = {c.estimator.name for c in merged if _has_series(c)}
  powers = "power" in names and "estimator.order" in swept
  return powers or len(names) > 1


def _check(
  config: ConfigDict, points: list[dict[str, Any]], splits: Sequence[str]
) -> None:
  """Builds each combination of parts once; raises as `plan`."""
  built: dict[str, training.Train] = {}
  checked: set[str] = set()
  without_rollouts: set[str] = set()
  for point in points:
    merged = overlay(config, point)
    try:
      _check_used(merged, point, without_rollouts)
      configs.check(merged)
      configs.make_optimizer(merged)
      fields = merged.to_dict()
      parts = json.dumps(
        [fields[b] for b in ("task", "likelihood", "policy")], default=repr
      )
      blocks = [fields[b] for b in ("estimator", "off_policy")]
      combination = json.dumps([parts, blocks, merged.rollouts])
      if combination in checked:
        continue
      if parts not in built:
        built[parts] = training.make_train(merged)
        built[parts].task.check_splits(splits)
      trainer = built[parts]
      make_loss(merged, trainer.task, trainer.policy)
      checked.add(combination)
    except ValueError as error:
      raise ValueError(
        f"grid point {describe(point)}: {error}" if point else str(error)
      ) from None


def _check_used(
  config: ConfigDict, point: dict[str, Any], without_rollouts: set[str]
) -> None:
  """Raises ValueError if a swept field has no effect.

  `without_rollouts` collects points, less their rollouts, that draw none.
  """
  name = config.optimizer.name
  rule = choice(OPTIMIZERS, "optimizer.name", name)
  if "optimizer.momentum" in point and (
    "momentum" not in options.parameters(rule)
  ):
    raise ValueError(f"optimizer.momentum: has no effect on {name!r}")
  sampled = {*ESTIMATORS, "sequential"}
  if "rollouts" in point and config.estimator.name not in sampled:
    rest = repr({k: v for k, v in point.items() if k != "rollouts"})
    if rest in without_rollouts:
      raise ValueError(
        f"rollouts: {config.estimator.name!r} draws none; every value would"
        " give the same run"
      )
    without_rollouts.add(rest)


def describe(point: dict[str, Any]) -> str:
  """A point as text: field=value, field=value."""
  return ", ".join(f"{name}={value}" for name, value in point.items())
