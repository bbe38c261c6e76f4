"""Which runs of a sweep share a compiled program.

Fields of `configuration.VARYING` become arrays over runs; all others change
shapes or what is computed, and make a program of their own. MaxRL, pass@K and
power α differ in nothing but the coefficients a_k of their series: where a
sweep mixes them, they are one program.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict, config_dict

from maxrl_jax import config as configuration
from maxrl_jax import objectives
from maxrl_jax.config import VARYING
from maxrl_jax.estimators import ESTIMATORS
from maxrl_jax.learning import training

_SERIES = ("maxrl", "pass_at_k", "power")
_COEFFICIENTS = "estimator.coefficients"


class Program(NamedTuple):
  """Runs that one compiled program trains side by side.

  Attributes:
    config: what they share.
    points: index of each run's point of the grid, [runs].
    seeds: [runs].
    varied: fields in which they differ by dotted name, each [runs, …].
  """

  config: config_dict.ConfigDict
  points: np.ndarray
  seeds: np.ndarray
  varied: dict[str, np.ndarray]


def plan(
  config: ConfigDict, points: list[dict[str, Any]], seeds: Sequence[int]
) -> list[Program]:
  """Every point with every seed, sorted into programs.

  Raises:
    ValueError: a point that cannot be trained, with the field and what is
      allowed; before anything compiles.
  """
  _check(config, points)
  mixed = _mixes_series(config, points)
  groups: dict[str, list] = {}
  for index, point in enumerate(points):
    shared, varied = _split(config, point, mixed)
    alike = at(shared, dict.fromkeys(varied)).to_dict()
    key = json.dumps([alike, sorted(varied)], default=repr)
    groups.setdefault(key, []).append((index, shared, varied))
  return [_program(group, np.asarray(seeds)) for group in groups.values()]


def _program(group: list, seeds: np.ndarray) -> Program:
  """The seed changes fastest."""
  count = len(seeds)
  names = group[0][2]
  varied = {
    name: np.repeat(np.stack([values[name] for *_, values in group]), count, 0)
    for name in names
  }
  points = np.repeat([index for index, *_ in group], count)
  return Program(group[0][1], points, np.tile(seeds, len(group)), varied)


def with_seeds(program: Program, seeds: Sequence[int]) -> Program:
  """Those runs of a program that have one of these seeds."""
  rows = np.isin(program.seeds, list(seeds))
  varied = {name: values[rows] for name, values in program.varied.items()}
  return Program(
    program.config, program.points[rows], program.seeds[rows], varied
  )


def at(config: ConfigDict, point: dict[str, Any]) -> config_dict.ConfigDict:
  """The whole config of one point."""
  return configuration.overlay(config, point)


def _split(
  config: ConfigDict, point: dict[str, Any], mixed: bool
) -> tuple[ConfigDict, dict[str, Any]]:
  """What a point shares with its program, and the values of its own."""
  whole = at(config, point)
  numbers = {
    name: np.float32(value)
    for name, value in point.items()
    if name in VARYING
    and isinstance(value, (int, float))
    and not isinstance(value, bool)
  }
  if whole.likelihood.learned is not None:
    numbers.pop("likelihood.scale", None)  # Where the policy's own σ starts.
  if not (mixed and whole.estimator.name in _SERIES):
    return whole, numbers
  series: dict[str, Any] = dict.fromkeys(
    f"estimator.{name}" for name in ("order", "k", "alpha")
  )
  own: dict[str, Any] = {
    name: x for name, x in numbers.items() if name not in series
  }
  own[_COEFFICIENTS] = _coefficients(whole)
  series |= {"estimator.name": "series", _COEFFICIENTS: (1.0,)}
  return at(whole, series), own


def _coefficients(config: ConfigDict) -> np.ndarray:
  """a [N] of MaxRL, pass@K or power, filled up with zeros."""
  block, size = config.estimator, config.rollouts
  terms = block.order if block.order is not None else max(size - 1, 1)
  if block.name == "pass_at_k":
    objective, terms = objectives.pass_at_k(block.k), block.k
  elif block.name == "power":
    objective = objectives.power(block.alpha)
  else:
    objective = objectives.maxrl(terms)
  assert objective.coefficients is not None
  a = np.asarray(objective.coefficients(terms), np.float32)
  return np.pad(a, (0, size - terms))


def _mixes_series(config: ConfigDict, points: list[dict[str, Any]]) -> bool:
  """Whether more than the order of MaxRL differs between series."""
  swept = {name for point in points for name in point}
  if swept & {"estimator.k", "estimator.alpha"}:
    return True
  names = {at(config, point).estimator.name for point in points}
  powers = "power" in names and "estimator.order" in swept
  return powers or len(names & set(_SERIES)) > 1


def _check(config: ConfigDict, points: list[dict[str, Any]]) -> None:
  """Builds all that differs in more than numbers of the optimizer."""
  built: dict[str, training.Train] = {}
  seen = set()
  for point in points:
    whole = at(config, point)
    try:
      _check_used(whole, point)
      configuration.check(whole)
      configuration.make_optimizer(whole)
      fields = whole.to_dict()
      world = json.dumps([fields[b] for b in ("task", "likelihood", "policy")])
      goal = json.dumps([world, fields["estimator"], whole.rollouts])
      if goal in seen:
        continue
      if world not in built:
        built[world] = training.make_train(whole)
      made = built[world]
      configuration.make_loss(whole, made.task, made.policy)
      seen.add(goal)
    except ValueError as error:
      raise ValueError(f"grid point {describe(point)}: {error}") from None


def _check_used(config: ConfigDict, point: dict[str, Any]) -> None:
  """Raises ValueError at a swept field that changes nothing."""
  name = config.optimizer.name
  if "optimizer.momentum" in point and name != "sgd":
    raise ValueError(f"optimizer.momentum: means nothing to {name!r}")
  if "rollouts" in point and config.estimator.name not in ESTIMATORS:
    raise ValueError(
      f"rollouts: {config.estimator.name!r} draws none, and would run the same"
      " again and again"
    )


def describe(point: dict[str, Any]) -> str:
  """field=value, field=value."""
  return ", ".join(f"{name}={value}" for name, value in point.items())
