"""Bias and variance of estimators on one prompt, as a table and a figure."""

import csv
import functools
import math
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maxrl_jax import evaluation, plotting, ranges
from maxrl_jax.estimators import ESTIMATORS, Estimand, Setting


class Settings(NamedTuple):
  """The flags of experiments.gradient_study."""

  estimators: tuple[str, ...]
  orders: tuple[str, ...]
  baselines: tuple[str, ...]
  alpha: float
  rollouts: int
  arms: int
  pass_rate: float
  continuous: bool
  groups: int
  seed: int


# Columns that have the same value in all rows.
_SETTINGS = Settings._fields[3:]
_NOT_STUDIED = {
  "series": "needs coefficients; study maxrl, power or pass_at_k",
  "vimco": "estimates ∇E[log mean l], a sum over all groups; study"
  " self_normalized",
}
_OTHER_COLOUR = "#777777"  # For estimators without a colour in plotting.
_COLUMNS = (
  "estimator",
  "order",
  "baseline",
  "target",
  "bias",
  "bias_error",
  "variance",
  "how",
)


def write(rows: list[dict], settings: Settings, path: pathlib.Path) -> None:
  """Writes the rows as CSV, each with the settings."""
  shared = {name: getattr(settings, name) for name in _SETTINGS}
  with open(path, "w", newline="") as file:
    writer = csv.DictWriter(file, (*_COLUMNS, *_SETTINGS))
    writer.writeheader()
    writer.writerows(row | shared for row in rows)


def text(rows: list[dict]) -> str:
  """The rows as a table in plain text."""
  cells = [_COLUMNS, *(tuple(map(_cell, row.values())) for row in rows)]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  return "\n".join(
    "  ".join(map(str.ljust, line, widths)).rstrip() for line in cells
  )


def _cell(value) -> str:
  if value is None:
    return "none"
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def study(settings: Settings) -> list[dict]:
  """One row for each estimator, order and baseline.

  Raises:
    ValueError: an invalid flag, before anything is computed.
  """
  studied = _studied(settings)
  logits, likelihoods = _prompt(settings)
  rows = []
  for name, order, baseline in studied:
    estimator = _estimator(settings, name, order, baseline)
    moments, how = _moments(settings, estimator, logits, likelihoods)
    estimand = _estimand(settings, name, order)
    bias, error = None, None
    if estimand.objective is not None:
      truth = _gradient(estimand, logits, likelihoods)
      size = jnp.linalg.norm(truth)
      bias = float(jnp.linalg.norm(moments.mean - truth) / size)
      error = float(jnp.linalg.norm(moments.standard_error) / size)
    variance = float(moments.variance)
    cells = name, order, baseline, estimand.target, bias, error, variance, how
    rows.append(dict(zip(_COLUMNS, cells, strict=True)))
  return rows


def _moments(settings: Settings, estimator, logits, likelihoods):
  """Moments of an estimate, and "enumerated" or "sampled"."""
  num = settings.rollouts
  if logits.shape[0] ** num <= 2**16:
    moments = jax.jit(
      lambda x, l: evaluation.enumerated_moments(estimator, x, l, num)
    )
    return moments(logits, likelihoods), "enumerated"
  key = jax.random.key(settings.seed + 1)
  moments = evaluation.sampled_moments(
    key, estimator, logits, likelihoods, num, settings.groups
  )
  return moments, "sampled"


def _estimand(settings: Settings, name: str, order) -> Estimand:
  estimand = ESTIMATORS[name].estimand
  assert estimand is not None
  num, alpha = settings.rollouts, settings.alpha
  return estimand(Setting(num, order or 1, alpha, settings.continuous))


def _gradient(estimand: Estimand, logits, likelihoods):
  """The gradient that the estimator is documented to estimate."""
  objective = estimand.objective
  assert objective is not None
  if not estimand.over_thresholds:
    of_p = evaluation.exact_gradient(objective, logits, likelihoods)
    return estimand.factor * of_p
  # P(l ≥ τ) is constant in τ between two likelihoods.
  l = np.asarray(likelihoods, float)
  total, below = 0 * logits, 0.0
  for level in np.unique(l[l > 0]):
    above = l >= level
    if not above.all():  # P = 1 has gradient 0, and may round to above 1.
      of_level = evaluation.exact_gradient(objective, logits, above)
      total += (level - below) * of_level
    below = level
  return estimand.factor * total


def _prompt(settings: Settings):
  """Logits and likelihoods of the arms, with E[l] = `pass_rate`."""
  rng = np.random.default_rng(settings.seed)
  arms, p = settings.arms, settings.pass_rate
  policy = rng.dirichlet(np.full(arms, 3.0))
  if settings.continuous:
    # E[l^c] falls from 1 to 0 as c grows.
    base = rng.uniform(size=arms)
    low, high = 0.0, 1e9
    for _ in range(100):
      power = (low + high) / 2
      low, high = (power, high) if policy @ base**power > p else (low, power)
    likelihoods: np.ndarray = base**power
  else:
    right = max(arms // 2, 1)
    policy[:right] *= p / policy[:right].sum()
    policy[right:] *= (1 - p) / policy[right:].sum()
    likelihoods = np.arange(arms) < right
  return jnp.log(jnp.asarray(policy)), jnp.asarray(likelihoods)


def _studied(settings: Settings) -> list[tuple]:
  """(estimator, order or '', baseline or ''); raises as `study`."""
  _check(settings)
  orders = _orders(settings)
  baselines = [_number_or_name(b) for b in settings.baselines]
  rows = []
  for name in settings.estimators:
    _check_name(name)
    pairs: list[tuple] = [("", "")]
    if name in ("maxrl", "power", "pass_at_k", "tail"):
      pairs = [(order, baseline) for baseline in baselines for order in orders]
    for order, baseline in pairs:
      estimator = _estimator(settings, name, order, baseline)
      # Traced only, for errors at an order or a baseline.
      jax.eval_shape(estimator, jnp.zeros(settings.rollouts))
      rows.append((name, order, baseline))
  return rows


def _check(settings: Settings) -> None:
  """Raises ValueError at an empty or invalid flag."""
  for flag in ("estimators", "baselines"):
    if not getattr(settings, flag):
      raise ValueError(f"{flag} is empty: name at least one")
  if not 0 < settings.pass_rate < 1:
    raise ValueError(
      f"pass_rate = {settings.pass_rate}: must be between 0 and 1"
    )
  if settings.groups % 1024:
    raise ValueError(
      f"groups = {settings.groups}: must be a multiple of 1024, such as"
      f" {math.ceil(settings.groups / 1024) * 1024}"
    )


def _check_name(name: str) -> None:
  """Raises ValueError unless the estimator has an estimand to study."""
  studied = [n for n, e in ESTIMATORS.items() if e.estimand is not None]
  if name not in ESTIMATORS:
    ranges.one_of(studied, estimators=name)
  if name in _NOT_STUDIED:
    raise ValueError(f"estimators: {name!r} {_NOT_STUDIED[name]}")
  if name not in studied:
    raise ValueError(
      f"estimators: {name!r} has no estimand to compare with; give its"
      " `Estimator` one"
    )


def _orders(settings: Settings) -> list[int]:
  num = settings.rollouts
  if not settings.orders:
    return sorted({1, max(num // 2, 1), max(num - 1, 1)})
  try:
    return [int(order) for order in settings.orders]
  except ValueError:
    raise ValueError(
      f"orders = {','.join(settings.orders)}: must be whole numbers from 1 to"
      f" rollouts = {num}"
    ) from None


def _number_or_name(baseline: str) -> str | float:
  try:
    number = float(baseline)
  except ValueError:
    return baseline
  if not math.isfinite(number):
    raise ValueError(f"baselines: {baseline}: must be finite")
  return number


def _estimator(settings: Settings, name: str, order, baseline):
  """l [N] → A [N], with the options of its row."""
  options: dict = {}
  if order != "":
    options = {
      "k" if name == "pass_at_k" else "order": order,
      "baseline": baseline,
    }
  if name == "power":
    options["alpha"] = settings.alpha
  return functools.partial(ESTIMATORS[name], **options)


def draw(rows: list[dict], path: pathlib.Path) -> None:
  """Draws bias and variance as bars, one pair per row."""
  with plotting.styled():
    height = 1.2 + 0.24 * len(rows)
    figure, (left, right) = plotting.axes(columns=2, height=height)
    names = [_name(row) for row in rows]
    colours = [
      plotting.COLOURS.get(row["estimator"], _OTHER_COLOUR) for row in rows
    ]
    biases, errors = (
      [row[column] or 0.0 for row in rows] for column in ("bias", "bias_error")
    )
    left.barh(names, biases, xerr=errors, color=colours)
    for row in rows:
      if row["bias"] is None:  # Unknown, not 0.
        left.text(0, _name(row), " no target", va="center", size="small")
    left.set(xlabel="bias / length of the exact gradient")
    right.barh(names, [row["variance"] for row in rows], color=colours)
    right.set(xlabel="variance (trace)", yticklabels=[])
    for ax in (left, right):
      ax.invert_yaxis()
      ax.locator_params(axis="x", nbins=4)
    figure.savefig(path)


def _name(row: dict) -> str:
  return " ".join(str(row[c]) for c in _COLUMNS[:3] if row[c] != "")
