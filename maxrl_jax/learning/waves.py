"""Rollouts drawn in waves until a prompt is solved."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from maxrl_jax import symmetric
from maxrl_jax.learning.rollouts import Rollouts

Array = jax.Array
# (key, indices of prompts [S]) → one wave of each, fields [S, m].
Draw = Callable[[Array, Array], Rollouts]


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
  solved = stops(coin_key, first.likelihoods)
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
  success = allowed & stops(coin_key, drawn.likelihoods)
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
  """Keys of a round, for rollouts and for the coins of `stops`."""
  return jax.random.split(jax.random.fold_in(key, round))


def stops(key: Array, likelihoods: Array) -> Array:
  """Whether each wave [S, m] has a success, which l is the probability of."""
  if likelihoods.dtype == bool:
    return jnp.any(likelihoods, -1)
  l = likelihoods.astype(symmetric.compute_dtype(likelihoods))
  coarse, fine = jax.random.uniform(key, (2, l.shape[0]), l.dtype)
  # Finer than multiples of 2⁻²³, since chances may be smaller.
  coin = coarse + fine * 2.0**-23
  # 1 − Π (1 − l), with the digits of small chances.
  return coin < -jnp.expm1(jnp.sum(jnp.log1p(-l), -1))
