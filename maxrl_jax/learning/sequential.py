"""Rollouts drawn in waves until a prompt is solved, and their loss."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from maxrl_jax import losses, options, ranges, symmetric
from maxrl_jax.devices.mesh import ONE_DEVICE, Layout
from maxrl_jax.learning import rollouts, sequences
from maxrl_jax.learning.batch_losses import (
  Hyper,
  Loss,
  at,
  bad_prompt,
  options_of,
)
from maxrl_jax.learning.rollouts import Rollouts
from maxrl_jax.tasks import Prompts, RegressionTask, Task

Array = jax.Array
# (key, indices of prompts [S]) → one wave of each, fields [S, m].
Draw = Callable[[Array, Array], Rollouts]

BASELINES = ("leave_one_out", "none")
_NON_OPTIONS = ("policy", "task", "wave", "layout")  # Not in a config.


class Waves(NamedTuple):
  """The last wave of each prompt, and counts of all waves.

  Attributes:
    actions: [B, m, …] of the first wave with a success, or of the first wave if
      none had one.
    log_probs: of these actions [B, m], if they are sequences; else None.
    solved: [B], whether a wave had a success.
    needed: [B], rollouts up to the end of that wave.
    drawn: [B], rollouts drawn, including later waves of the same round.
    tokens: of all rollouts drawn; None if they are not sequences.
    pass_rate: mean likelihood of the first waves.
    extremes: (−min l, max l) of all rollouts drawn; None if they are binary.
    rounds: number of pools drawn.
  """

  actions: Array
  log_probs: Array | None
  solved: Array
  needed: Array
  drawn: Array
  tokens: Array | None
  pass_rate: Array
  extremes: Array | None
  rounds: Array


def draw_until_solved(
  key: Array, draw: Draw, prompts: int, wave: int, cap: int | Array
) -> Waves:
  """Draws waves of m rollouts per prompt until one has a success, up to a cap.

  Each round draws a pool of B·m rollouts, which unsolved prompts share: with u
  of them, each gets at least ⌊B/u⌋ waves per round. These count as drawn one
  after another, so that each prompt has the estimate of order `cap` from waves
  of m, whatever the other prompts do.

  Args:
    key: a typed random key.
    draw: (key, indices of prompts [B]) → a wave of each; indices may repeat.
    prompts: B.
    wave: m.
    cap: limit of rollouts per prompt, rounded down to a multiple of m.
  """
  draw_key, coin_key = _keys(key, 0)
  first = draw(draw_key, jnp.arange(prompts))
  solved = _stops(coin_key, first.likelihoods)
  once = jnp.full(prompts, wave)
  tokens = None if first.lengths is None else jnp.sum(first.lengths)
  state = Waves(
    *_kept(first),
    solved,
    once,
    once,
    tokens,
    jnp.mean(first.likelihoods.astype(jnp.float32)),
    _extremes(first.likelihoods),
    jnp.int32(1),
  )

  def left(state: Waves) -> Array:
    return ~state.solved & (state.drawn + wave <= cap)

  def next_round(state: Waves) -> Waves:
    return _fill(key, draw, wave, cap, left(state), state)

  return lax.while_loop(lambda state: jnp.any(left(state)), next_round, state)


def _fill(
  key: Array,
  draw: Draw,
  wave: int,
  cap: int | Array,
  left: Array,
  state: Waves,
) -> Waves:
  """One more pool of waves for the prompts left."""
  place = jnp.arange(left.shape[0])
  # None are left in a run that is vmapped with runs that have some.
  count = jnp.maximum(jnp.sum(left), 1)
  owner = jnp.argsort(~left, stable=True)[place % count]
  ends = state.drawn[owner] + (place // count + 1) * wave
  allowed = ends <= cap
  draw_key, coin_key = _keys(key, state.rounds)
  drawn = draw(draw_key, owner)
  success = allowed & _stops(coin_key, drawn.likelihoods)
  none = left.shape[0]
  first = jnp.full(none, none).at[owner].min(jnp.where(success, place, none))
  now = first < none
  first = jnp.where(now, first, 0)

  def update(old: Array, new: Array) -> Array:
    shape = (-1,) + (1,) * (old.ndim - 1)
    return jnp.where(now.reshape(shape), new[first], old)

  total = state.drawn.at[owner].add(jnp.where(allowed, wave, 0))
  tokens = None
  if state.tokens is not None and drawn.lengths is not None:
    tokens = state.tokens + jnp.sum(drawn.lengths * allowed[:, None])
  extremes = _extremes(drawn.likelihoods)
  if state.extremes is not None and extremes is not None:
    extremes = jnp.maximum(state.extremes, extremes)
  before = state.actions, state.log_probs
  actions, log_probs = jax.tree.map(update, before, _kept(drawn))
  return state._replace(
    actions=actions,
    log_probs=log_probs,
    solved=state.solved | now,
    needed=jnp.where(now, ends[first], jnp.where(left, total, state.needed)),
    drawn=total,
    tokens=tokens,
    extremes=extremes,
    rounds=state.rounds + 1,
  )


def _kept(drawn: Rollouts) -> tuple[Array, Array | None]:
  """Actions, and their log-probabilities if they are sequences."""
  return drawn.actions, None if drawn.lengths is None else drawn.log_probs


def _extremes(likelihoods: Array) -> Array | None:
  """(−min l, max l), NaN if any is; None if l is binary."""
  if likelihoods.dtype == bool:
    return None
  l = likelihoods.astype(jnp.float32)
  # XLA drops a NaN from a maximum over several devices.
  both = jnp.stack([jnp.max(-l), jnp.max(l)])
  return jnp.where(jnp.any(jnp.isnan(l)), jnp.nan, both)


def _keys(key: Array, round: int | Array) -> Array:
  """Keys of a round, for rollouts and for the coins of `_stops`."""
  return jax.random.split(jax.random.fold_in(key, round))


def _stops(key: Array, likelihoods: Array) -> Array:
  """Whether each wave [S, m] has a success, which l is the probability of."""
  if likelihoods.dtype == bool:
    return jnp.any(likelihoods, -1)
  l = likelihoods.astype(symmetric.compute_dtype(likelihoods))
  coarse, fine = jax.random.uniform(key, (2, l.shape[0]), l.dtype)
  # Finer than multiples of 2⁻²³, since chances may be smaller.
  coin = coarse + fine * 2.0**-23
  # 1 − Π (1 − l), with the digits of small chances.
  return coin < -jnp.expm1(jnp.sum(jnp.log1p(-l), -1))


def last_wave_advantages(
  likelihoods: Array, solved: Array, baseline: str
) -> Array:
  """A_j [m] of the wave that solved a prompt, 0 if none did.

      A_j = (ω_j l_j − b_j) / (1 − Π_i (1 − l_i))

  with the weights ω and baselines b of order m (`symmetric.leave_one_out`), or
  b = 0. For binary l this is `estimators.sequential` of these waves. For graded
  l it is the mean of that estimate over binary rewards with probabilities l,
  given that the wave has a success; it is unbiased, too.
  """
  l = likelihoods.astype(symmetric.compute_dtype(likelihoods))
  one_out = symmetric.leave_one_out(likelihoods, likelihoods.shape[0])
  weighted = one_out.weights * l
  chance = jnp.mean(weighted)  # 1 − Π_i (1 − l_i), without cancellation.
  if baseline == "leave_one_out":
    weighted -= one_out.baselines
  stopped = solved & (chance > 0)
  return jnp.where(stopped, weighted / jnp.where(stopped, chance, 1), 0)


def build(
  policy: nn.Module,
  task: Task,
  wave: int,
  given: dict[str, Any],
  layout: Layout = ONE_DEVICE,
) -> Loss:
  """`sequential` with the options of a config, checked."""
  options.check(
    "sequential", sequential, given, block="estimator.", exclude=_NON_OPTIONS
  )
  cap, baseline = given["cap"], given.get("baseline", BASELINES[0])
  if cap < wave or cap % wave:
    raise ValueError(
      f"estimator.cap = {cap}: must be a multiple of rollouts = {wave}, the"
      " size of a wave"
    )
  ranges.one_of(BASELINES, of="estimator.", baseline=baseline)
  return sequential(policy, task, wave, layout=layout, **given)


def sequential(
  policy: nn.Module,
  task: Task,
  wave: int,
  *,
  cap: int | Array,
  baseline: str = BASELINES[0],
  layout: Layout = ONE_DEVICE,
) -> Loss:
  """The loss of waves of m rollouts until a prompt is solved.

  Args:
    policy: the module.
    task: the task.
    wave: m.
    cap: T, limit of rollouts per prompt; the gradient is that of −J_T.
    baseline: one of `BASELINES`. Others need the waves without a success, which
      are not in memory.
    layout: which devices have which prompts.
  """
  by_dimension = isinstance(task, RegressionTask)

  def loss(
    params: Any, key: Array, prompts: Prompts, hyper: Hyper | None = None
  ) -> tuple[Array, dict[str, Any]]:
    limit = options_of(hyper, "estimator").get("cap", cap)
    outputs, statistics = rollouts.forward(policy, params, prompts.inputs)
    task_of_run = at(task, hyper)
    frozen, *fixed = lax.stop_gradient((params, prompts, outputs))
    prepared = rollouts.prepare(policy, frozen, fixed[1])

    def joint(drawn: Rollouts) -> Rollouts:
      return jax.vmap(rollouts.joint)(drawn) if by_dimension else drawn

    def draw(key: Array, owner: Array) -> Rollouts:
      some, some_outputs = jax.tree.map(lambda x: x[owner], fixed)
      drawn = rollouts.sample_batch(
        *(key, policy, frozen, some, task_of_run, wave),
        *(some_outputs, prepared, owner),
      )
      return joint(drawn)

    count = prompts.size
    waves = draw_until_solved(key, draw, count, wave, limit)
    last = rollouts.score_batch(
      waves.actions, policy, params, prompts, task_of_run, outputs
    )
    if waves.log_probs is None:
      last = joint(last)
    else:  # Scored again where a wave had a success.
      last = last._replace(log_probs=waves.log_probs)
      last = sequences.differentiable(
        *(last, policy, params, outputs, waves.solved),
        whole=layout.mesh is not None,
      )

    def group(last: Rollouts, solved: Array) -> Array:
      l = lax.stop_gradient(last.likelihoods)
      advantages = last_wave_advantages(l, solved, baseline)
      return losses.surrogate(last.log_probs, advantages)

    values = jax.vmap(group)(last, waves.solved)
    places = bad_prompt(values, last.likelihoods)
    return jnp.mean(values), _metrics(waves) | places | statistics

  return loss


def _metrics(waves: Waves) -> dict[str, Array]:
  def mean(x: Array) -> Array:
    return jnp.mean(x.astype(jnp.float32))

  metrics = {
    "pass_rate": waves.pass_rate,
    "solved": mean(waves.solved),
    "rollouts_needed": mean(waves.needed),
    "rollouts_drawn": mean(waves.drawn),
    "rounds": waves.rounds.astype(jnp.float32),
  }
  if waves.extremes is not None:  # For `guards.check_metrics`.
    metrics["likelihood_min"] = -waves.extremes[0]
    metrics["likelihood_max"] = waves.extremes[1]
  if waves.tokens is not None:
    metrics["tokens"] = waves.tokens.astype(jnp.float32)
  return metrics
