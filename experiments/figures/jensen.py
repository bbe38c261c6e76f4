"""Average of rewards against log of the average: what Jensen's gap hides."""

import numpy as np

from experiments.figures import bimodal
from experiments.reports.results import Claim, Drawing, Result, firm, in_words
from maxrl_jax import plotting, stats

_METHODS = ("T = 31", "T = 1", "RLOO on −MSE")


def figure(preset: str, workdir) -> Result:
  """Both averages over training, and prompt by prompt at the end."""
  runs = bimodal.all_runs(preset, workdir)
  runs = {label: runs[label] for label in _METHODS}
  drawing, (over_time, *ends) = plotting.axes(columns=4, width=3.1, height=3.1)
  _draw_gaps(over_time, runs)
  for ax, (label, run) in zip(ends, runs.items(), strict=True):
    _draw_prompts(ax, label, run)
  ends[0].set_ylabel("log E[l] after training")
  drawing.legend(
    *over_time.get_legend_handles_labels(),
    loc="outside lower center",
    ncols=len(_METHODS),
  )
  caption = (
    "Bimodal regression (as in the figure above). Averaging the rewards"
    " log l = −(y − ŷ)²/2σ² + constant, as RLOO on −MSE does, counts every"
    " rollout; the logarithm of the average likelihood is led by the best."
    " Left: median and middle half of the test prompts of all seeds. Right:"
    " prompts of one seed after training; Jensen's inequality puts all above"
    " the diagonal."
  )
  return Result(
    "Jensen: average of rewards against log of the average",
    [Drawing("jensen", drawing, caption)],
    _claims(runs),
    [],
  )


def _draw_gaps(ax, runs) -> None:
  """Median and middle half over prompts and seeds, during training."""
  for label, run in runs.items():
    gaps = run["log_average"] - run["average_log"]
    low, median, high = np.quantile(gaps, (0.25, 0.5, 0.75), axis=(0, 2))
    plotting.curve(
      ax,
      run["step"],
      median,
      low=low,
      high=high,
      colour=bimodal.COLOURS[label],
      label=label,
    )
  ax.set(
    title="gap of a prompt, during training",
    xlabel="steps",
    ylabel="log E[l] − E[log l], nats",
    ylim=(0, None),
  )


def _draw_prompts(ax, label: str, run) -> None:
  x, y = run["average_log"][0, -1], run["log_average"][0, -1]
  colour = bimodal.COLOURS[label]
  ax.plot(x, y, ".", ms=2, alpha=0.3, color=colour, rasterized=True)
  low = min(x.min(), y.min())
  ax.plot([low, 0], [low, 0], color="0.5", lw=0.8, ls="--")
  ax.set(title=label, xlabel="E[log l] after training")


def _claims(runs) -> list[Claim]:
  gaps = {
    label: (run["log_average"] - run["average_log"]).mean(-1)[:, -1]
    for label, run in runs.items()
  }
  wider = stats.difference_interval(gaps["T = 31"], gaps["RLOO on −MSE"])
  return [
    Claim(
      "jensen.gap",
      "blog post, Jensen and Taylor",
      "Training the average reward leaves a smaller gap than training the"
      " likelihood.",
      ", ".join(f"{k}: {g.mean():.2f} nats" for k, g in gaps.items())
      + f"; difference {in_words(wider, '.2f')}",
      "T = 31 above RLOO on −MSE by a 95 % interval",
      bool(firm(wider).low > 0),
    ),
  ]
