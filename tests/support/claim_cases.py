"""Numbers that are made up for the claims of figures.

A case is a function (whether claims are to hold, how far seeds are apart, 0 or
1) → (what judges, what it is given).
"""

import functools
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
  half_seen,
  heteroscedastic,
  jensen,
  llm,
  low_snr,
  maze_pictures,
  maze_rates,
  maze_sequential,
  maze_studies,
  maze_when,
  mazes,
  noisy_noise,
  noisy_regression,
  noisy_studies,
  off_policy,
  off_policy_mazes,
  scale,
  sequential,
  sequential_budget,
  sequential_digits,
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
  gaps = {k: _seeds(g, noise) for k, g in gaps.items()}
  return lambda x: [jensen.claim(x, "T = 31")], (gaps,)


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
      return module._claims(SimpleNamespace(methods=methods, test=of))

    return judge, ends if better else ends[::-1]

  return case


def _waves(better, noise):
  """Two waves at two pass rates: means, standard errors and exact values."""
  exact, errors = np.array([16.0, 100.0]), np.array([0.1, 1.0])
  off = 3 if better else 5
  near = {m: np.stack([exact + off * errors, errors, exact]) for m in (1, 16)}
  p = np.array([0.1, 0.9])
  products = {"fixed": (p, np.array([1.3, 1.0 if better else 0.99]))}
  return sequential._claims, (near, near, products)


def _waves_on_digits(better, noise):
  module = sequential_digits
  ends = (0.6, 0.595, 0.7) if better else (0.6, 0.58, 0.6)
  methods = (module._FIXED, module._SAME, module._HIGHER)
  finals = {
    method: _seeds(end, 0.002 * noise)
    for method, end in zip(methods, ends, strict=True)
  }
  spent = {module._FIXED: np.full(3, 1000.0)}
  spent[module._SAME] = np.array([90.0, 100.0, 110.0 if better else 120.0])
  return module._claims, (finals, spent)


def _waves_on_a_budget(better, noise):
  ends = dict.fromkeys(sequential_budget._LOOKS, 0.4)
  ends |= {"fixed 16": 0.3, "fixed 64": 0.45 if better else 0.6}
  ends["sequential"] = 0.5 if better else 0.39
  finals = {name: _seeds(end, 0.01 * noise) for name, end in ends.items()}
  return sequential_budget._claims, (finals,)


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


def _half_seen(better, noise):
  """pass@1, pass@64 and total variation after training."""
  ends = {"cross-entropy": (0.4, 0.95, 0.1), "MaxRL T = 15": (0.45, 0.94, 0.2)}
  ends |= {"MaxRL T = 4": (0.5, 0.8, 0.3), "RLOO (T = 1)": (0.55, 0.6, 0.4)}
  if not better:
    ends["MaxRL T = 15"] = 0.6, 0.92, 0.45
    ends["RLOO (T = 1)"] = 0.55, 0.94, 0.4
  ends["GRPO"] = ends["RLOO (T = 1)"]
  names = ("probe_pass@1", "probe_pass@64", "probe_total_variation")
  runs = {
    label: {
      name: _seeds(x, 0.002 * noise)[:, None]
      for name, x in zip(names, values, strict=True)
    }
    for label, values in ends.items()
  }
  return lambda runs: half_seen._claims(runs, (1, 4, 15)), (runs,)


def _maze_rates(better, noise):
  recorded = {"MaxRL": 1e-4, "GRPO": 1e-3}
  best = {"MaxRL": 1e-4, "GRPO": 1e-3 if better else 1e-4}
  return lambda best: maze_rates._claims(recorded, best), (best,)


def _off_policy(better, noise):
  """Reuse helps, and the uncorrected and the untuned break; or not."""
  point, sign = off_policy.Point, 1 if better else -1
  on_policy = point("maxrl")
  best = {on_policy: _seeds(0.5, 0.003 * noise)}
  for name, updates, stale, end in (
    ("unclipped", 4, 0, 0.5 + 0.1 * sign),
    ("unclipped", 8, 0, 0.5 + 0.1 * sign),
    ("uncorrected", 8, 0, 0.5),
    ("unclipped", 1, 3, 0.5 - (0 if better else 0.1)),
    ("reweighted", 4, 0, 0.5 + 0.1 * sign + (0 if better else 0.1)),
    ("clipped", 4, 0, 0.5),
    ("clipped", 1, 3, 0.5),
  ):
    key = point("maxrl", name, updates, stale)
    best[key] = _seeds(end, 0.003 * noise)
    other = _seeds(end - 0.1 * sign, 0.003 * noise)
    best[key._replace(estimator="grpo")] = other
  clipped = point("maxrl", "clipped", 8)
  shared = {
    on_policy: best[on_policy],
    clipped: _seeds(0.5 - 0.1 * sign, 0.003 * noise),
  }
  return off_policy._claims, (best, shared)


def _off_policy_mazes(better, noise):
  point, high, low = off_policy.Point, _maze(17, 80, noise), _maze(9, 60, noise)
  points = {
    point("maxrl"): low if better else high,
    point("maxrl", "unclipped", 4): low if better else high,
    point("maxrl", "clipped", 4): high if better else low,
    point("maxrl", "clipped", 1, 3): _maze(5, 50, noise) if better else high,
  }
  return off_policy_mazes._claims, (points,)


def _maze_when(better, noise):
  """MaxRL leads after the weaker warm-up only, or after the stronger only."""
  high, low = _maze(17, 80, noise), _maze(5, 80, 2 * noise)
  equal = _maze(11, 80, noise)
  lead = {"MaxRL": high, "GRPO": low, "RLOO": low}
  none = dict.fromkeys(("MaxRL", "GRPO", "RLOO"), equal)
  settings = maze_when.Settings(warmup=100, warmups=(100, 700))
  p = np.full(8, 0.001 if better else 0.5)
  trained = {100: lead if better else none, 700: none if better else lead}
  judge = functools.partial(maze_when._claims, settings)
  return judge, ({100: p, 700: p}, trained)


def _maze_sequential(better, noise):
  high, low = _maze(17, 80, noise, before=2), _maze(9, 60, noise, before=2)
  settings = maze_sequential.Settings(wave=16, caps=(32,), fixed=(32,))
  methods = (
    sequential_digits.Method(16, 32),
    sequential_digits.Method(32, None),
  )
  trained = (high, low) if better else (low, high)
  spent = np.tile([0.0, 1e6], (3, 1))
  return functools.partial(maze_sequential._claims, settings), (
    dict(zip(methods, trained, strict=True)),
    dict(zip(methods, (spent, (4 if better else 1) * spent), strict=True)),
  )


def _noisy_regression(better, noise):
  settings = noisy_regression.Settings()
  low, high = _seeds(1, 0.001 * noise), _seeds(2, 0.002 * noise)
  most, least = (low, high) if better else (high, low)
  nll = {"T = 63": most, "T = 1": least, "exact ML": low}
  mismatch = (high, low) if better else (low, high)
  # [S, steps, N, T]: falls with T, rises with N.
  cosine = np.add.outer([0.1, 0.3, 0.6], [0.3, 0.2, 0.1, 0.0])
  cosine = np.broadcast_to(cosine if better else cosine[::-1], (3, 2, 3, 4))
  judge = lambda *x: noisy_regression._claims(*x, settings)  # noqa: E731
  return judge, (nll, mismatch, cosine)


def _noisy_noise(better, noise):
  settings = noisy_noise.Settings()
  low, high = _seeds(1, 0.001 * noise), _seeds(2, 0.002 * noise)
  most, least = (low, high) if better else (high, low)
  nll = {"T = 63": most, "T = 1": least}
  correlation = {"T = 63": least, "RLOO on −MSE": most}
  fixed = {"T = 63": low, "RLOO on −MSE": low + (0 if better else 0.1)}
  names = ("σ = 0.3", "σ = 2")
  judge = lambda *x: noisy_noise._claims(*x, settings)  # noqa: E731
  return judge, (
    dict.fromkeys(noisy_noise._MIXED, nll),
    dict.fromkeys(noisy_noise._MIXED, correlation)
    | dict.fromkeys(names, fixed),
  )


def _noisy_scale(better, noise):
  settings = noisy_studies.Settings()
  low, high = _seeds(1, 0.001 * noise), _seeds(2, 0.002 * noise)
  nll = {(0.05, "T = 63"): low, (0.05, "T = 1"): high}
  same = low + 0.001 * noise * np.array([0, 1, 0])
  nll |= {(1.0, "T = 63"): low, (1.0, "T = 1"): same if better else high + 1}
  return lambda x: noisy_studies._scale_claims(x, settings), (nll,)


def _noisy_pool(better, noise):
  settings = noisy_studies.Settings()
  low, high = _seeds(1, 0.001 * noise), _seeds(2, 0.002 * noise)
  most, least = (low, high) if better else (high, low)
  nll = {(True, "labels"): least, (True, "T = 63"): most}
  nll |= {(False, label): 0 * low for label in ("labels", "T = 63")}
  return lambda x: noisy_studies._pool_claims(x, settings), (nll,)


CASES = {
  "noisy_noise": _noisy_noise,
  "noisy_scale": _noisy_scale,
  "noisy_pool": _noisy_pool,
  "noisy_regression": _noisy_regression,
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
  "half_seen": _half_seen,
  "maze_when": _maze_when,
  "maze_sequential": _maze_sequential,
  "sequential": _waves,
  "sequential_digits": _waves_on_digits,
  "sequential_budget": _waves_on_a_budget,
  "off_policy": _off_policy,
  "off_policy_mazes": _off_policy_mazes,
  "llm": _llm,
}
