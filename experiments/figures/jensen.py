"""Average of rewards against log of the average: what Jensen's gap hides."""

import numpy as np

from experiments.reports.results import (
  Claim,
  Drawing,
  in_words,
  nan_if_zero_width,
)
from maxrl_jax import plotting, stats
from maxrl_jax.runs import dataset


def drawing(runs, colours) -> Drawing:
  """Both averages over training, and prompt by prompt at the end.

  Args:
    runs: of three methods, by label.
    colours: by label.
  """
  figure, (over_time, *ends) = plotting.axes(columns=4, width=3.1, height=3.1)
  _draw_gaps(over_time, runs, colours)
  for ax, (label, run) in zip(ends, runs.items(), strict=True):
    _draw_prompts(ax, label, run, colours[label])
  ends[0].set_ylabel("log E[l] after training")
  plotting.legend_below(figure, over_time)
  caption = (
    "Averaging the rewards log l = −(y − ŷ)²/2σ² + constant, as RLOO on −MSE"
    " does, counts every rollout; the logarithm of the average likelihood is"
    " led by the best. Left: median and middle half of the test prompts of all"
    " seeds. Right: prompts of one seed after training; Jensen's inequality"
    " puts all above the diagonal."
  )
  return Drawing("jensen", figure, caption)


def gaps_of(run) -> np.ndarray:
  """log E[l] − E[log l], [S, times, prompts]."""
  return run["probe_log_average"].values - run["probe_average_log"].values


def _draw_gaps(ax, runs, colours) -> None:
  """Median and middle half over prompts and seeds, during training."""
  for label, run in runs.items():
    quantiles = np.quantile(gaps_of(run), (0.25, 0.5, 0.75), axis=(0, 2))
    low, median, high = quantiles
    look = {"colour": colours[label], "label": label}
    plotting.curve(ax, run["eval_step"], median, low=low, high=high, **look)
  ax.set(
    title="gap of a prompt, during training",
    xlabel="steps",
    ylabel="log E[l] − E[log l], nats",
    ylim=(0, None),
  )


def _draw_prompts(ax, label: str, run, colour: str) -> None:
  x = dataset.final(run, "probe_average_log")[0]
  y = dataset.final(run, "probe_log_average")[0]
  ax.plot(x, y, ".", ms=2, alpha=0.3, color=colour, rasterized=True)
  low = min(x.min(), y.min())
  ax.plot([low, 0], [low, 0], color="0.5", lw=0.8, ls="--")
  ax.set(title=label, xlabel="E[log l] after training")


def claim(gaps, most: str) -> Claim:
  """From mean gaps of the prompts after training by label, [S] each."""
  wider = stats.difference_interval(gaps[most], gaps["RLOO on −MSE"])
  return Claim(
    "bimodal.jensen",
    "blog post, Jensen and Taylor",
    "Training the average reward leaves a smaller gap than training the"
    " likelihood.",
    ", ".join(f"{k}: {g.mean():.2f} nats" for k, g in gaps.items())
    + f"; difference {in_words(wider, '.2f')}",
    f"{most} above RLOO on −MSE by a 95 % interval",
    bool(nan_if_zero_width(wider).low > 0),
  )
