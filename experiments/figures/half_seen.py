"""Half-seen mazes: the right answer is random, its distribution known."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from configs import half_seen
from experiments.figures import maze_runs, maze_settings, set_steps, warm_ups
from experiments.figures.half_seen_drawings import (
  KS,
  draw,
  draw_prompts,
  final,
  label_of,
  table,
)
from experiments.reports.results import (
  Claim,
  Drawing,
  Result,
  bounded,
  in_words,
  larger,
)
from maxrl_jax import config as configs
from maxrl_jax import plotting, stats
from maxrl_jax.evaluation import batches, reference
from maxrl_jax.runs.measure import Measure
from maxrl_jax.runs.study import Study, study
from maxrl_jax.tasks.mazes import language
from maxrl_jax.tasks.mazes.posterior import Posterior, posterior

_NEAR = 0.02  # Claims treat coverages that are this close as equal.
_BATCH = 16  # Prompts whose answers are scored at a time.
_PROMPTS = (
  "Two held-out prompts, of median and of the highest entropy, each with its"
  " four likeliest answers and their exact probabilities. White: a passage;"
  " dark: a wall; question mark: unknown."
)


class Settings(NamedTuple):
  """Choices of the figure; the rest is in configs/half_seen.py.

  `orders` are from T = 1, which is RLOO, to N − 1.
  """

  size: int = 7  # Of a maze, walls included.
  unknown: float = 0.75  # Fraction of the places between cells.
  layers: int = 2
  width: int = 64
  batch_size: int = 16  # Mazes per update of RL, and of cross-entropy.
  rollouts: int = 64  # Per maze.
  orders: tuple[int, ...] = (1, 4, 16, 63)
  warmup: int = 6000  # Steps.
  steps: int = 200  # After the warm-up.
  evaluations: int = 2
  rate: float = 5e-4  # Of all methods.
  mazes: int = 128  # Held out.
  seeds: int = 3


PRESETS = {
  "quick": Settings(),
  "full": Settings(
    size=9,
    layers=3,
    batch_size=32,
    orders=(1, 2, 4, 8, 16, 32, 63),
    warmup=20_000,
    steps=3000,
    evaluations=10,
    rate=3e-4,
    mazes=256,
    seeds=5,
  ),
}


def config_of(settings: Settings, stage: str) -> Any:
  """The config of a stage, 'warmup' or 'rl', without its steps."""
  config = half_seen.get_config(stage)
  config.task.unknown = settings.unknown
  maze_settings.set_sizes(config, settings, stage)
  config.eval_rollouts = KS[-1]
  if stage == "rl":
    config.optimizer.learning_rate = settings.rate
  return config


def _methods(settings: Settings) -> dict[str, tuple[str, int | None]]:
  """Name and order of the estimator, by label."""
  orders = {label_of(order): ("maxrl", order) for order in settings.orders}
  return {
    "cross-entropy": ("supervised", None),
    **orders,
    "GRPO": ("grpo", None),
  }


def studies(settings: Settings, runs) -> dict[str, Study]:
  """Every method, from one warm-up on demonstrations."""
  if settings.orders[:1] != (1,) or len(settings.orders) < 2:
    raise ValueError(
      f"orders = {settings.orders}: must begin with 1, which is RLOO, and have"
      " another one"
    )
  warm = warm_ups.trained(
    config_of(settings, "warmup"), settings.warmup, runs, "maze"
  )
  config = config_of(settings, "rl")
  config.policy.checkpoint = str(warm)
  set_steps(config, settings.steps, settings.evaluations)
  grid: dict[Any, Any] = {
    ("estimator.name", "estimator.order"): list(_methods(settings).values())
  }
  measure = Measure(splits=(), ks=KS, probe=walks, at_start=True)
  seeds = range(1, settings.seeds + 1)
  return {"methods": study(config, grid, seeds, measure)}


def walks(trainer):
  """params → `reference.calibration` on the test split, with `KS`.

  A policy's probability of a path is the probability of its moves: the verifier
  ignores what follows, and policies trained by RL continue to write.
  """
  prompts = trainer.task.splits["test"]
  length = trainer.task.policy_options["max_length"]
  known = posterior(prompts.inputs, length)
  policy = trainer.policy
  moves = np.sum(known.answers >= language.UP, -1)
  pairs = prompts._replace(targets=(jnp.asarray(known.answers), moves))

  def measure(params):
    def log_probs(batch, _):
      answers, moves_of = batch.targets
      outputs = policy.apply(params, batch.inputs)
      log_pi = jnp.zeros(answers.shape[:2])
      for num in np.unique(moves[moves > 0]):
        begun = answers[..., :num]
        scores = policy.apply(params, outputs, begun, method="score")
        log_pi = jnp.where(moves_of == num, scores.log_probs, log_pi)
      return log_pi

    log_pi = batches.in_batches(log_probs, pairs, _BATCH)
    q = jnp.asarray(known.probabilities, log_pi.dtype)
    return reference.calibration(q, log_pi, KS)

  return measure


def _known(settings: Settings) -> tuple[Any, Posterior]:
  """Held-out prompts and the posteriors of their answers."""
  task = configs.make_task(config_of(settings, "rl"))
  prompts = task.splits["test"]
  return prompts, posterior(prompts.inputs, task.policy_options["max_length"])


def ideal(q: np.ndarray, orders) -> dict[int | None, dict[str, np.ndarray]]:
  """Calibration of the optimum of every order; None is the posterior itself."""
  policies = {order: reference.optimum(q, order) for order in orders}
  with np.errstate(divide="ignore"):
    return {
      order: jax.tree.map(
        np.asarray, reference.calibration(q, np.log(policy), KS)
      )
      for order, policy in [*policies.items(), (None, q)]
    }


def figure(settings: Settings, runs) -> Result:
  """pass@k and calibration by method and order, beside the exact optima."""
  what = studies(settings, runs)["methods"]
  by_method = maze_runs.train(what, runs, _methods(settings))
  prompts, known = _known(settings)
  q = known.probabilities
  exact = ideal(q, settings.orders)
  best = reference.distinct_guesses(q, KS)
  caption = _caption(settings, q)
  return Result(
    "Half-seen mazes: the right answer is random",
    [
      Drawing("half_seen", draw(settings.orders, by_method, exact), caption),
      Drawing("half_seen_prompts", draw_prompts(prompts, known), _PROMPTS),
    ],
    _claims(by_method, settings.orders),
    [table(by_method, exact, best)],
  )


def _caption(settings: Settings, q: np.ndarray) -> str:
  return (
    f"Mazes of {settings.size} × {settings.size} with {settings.unknown:.0%} of"
    f" the places between cells unknown: {(q > 0).sum(1).mean():.1f} answers"
    f" may be right, with an entropy of {reference.entropy(q).mean():.2f} nats."
    f" {settings.steps} steps from one warm-up of {settings.warmup} steps on"
    f" demonstrations, {settings.batch_size} mazes ×"
    f" {settings.rollouts} rollouts, Adam at {settings.rate:g} for all. Left:"
    " expected pass@k, from the exact probabilities of the answers and the"
    " policy's; dashed, that of maximum likelihood's optimum, which is the"
    " posterior (the table has the warm-up and the best k distinct answers)."
    " Others: MaxRL by order, where T = 1 is RLOO; horizontal lines"
    " are cross-entropy and GRPO; dashed grey is the exact optimum of J_T."
    f" {settings.mazes} held-out prompts; left"
    f" {plotting.seeds_in_words(settings.seeds)}."
  )


def _claims(by_method, orders) -> list[Claim]:
  """From exact expected pass@k and total variation after training."""
  highest, k = label_of(max(orders)), f"pass@{KS[-1]}"
  at_k = {label: final(run, k) for label, run in by_method.items()}
  lost = stats.difference_interval(at_k[highest], at_k["cross-entropy"])
  claims = [
    bounded(
      "half_seen.coverage",
      "own",
      f"{highest} ends within {_NEAR} of cross-entropy in {k}, or above it.",
      lost,
      above=-_NEAR,
    ),
    _falls(by_method, orders),
  ]
  for label in ("GRPO", label_of(1)):
    gap = stats.difference_interval(at_k["cross-entropy"], at_k[label])
    name = "grpo" if label == "GRPO" else "rloo"
    claims.append(
      bounded(
        f"half_seen.{name}",
        "own",
        f"{label} ends more than {_NEAR} below cross-entropy in {k}.",
        gap,
        above=_NEAR,
      )
    )
  return [
    *claims,
    larger(
      "half_seen.single_guess",
      "own",
      f"RL aims at the single best guess: {label_of(1)} ends above {highest} in"
      " pass@1.",
      final(by_method[label_of(1)], "pass@1"),
      final(by_method[highest], "pass@1"),
    ),
  ]


def _falls(by_method, orders) -> Claim:
  """Holds if the distance falls between all neighbouring orders."""
  distances = [final(by_method[label_of(t)], "total_variation") for t in orders]
  pairs = itertools.pairwise(zip(orders, distances, strict=True))
  means = ", ".join(f"{np.mean(x):.3f}" for x in distances)
  falls = {
    f"from {low} to {high}": stats.difference_interval(before, after)
    for (low, before), (high, after) in pairs
  }
  words = [f"{in_words(fall)} {name}" for name, fall in falls.items()]
  return bounded(
    "half_seen.order",
    "own, equation 7",
    "The total variation to the posterior falls from each order to the next"
    f" (T = {', '.join(map(str, orders))}).",
    falls,
    above=0,
    measured=f"{means}; falls {', '.join(words)}",
  )
