"""Numbers that are made up for the claims of figures.

A case is a function (whether claims are to hold, how far seeds are apart, 0 or
1) → (what judges, what it is given).
"""

from types import SimpleNamespace

import numpy as np

from experiments.figures import (
  bandit,
  bimodal,
  bounds,
  budget,
  digit_strings,
  estimator_study,
  factorized,
  family,
  gradient_norms,
  heteroscedastic,
  jensen,
  llm,
  low_snr,
  maze_pictures,
  maze_rates,
  maze_studies,
  mazes,
  scale,
  weights,
)
from experiments.figures.maze_settings import KS
from maxrl_jax.tasks.mazes import language


def _seeds(mean: float, noise: float) -> np.ndarray:
  return mean + noise * np.array([-1.0, 0.0, 1.0])


def _weights(better, noise):
  results = {t: [(0.1, t * w, 0.01 * t, t) for w in (1, 1.02)] for t in (1, 2)}
  if not better:
    results[1][1] = (0.1, 1.05, 0.01, 1.0)
  results = {t: np.array(rows) for t, rows in results.items()}
  return lambda *x: [weights._claim(*x)], (results,)


def _bounds(better, noise):
  log_p = np.log([0.01, 0.1, 0.9])
  values = {1: log_p + 0.2, 4: log_p + (0.1 if better else 0.3)}
  off = np.array([0.05, 0.09 if better else 0.11])

  def judge(values, log_p, off):
    return [bounds._bound_claim(values, log_p), bounds._softmax_claim(off)]

  return judge, (values, log_p, off)


def _estimators(better, noise):
  more = 0.0 if better else 1.0
  centred = {"one": {"centred": np.array([0.9, 1 + more, 0.9])}}
  biases, sampled = np.array([1e-12, more, 0]), np.array([2, 3.9 + more, 1])
  judge = lambda *x: estimator_study._claims(*x, 6)  # noqa: E731
  return judge, (biases, sampled, centred)


def _bandit(better, noise):
  every = bandit.PRESETS["quick"].orders
  orders = every if better else every[::-1]
  ends = dict(zip(orders, (0.1, 0.1, 0.3, 0.5, 0.8, 0.9), strict=True))
  judge = lambda curves: bandit._claims(curves, every)  # noqa: E731
  return judge, (
    {t: _seeds(end, 0.01 * noise)[:, None, None] for t, end in ends.items()},
  )


def _digits(better, noise):
  ends = dict.fromkeys(("MaxRL 16", "REINFORCE 1024"), 0.3)
  scores = (0.9, 0.8, 0.7, 0.6, 0.5)
  ends |= dict(zip(digit_strings._ORDERING, scores, strict=True))
  sign = 1 if better else -1
  final = {
    label: _seeds(sign * end + 1, 0.01 * noise) for label, end in ends.items()
  }
  if not better:  # A negative share.
    final["cross-entropy"] = final["cross-entropy"] * 10 - 8
  return lambda final: digit_strings._claims(final, 0.6), (final,)


def _gradient_norms(better, noise):
  pass_rates = np.repeat([0.1, 0.5], 6)
  points = {}
  for name in gradient_norms._LABELS:
    steep = better != (name == "grpo")
    norms = np.repeat([2.0, 1.0] if steep else [1.0, 2.0], 6)
    stuck = name == "rloo" and better
    points[name] = pass_rates * (0.001 if stuck else 1), norms
  return gradient_norms._claims, (points,)


def _bimodal(better, noise):
  settings = bimodal.Settings()
  ends = np.linspace(9, 1, len(settings.orders))[:: 1 if better else -1]
  labels = [f"T = {order}" for order in settings.orders]
  ends = dict(zip(labels, ends, strict=True)) | {"exact ML": 1.0}
  nll = {label: _seeds(end, 0.001 * noise) for label, end in ends.items()}
  mass = {"T = 1": 0, "GRPO on l": 0.02, "T = 31": 0.3}
  mass = {k: np.full(3, x + 0.1 * (not better)) for k, x in mass.items()}
  return lambda *x: bimodal._claims(*x, settings), (nll, mass)


def _jensen(better, noise):
  gaps = {"T = 31": 20.0, "T = 1": 6.0, "RLOO on −MSE": 1 if better else 21}
  gaps = {k: np.stack([_seeds(g, noise)] * 4, 1) for k, g in gaps.items()}
  return lambda x: [jensen._claim(x, "T = 31")], (gaps,)


def _low_snr(better, noise):
  results = {}
  for rho in (0.1, 0.7):
    results["exact ML", None, rho] = _seeds(0.9, 0.004 * noise)
    end = 0.85 if better else 0.95
    results["exact RL", None, rho] = _seeds(end, 0.002 * noise)
    for label in low_snr._SAMPLED:
      end = 0.9 if better else 0.7 + 0.1 * (label == "MaxRL")
      apart = 0.003 if label == "MaxRL" else 0.002
      results[label, 8, rho] = _seeds(end, apart * noise)
  return lambda results: low_snr._claims(results, (8,)), (results,)


def _heteroscedastic(better, noise):
  sign = 1 if better else -1
  runs = {
    (label, True): {
      "excess_nll": _seeds(0.0, 0.01 * noise) + (not better) * own,
      "mse_clean": _seeds(sign * own, 0.01 * noise),
    }
    for label, own in (("MaxRL", 0.2), ("exact ML", 0.0), ("RLOO on −MSE", 1.0))
  }
  sigma = np.arange(8.0)
  each = np.stack([sigma] * 3)
  each[:, 1] += [0, 1.5 * noise, 2.5 * noise]  # Ranks differ by seed.
  norms = {"RLOO on −MSE": sign * each}
  norms |= dict.fromkeys(("exact ML", "MaxRL"), -sign * each)
  judge = lambda *x: heteroscedastic._claims(x[0], (*x[1:], {}))  # noqa: E731
  return judge, (runs, sigma, norms)


def _scale(better, noise):
  end = 1.0 if better else 0.9
  cosines = dict.fromkeys(("cross-entropy", "RLOO on −MSE"), np.full(60, end))
  slope = -2.0 if better else -3.0
  errors = {
    "first order": scale._SIGMAS**slope,
    "second order": scale._SIGMAS ** (2 * slope),
  }
  return scale._claims, (cosines, errors)


def _factorized(better, noise):
  clean, noisy = -np.log(2) / 2, -np.log(2) / 2 - 0.25
  exponents = {d: np.array([clean, noisy]) * d for d in (1, 4)}
  if not better:
    exponents[4] = exponents[4] * 1.1
  errors = {
    ("exact ML", 4): _seeds(1.0, 0.1 * noise),
    ("factorized", 4): _seeds(1.5 if better else 9.0, 0.1 * noise),
    ("joint", 4): _seeds(5.0, 0.1 * noise),
  }
  return factorized._claims, (exponents, errors)


def _sweep(module, field, fields):
  """A figure's claim about two points of a sweep, the second the better one."""

  def case(better, noise):
    ends = _seeds(0.2, 0.01 * noise), _seeds(0.6, 0.01 * noise)
    methods = [
      SimpleNamespace(fields=fields | {field: value}) for value in (1, 31)
    ]

    def judge(*scores):
      kept = {m.fields[field]: x for m, x in zip(methods, scores, strict=True)}
      of = lambda method: kept[method.fields[field]]  # noqa: E731
      return [module._claim(SimpleNamespace(methods=methods, test=of))]

    return judge, ends if better else ends[::-1]

  return case


def _llm(better, noise):
  rates = {}
  for label in llm._METHODS:
    ours = (label == "MaxRL, order 15") == better
    curve = np.repeat([0.02, 0.98] if ours else [0.06, 0.5], 50)
    rates[label] = {"pass_rate": curve + _seeds(0, 0.01 * noise)[:, None]}
  return llm._claims, (rates,)


def _maze(solved: int, count: int, noise: float, *, before: int = 20):
  """Three seeds: how many of 20 mazes are solved, and how often of 256."""
  after = _seeds(solved, noise)
  number = np.stack([np.full(3, before), after], 1)[..., None]
  p = (np.arange(20) < number) * (count + number) / 256
  run = {f"test_pass@{k}": (1 - (1 - p) ** k).mean(-1) for k in KS}
  return run | {"train_solved": np.repeat(after[:, None] / 20, 8, 1)}


def _mazes(judge):
  def case(better, noise):
    labels = (*mazes._PUBLISHED, "MaxRL")
    high, low = _maze(17, 80, noise), _maze(9, 60, noise)
    runs = {label: low if better else high for label in labels}
    return judge, (runs | {"MaxRL": high if better else low},)

  return case


def _scarce(better, noise):
  """All but MaxRL fall far below the warm-up, or MaxRL does, and they rise."""
  low = _maze(9, 60, noise)
  high = _maze(17, 80, noise, before=20 if better else 12)
  others = dict.fromkeys(("GRPO", "RLOO"), low if better else high)
  return maze_studies._scarce_claims, (
    others | {"MaxRL": high if better else low},
  )


def _rollouts(better, noise):
  high, low = _maze(17, 80, noise), _maze(9, 60, noise)
  few, many = (high, low) if better else (low, high)
  points = {4: {"MaxRL": few}, 32: {"GRPO": many, "RLOO": many}}
  return maze_studies._rollout_claims, (points,)


def _maze_gradients(better, noise):
  steep, flat = np.array([8.0, 1, 1, 1, 1, 1, 1, 1]), np.ones(8)
  results = {"pass_rate": np.arange(8) / 8, "MaxRL": steep if better else flat}
  others = dict.fromkeys(("GRPO", "RLOO"), flat if better else steep)
  return maze_studies._gradient_claims, (results | others,)


def _maze_answers(better, noise):
  """Down to the goal, and into a wall."""
  results = {
    "open": np.array([[[0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]]], bool),
    "start": np.array([[1, 1]]),
    "goal": np.array([[2, 1]]),
    "answers": np.array([[[language.DOWN, language.DONE], [language.UP, 0]]]),
  }
  judge = lambda right: maze_pictures._claims(results | {"right": right})  # noqa: E731
  return judge, (np.array([[1.0, 0.0 if better else 1.0]]),)


def _maze_rates(better, noise):
  recorded = {"MaxRL": 1e-4, "GRPO": 1e-3}
  best = {"MaxRL": 1e-4, "GRPO": 1e-3 if better else 1e-4}
  return lambda best: maze_rates._claims(recorded, best), (best,)


CASES = {
  "weights": _weights,
  "bounds": _bounds,
  "estimators": _estimators,
  "bandit": _bandit,
  "digits": _digits,
  "gradient_norms": _gradient_norms,
  "bimodal": _bimodal,
  "jensen": _jensen,
  "low_snr": _low_snr,
  "heteroscedastic": _heteroscedastic,
  "scale": _scale,
  "factorized": _factorized,
  "family": _sweep(family, "estimator.order", {}),
  "budget": _sweep(budget, "rollouts", {"estimator.name": "maxrl"}),
  "maze_answers": _maze_answers,
  "maze_gradients": _maze_gradients,
  "mazes": _mazes(mazes._claims),
  "maze_rollouts": _rollouts,
  "maze_scarce": _scarce,
  "maze_baselines": _mazes(mazes._baseline_claims),
  "maze_rates": _maze_rates,
  "llm": _llm,
}
