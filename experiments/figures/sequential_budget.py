"""One budget of rollouts: sequential, fixed groups, and others' samplers."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from configs import budget
from experiments.reports.results import Claim, Drawing, Result, Table, larger
from experiments.samplers import SAMPLERS, Budget
from maxrl_jax import plotting
from maxrl_jax.learning import rollouts, update
from maxrl_jax.runs import cache, files
from maxrl_jax.runs.choose import Choice, best_rate, rate_text
from maxrl_jax.runs.progress import listed
from maxrl_jax.tasks import Exact

_LOOKS = {
  "sequential": {"colour": "#0072B2", "label": "sequential"},
  "likely_first": {"colour": "#CC79A7", "label": "p(1 − p)^N, exact p"},
  "ada_sequential": {"colour": "#D55E00", "label": "Reinforce-Ada, sequential"},
  "ada_estimated": {"colour": "#009E73", "label": "Reinforce-Ada, estimated"},
  "dynamic": {"colour": "#804502", "label": "dynamic sampling (DAPO)"},
}
_VERSION = 1  # Increase when the results of a run change.


class Settings(NamedTuple):
  """Choices of the figure; a run ends once `total` rollouts are drawn.

  Fixed groups draw `per_step` rollouts in a step, for per_step / N prompts; the
  samplers draw for `prompts` prompts in waves of `wave`, `cap` at most.
  """

  total: int = 600_000
  per_step: int = 2048
  fixed: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024)
  prompts: int = 64
  wave: int = 16
  cap: int = 1024
  most_batches: int = 32
  rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
  seeds: int = 5
  chunk: int = 10
  warmup: int = 20


PRESETS = {
  "quick": Settings(),
  "full": Settings(
    total=8_000_000, rates=(1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3, 1e-2)
  ),
}


def _config(settings: Settings, method: str):
  """Two digits; a constant rate, as the number of steps is not known."""
  config = budget.get_config()
  config.optimizer.warmup = settings.warmup
  config.optimizer.schedule = "constant"
  config.estimator.baseline = "none"
  config.batch_size, config.rollouts = settings.prompts, settings.wave
  if method.startswith("fixed"):
    config.rollouts = int(method.split()[1])
    config.batch_size = settings.per_step // config.rollouts
  elif method == "sequential":
    config.estimator.name, config.estimator.cap = "sequential", settings.cap
  return config


@functools.cache
def _compiled(settings: Settings, method: str):
  """(start, chunk of steps, test scores) of a method, for one run."""
  config = _config(settings, method)
  run = update.make_run(config, None, (), None)
  if method in SAMPLERS:
    cap = settings.most_batches if method == "dynamic" else settings.cap
    mean = settings.per_step // settings.prompts
    sizes = Budget(settings.prompts, settings.wave, mean, cap)
    loss = SAMPLERS[method](run.policy, run.task, sizes)
    run = dataclasses.replace(run, loss=loss)

  def chunk(state, key):
    step = lambda state, _: run.step(state, key)  # noqa: E731
    state, metrics = jax.lax.scan(step, state, None, settings.chunk)
    fixed = jnp.full(settings.chunk, float(config.rollouts))
    drawn = metrics.get("rollouts_drawn", fixed) * config.batch_size
    return state, jnp.sum(metrics.get("rollouts", drawn))

  def scores(params, split):
    assert isinstance(run.task, Exact)
    prompts = run.task.splits[split]
    log_p = rollouts.log_pass_rates(run.policy, params, prompts, run.task)
    p = jnp.exp(log_p)
    return jnp.stack([jnp.mean(p), jnp.mean(1 - (1 - p) ** 16)])

  return jax.jit(run.init), jax.jit(chunk), jax.jit(scores, static_argnums=1)


def _train(settings: Settings, method: str, rate: float, seed: int):
  """Rollouts so far, and test pass@1 and pass@16, after every chunk."""
  start, chunk, scores = _compiled(settings, method)
  first, key = jax.random.split(jax.random.fold_in(jax.random.key(7), seed))
  state = start(first, {"optimizer.learning_rate": jnp.float32(rate)})
  drawn, tested = [0.0], [scores(state.params, "test")]
  while drawn[-1] < settings.total:
    state, more = chunk(state, key)
    drawn.append(drawn[-1] + float(more))
    tested.append(scores(state.params, "test"))
  validation = scores(state.params, "validation")
  return {
    "drawn": np.array(drawn),
    "test": np.array(tested),
    "validation": np.array(validation),
  }


def _run(settings: Settings, method: str, rate: float, seed: int, runs):
  """`_train`, cached."""
  fields = settings._replace(rates=(), seeds=0, fixed=())
  key = f"budget-{files.digest([_VERSION, *fields, method, rate, seed])}"
  train = lambda _: _train(settings, method, rate, seed)  # noqa: E731
  return cache.cached(runs, key, train)


def _choose(settings: Settings, method: str, runs) -> Choice:
  """By validation pass@1 of a seed that is not reported."""
  scores = [
    _run(settings, method, rate, 1000, runs)["validation"][0]
    for rate in settings.rates
  ]
  return best_rate(method, settings.rates, scores)


def figure(settings: Settings, runs) -> Result:
  """pass@1 and pass@16 by rollouts drawn so far."""
  methods = [f"fixed {n}" for n in settings.fixed] + [*_LOOKS]
  choices = {m: _choose(settings, m, runs) for m in methods}
  every = {
    m: [_run(settings, m, c.rate, i, runs) for i in range(settings.seeds)]
    for m, c in choices.items()
  }
  caption = (
    f"Strings of two digits (100 classes), {settings.total:,} rollouts in all."
    f" Fixed groups of N for {settings.per_step}/N strings per step; the others"
    f" for {settings.prompts} strings in waves of {settings.wave}, at most"
    f" {settings.cap} per string (dynamic sampling: groups of {settings.wave},"
    f" at most {settings.most_batches} batches). Adam at a constant rate, for"
    f" each chosen from {listed(settings.rates)} on"
    f" another seed; {plotting.seeds_in_words(settings.seeds)}. Fixed groups,"
    " sequential and p(1 − p)^N have no baseline. Samplers of others are our"
    " reading of them. Of the fixed groups the smallest, the largest and the"
    " best are drawn."
  )
  finals = {
    m: np.stack([_at_end(settings, run) for run in of_seeds])
    for m, of_seeds in every.items()
  }
  at_end = {m: scores[:, 0] for m, scores in finals.items()}
  ends = [f"fixed {settings.fixed[i]}" for i in (0, -1)]
  shown = {*ends, _best_fixed(at_end), *_LOOKS}
  curves = {m: of_seeds for m, of_seeds in every.items() if m in shown}
  return Result(
    "One budget of rollouts: who gets them",
    [Drawing("sequential_budget", _draw(settings, curves), caption)],
    _claims(at_end),
    [_table(finals, choices, every)],
  )


def _at_end(settings: Settings, run) -> np.ndarray:
  """Scores [2] at the end of the budget, which is within the last chunk."""
  return np.array(
    [np.interp(settings.total, run["drawn"], x) for x in run["test"].T]
  )


def _look(settings: Settings, method: str) -> dict:
  if method in _LOOKS:
    return _LOOKS[method]
  size = int(method.split()[1])
  look = plotting.by_rank(size, settings.fixed, grey=True)
  return look | {"label": f"fixed N = {size}"}


def _draw(settings: Settings, every):
  drawing, axes = plotting.axes(columns=4, width=3.2, height=3.4)
  fixed = [m for m in every if m.startswith("fixed")]
  for index, ax in enumerate(axes):
    score = index % 2
    others = fixed if index < 2 else [*_LOOKS][1:]
    for method in (*others, "sequential"):
      _curves(ax, every[method], score, _look(settings, method))
    ax.set(
      title=("pass@1", "pass@16")[score],
      xlabel="thousand rollouts so far",
      xlim=(0, settings.total / 1e3),
      ylim=(-0.02, 1.02),
    )
  axes[0].set_ylabel("held-out score")
  plotting.legend_below(drawing, axes, 5)
  return drawing


def _curves(ax, of_seeds, score: int, look: dict) -> None:
  """Seeds, and their mean on a common grid."""
  grid = np.linspace(0, min(run["drawn"][-1] for run in of_seeds), 60)
  each = [np.interp(grid, r["drawn"], r["test"][:, score]) for r in of_seeds]
  plotting.seed_curves(ax, grid / 1e3, np.stack(each), **look)


def _best_fixed(finals: dict[str, np.ndarray]) -> str:
  fixed = [m for m in finals if m.startswith("fixed")]
  return max(fixed, key=lambda m: np.mean(finals[m]))


def _claims(finals: dict[str, np.ndarray]) -> list[Claim]:
  """From pass@1 after the last rollout, [seeds] of each method."""
  best = _best_fixed(finals)
  against = {"fixed": f"the best fixed group (N = {best.split()[1]})"}
  against |= {m: _LOOKS[m]["label"] for m in _LOOKS if m != "sequential"}
  return [
    larger(
      f"sequential_budget.{name}",
      "own",
      f"With the same rollouts, sequential ends above {words} in pass@1.",
      finals["sequential"],
      finals[best if name == "fixed" else name],
    )
    for name, words in against.items()
  ]


def _table(finals, choices, every) -> Table:
  rows = [
    [
      _LOOKS.get(m, {"label": m})["label"],
      rate_text(choices[m]),
      *scores.T,
      f"{np.mean([len(run['drawn']) - 1 for run in every[m]]):.0f}",
    ]
    for m, scores in finals.items()
  ]
  return Table(
    "Test split at the end of the budget, mean ± half the 95 % interval.",
    ["method", "rate", "pass@1", "pass@16", "chunks of steps"],
    rows,
  )
