"""Figure 5: classification as RL on real digits (paper, figures 2 and 9)."""

import itertools
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from configs import digits
from experiments.reports.results import Claim, Drawing, Result, Table, larger
from maxrl_jax import plotting
from maxrl_jax.runs import choose, dataset, study
from maxrl_jax.runs.choose import Choice, Tuning
from maxrl_jax.runs.measure import Measure

KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Method(NamedTuple):
  """A line of the figure; without rollouts, an exact objective."""

  estimator: str
  rollouts: int | None
  label: str


METHODS = {  # By study.
  "exact": (Method("cross_entropy", None, "cross-entropy"),),
  "sampled": (
    Method("maxrl", 1024, "MaxRL 1024"),
    Method("maxrl", 128, "MaxRL 128"),
    Method("maxrl", 16, "MaxRL 16"),
    Method("grpo", 1024, "GRPO 1024"),
    Method("grpo", 128, "GRPO 128"),
    Method("rloo", 1024, "REINFORCE 1024"),
  ),
}
_LEAST = 16  # Rollouts of the method that only the tables show.
# From best to worst: each is claimed to beat the next.
_ORDERING = (
  "cross-entropy",
  "MaxRL 1024",
  "GRPO 1024",
  "MaxRL 128",
  "GRPO 128",
)


class Settings(NamedTuple):
  """Choices of the figure; `rates` are tried for every method.

  `share` is the fraction of cross-entropy's pass@1 that MaxRL is claimed to
  reach.
  """

  rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3)
  tuning_steps: int = 300
  steps: int = 700
  seeds: int = 3
  batch_size: int = 64
  hidden: tuple[int, ...] = (256, 256)
  warmup: int = 50
  eval_every: int = 100
  share: float = 0.6


PRESETS = {
  "quick": Settings(),
  "full": Settings(
    rates=(5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3),
    tuning_steps=3000,
    steps=8000,
    seeds=5,
    batch_size=128,
    hidden=(512, 512),
    warmup=500,
    eval_every=200,
    share=0.9,
  ),
}


def studies(settings: Settings, runs) -> dict[str, study.Study]:
  """Estimators with their rollouts, and exact maximum likelihood."""
  del runs
  config = digits.get_config()
  set_sizes(config, settings)
  fields = ("estimator.name", "rollouts")
  sampled = {fields: [method[:2] for method in METHODS["sampled"]]}
  exact = {fields[0]: [method.estimator for method in METHODS["exact"]]}
  seeds = range(1, settings.seeds + 1)
  measure = Measure(splits=("validation", "test"), ks=KS)
  return {
    "sampled": study.study(config, sampled, seeds, measure),
    "exact": study.study(config, exact, seeds, measure),
  }


def set_sizes(config, settings) -> None:
  """Sets the fields that all figures of digit strings have settings for."""
  config.steps, config.batch_size = settings.steps, settings.batch_size
  config.log_every = config.eval_every = settings.eval_every
  config.policy.hidden = settings.hidden
  config.optimizer.warmup = settings.warmup


class Trained(NamedTuple):
  """A method's runs, its learning rate, and the score of each rate."""

  data: xr.Dataset
  choice: Choice
  scores: np.ndarray


def _train(settings: Settings, runs) -> dict[Method, Trained]:
  return train(studies(settings, runs), METHODS, settings, runs)


def train(planned, methods, settings, runs) -> dict[Any, Trained]:
  """`Trained` of each point of some studies.

  Args:
    planned: studies by name.
    methods: of each study's points, by the study's name, in the order to train.
    settings: with `rates` and `tuning_steps`.
    runs: folder of cached runs.
  """
  tuning = Tuning(settings.rates, seeds=(1000,), steps=settings.tuning_steps)
  trained = {}
  for name, labels in methods.items():
    # One run at a time: a plain matrix product is faster than a batched one,
    # and no run waits for the one with the most waves.
    tuned = choose.run(planned[name], tuning, runs, slice_size=1)
    data = dataset.by_point(tuned.data, labels)
    rows = zip(data.items(), tuned.choices, tuned.scores, strict=True)
    for (method, runs_of), choice, scores in rows:
      trained[method] = Trained(runs_of, choice, scores)
  return trained


def figure(settings: Settings, runs) -> Result:
  """Scores after training by method; over steps; coverage at the end."""
  trained = _train(settings, runs)
  caption = (
    "Held-out strings of three real digits (1000 classes, initial pass rate"
    f" 0.1 %) after {settings.steps} steps; a dot is a seed, a line their mean."
    " The number is the rollouts per prompt; REINFORCE subtracts the"
    " leave-one-out mean."
  )
  over_steps = (
    f"Held-out scores by rollouts per prompt over steps; MLP"
    f" {settings.hidden}, batch {settings.batch_size}, Adam with cosine;"
    f" {plotting.seeds_in_words(settings.seeds)}. MaxRL with 16 rollouts is in"
    " the table."
  )
  finals = _finals(trained, "pass@1")
  return Result(
    "Digit strings: classification as RL (paper, figures 2 and 9)",
    [
      Drawing("digits", _draw_ends(trained), caption),
      Drawing("digits_over_steps", _draw(trained), over_steps),
    ],
    _claims(finals, settings.share),
    [_results_table(trained), tuning_table(trained, settings)],
    summary=_summary(finals, _finals(trained, "pass@128")),
  )


def _summary(first, many) -> str:
  """Scores of the methods with the most rollouts, from scores by label."""
  reached = ", ".join(
    f"{label} {first[label].mean():.2f} ({many[label].mean():.2f})"
    for label in (*_ORDERING[:3], "REINFORCE 1024")
  )
  share = first["MaxRL 1024"].mean() / first["cross-entropy"].mean()
  return (
    "A classifier of 1000 digit strings learns from right or wrong alone,"
    " without labels. With 1024 rollouts per image MaxRL reaches"
    f" {share:.0%} of the pass@1 of cross-entropy, which sees the labels."
    f" Held-out pass@1, and pass@128 in brackets: {reached}."
  )


def _finals(trained, score: str) -> dict[str, np.ndarray]:
  """Test scores after training by label, [seeds] each."""
  return {
    method.label: dataset.final(t.data, f"test_{score}")
    for method, t in trained.items()
  }


def _look(method: Method) -> dict:
  """One colour per estimator, dotted with fewer rollouts."""
  dotted = {128: {"linestyle": (0, (1, 1))}}
  look = {"colour": plotting.COLOURS[method.estimator], "label": method.label}
  return look | dotted.get(method.rollouts or 0, {})


def _draw_ends(trained):
  """pass@1 and pass@128 after training: a row per method, a dot per seed."""
  drawing, axes = plotting.axes(columns=2, width=2.9, height=2.6)
  for ax, name in zip(axes, ("pass@1", "pass@128"), strict=True):
    finals = _finals(trained, name).values()
    for row, (method, scores) in enumerate(zip(trained, finals, strict=True)):
      colour = plotting.COLOURS[method.estimator]
      rows = np.full(len(scores), row)
      ax.plot(scores, rows, "o", ms=5, alpha=0.6, mew=0, color=colour)
      ax.plot(scores.mean(), row, "|", ms=14, mew=2, color=colour)
    ax.set(title=f"held-out {name}", xlim=(-0.02, 1.02))
    ax.set_yticks(range(len(trained)), [m.label for m in trained])
    ax.invert_yaxis()
  axes[1].tick_params(labelleft=False)
  return drawing


def _draw(trained):
  drawing, axes = plotting.axes(columns=4, width=3.1, height=3.4)
  panels = ("pass@1", "pass@128", "majority")
  for method, (data, *_) in trained.items():
    if method.rollouts == _LEAST:
      continue
    look = _look(method)
    for ax, name in zip(axes[:3], panels, strict=True):
      steps = data["eval_step"].values
      plotting.seed_curves(ax, steps, data[f"test_{name}"].values, **look)
    coverage = np.stack([dataset.final(data, f"test_pass@{k}") for k in KS], 1)
    plotting.seed_curves(axes[3], KS, coverage, **look)
  for ax, name in zip(axes[:3], panels, strict=True):
    ax.set(title=name, xlabel="steps", ylim=(-0.02, 1.02))
  axes[2].set_title("majority vote")
  axes[3].set(title="pass@k after training", xlabel="k", ylim=(-0.02, 1.02))
  plotting.every_tick(axes[3], KS[::2])
  axes[0].set_ylabel("held-out score")
  plotting.legend_below(drawing, axes[0])
  return drawing


def _claims(final: dict[str, np.ndarray], wanted: float) -> list[Claim]:
  pairs = [*itertools.pairwise(_ORDERING)]
  pairs += [("MaxRL 128", worse) for worse in ("REINFORCE 1024", "MaxRL 16")]
  share = final["MaxRL 1024"].mean() / final["cross-entropy"].mean()
  return [_beats(final, *pair) for pair in pairs] + [
    Claim(
      "digits.close_to_cross_entropy",
      "figure 2",
      f"MaxRL with 1024 rollouts reaches {wanted:.0%} of cross-entropy's"
      " pass@1.",
      f"{share:.1%} of cross-entropy's",
      f"≥ {wanted:.0%}",
      bool(share >= wanted),
    )
  ]


def _beats(final, better: str, worse: str) -> Claim:
  name = f"{better} > {worse}".lower().replace(" ", "_").replace("_>_", ".")
  return larger(
    f"digits.{name}",
    "figure 2",
    f"{better} ends above {worse} in held-out pass@1.",
    final[better],
    final[worse],
  )


def _results_table(trained) -> Table:
  scores = ("pass@1", "pass@128", "majority", "nll")
  finals = [_finals(trained, score) for score in scores]
  return Table(
    "Test split after training: mean ± half the 95 % interval over seeds.",
    ["method", "pass@1", "pass@128", "majority vote", "−log p, nats"],
    [[label, *(each[label] for each in finals)] for label in finals[0]],
  )


def tuning_table(trained: dict[Any, Trained], settings: Any) -> Table:
  """Scores of every rate, by the label of each method."""
  rows = [
    [method.label, *map(_score, t.scores), choose.rate_text(t.choice)]
    for method, t in trained.items()
  ]
  return Table(
    f"Tuning: validation pass@1 after {settings.tuning_steps} steps with one"
    " seed that is not reported; the same grid for every method. At an edge of"
    " the grid, a rate beyond it might do better still.",
    ["method", *(f"Adam {rate:g}" for rate in settings.rates), "chosen"],
    rows,
  )


def _score(value: float) -> str:
  return "diverged" if np.isnan(value) else f"{value:.3f}"
