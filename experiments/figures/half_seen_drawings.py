"""Drawings and the table of half-seen mazes.

`by_method` are {method: {metric: [seeds, …]}}, `exact` calibrations of optima.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.reports.results import Table
from maxrl_jax import plotting
from maxrl_jax.evaluation import reference
from maxrl_jax.tasks.mazes import language
from maxrl_jax.tasks.mazes.posterior import Posterior

KS = (1, 2, 4, 8, 16, 32, 64)
_SHOWN = (1, 4, 16, 64)  # k of pass@k in the table.
_EXACT: dict[str, Any] = {"colour": "#777777", "linewidth": 1.0}


def label_of(order: int) -> str:
  """The method's name in the figure."""
  return "RLOO (T = 1)" if order == 1 else f"MaxRL T = {order}"


def final(run, name: str) -> np.ndarray:
  """A probed score after training, [seeds]."""
  return run[f"probe_{name}"][:, -1]


def coverage(run) -> np.ndarray:
  """Exact pass@k after training, [seeds, len(KS)]."""
  return np.stack([final(run, f"pass@{k}") for k in KS], -1)


def _colour(orders: Sequence[int], label: str) -> Any:
  if label == "cross-entropy":
    return plotting.COLOURS["cross_entropy"]
  if label in ("GRPO", label_of(1)):
    return plotting.COLOURS["grpo" if label == "GRPO" else "rloo"]
  by_label = {label_of(order): order for order in orders}
  return plotting.by_rank(by_label[label], orders)["colour"]


def draw(orders: Sequence[int], by_method, exact):
  """pass@k of all methods; distance and pass@k of MaxRL by order.

  Args:
    orders: of MaxRL; the first is 1.
    by_method: metrics of every method.
    exact: by order, and of the posterior itself (None).
  """
  drawing, (left, *others) = plotting.axes(4, width=3.0, height=3.3)
  shown = map(label_of, plotting.few(orders, 3))
  for label in ("cross-entropy", *shown, "GRPO"):
    look = {"colour": _colour(orders, label), "label": label}
    plotting.seed_curves(left, KS, coverage(by_method[label]), **look)
  optimum = [exact[None][f"pass@{k}"] for k in KS]
  style = {"label": "exact optimum", "linestyle": "--"}
  plotting.curve(left, KS, optimum, **style, **_EXACT)
  plotting.every_tick(left, KS)
  left.set(xlabel="k", title="expected pass@k", ylim=(None, 1.01))
  names = ("total_variation", "pass@1", f"pass@{KS[-1]}")
  for ax, name in zip(others, names, strict=True):
    _by_order(ax, orders, by_method, exact, name)
  others[0].set(title="total variation to the posterior", ylim=(0, None))
  plotting.legend_below(drawing, left, 5)
  return drawing


def _by_order(ax, orders: Sequence[int], by_method, exact, name: str) -> None:
  """One score against T; methods without an order are horizontal lines."""
  scores = [final(by_method[label_of(order)], name) for order in orders]
  plotting.mean_curve(ax, orders, scores, colour=plotting.COLOURS["maxrl"])
  optimum = [exact[order][name] for order in orders]
  plotting.curve(ax, orders, optimum, linestyle="--", **_EXACT)
  for label in ("cross-entropy", "GRPO"):
    level = final(by_method[label], name).mean()
    style = {"colour": _colour(orders, label), "linewidth": 1.2}
    plotting.curve(ax, orders, np.full(len(orders), level), **style)
  plotting.every_tick(ax, orders, base=2)
  ax.set(xlabel="order T", title=name)


def draw_prompts(prompts, known: Posterior):
  """Two prompts, each with its four likeliest answers."""
  drawing, axes = plotting.axes(4, 2, width=1.9, height=2.1)
  size = int(np.sqrt(prompts.inputs.shape[1] - 4))
  by_entropy = np.argsort(reference.entropy(known.probabilities))
  places = len(by_entropy) // 2, len(by_entropy) - 1
  for row_axes, prompt in zip(axes, by_entropy[list(places)], strict=True):
    tokens = np.asarray(prompts.inputs[prompt])[2:-2]
    grid = tokens.reshape(size, size + 1)[:, :-1]
    start, goal = (
      np.argwhere(grid == token)[0] for token in (language.START, language.GOAL)
    )
    shown = np.where(grid == language.WALL, 0.0, 1.0)
    shown[grid == language.UNKNOWN] = 0.55
    for ax in row_axes:
      ax.set_visible(False)
    for ax, answer, chance in zip(
      row_axes, known.answers[prompt], known.probabilities[prompt], strict=False
    ):
      moves = answer[answer >= language.UP] - language.UP
      path = start + np.cumsum(language.STEPS[moves], 0)
      colour = plotting.COLOURS["maxrl"]
      plotting.maze(ax, shown, start, goal, path, colour=colour)
      for place in np.argwhere(grid == language.UNKNOWN):
        ax.text(*place[::-1], "?", ha="center", va="center", fontsize=8)
      ax.set_title(f"{chance:.0%}")
      ax.set_visible(bool(chance))
  return drawing


def table(by_method, exact, best) -> Table:
  """Scores of optima, then of policies; only sampled pass@k is not exact."""
  scores = [*(f"pass@{k}" for k in _SHOWN), "total_variation", "kl", "other"]
  exact_rows = {
    f"optimum T = {order}" if order else "posterior": values
    for order, values in exact.items()
  }
  guesses = [f"{best[KS.index(k)]:.3f}" for k in _SHOWN]
  rows: list[list[Any]] = [["best k distinct", *guesses, *[""] * 4]]
  for name, values in exact_rows.items():
    cells = [f"{values[score]:.3f}" for score in scores[: len(_SHOWN) + 1]]
    rows.append([name, *cells, *[""] * 3])
  start = next(iter(by_method.values()))
  first = [f"{start[f'probe_{name}'][0, 0]:.3f}" for name in scores]
  rows.append(["after warm-up", *first, ""])
  for label, run in by_method.items():
    finals = [final(run, name) for name in scores]
    rows.append([label, *finals, run[f"test_pass@{KS[-1]}"]])
  header = ["total variation", "KL", "other", f"sampled pass@{KS[-1]}"]
  return Table(
    "Held-out prompts: expected pass@k of simple paths, distance of the policy"
    " to the posterior, its Kullback–Leibler divergence in nats, and the"
    " probability of all other answers. Sampled pass@k counts detours too. Mean"
    " ± half the 95 % interval over seeds.",
    ["", *(f"pass@{k}" for k in _SHOWN), *header],
    rows,
  )
