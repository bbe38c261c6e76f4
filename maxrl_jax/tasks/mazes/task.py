"""The maze task: its splits, and the length of answers."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from maxrl_jax import ranges
from maxrl_jax.tasks import base
from maxrl_jax.tasks.mazes import generation, language, paths

Array = jax.Array

_GENERATORS: dict[str, Callable[..., generation.Maze]] = {
  "prim": generation.prim,
  "wilson": generation.wilson,
}

# One of sixteen mazes is held out for validation and one for test.
_SHARES = 16
_HELD_OUT = {"validation": 0, "test": 1}
_TRAIN = len(_HELD_OUT)


@dataclass(frozen=True)
class MazeTask(base.Task):
  """A task with shortest paths as demonstrations, at most `length` tokens."""

  length: int = field(kw_only=True)

  def demonstrations(self, target: generation.Maze) -> Array:
    """A shortest path, its tokens [length]."""
    return paths.shortest_answer(target, self.length)


def maze(
  *,
  size: int = 9,
  loops: int = 0,
  random_ends: bool = False,
  generator: str | None = None,
  unknown: float | None = None,
  train_size: int | None = None,
  max_length: int | None = None,
  eval_size: int = 256,
  task_seed: int = 0,
) -> base.Task:
  """Find the way through a random maze (arXiv 2602.02710, figures 3 and 10).

  A prompt is the maze as `language.encode` writes it. An answer is moves, DONE
  and eos, and is right if it leads to the goal: the likelihood has no gradient
  and the pass rate no exact sum. The split of a maze follows from its
  fingerprint, so no held-out maze is trained on, whatever the seed. With start
  and goal fixed there are 4 mazes of size 5, 192 of size 7, 100 352 of size 9,
  5.6·10⁸ of size 11.

  With `unknown`, the prompt hides that fraction of the places between cells,
  but the verifier knows them: given the prompt, the right answer is random. The
  split then follows from what the prompt shows, so that all mazes that fit a
  prompt are in one split. `posterior` has the exact probabilities of answers,
  with generator 'wilson', no loops and no max_length.

  Args:
    size: S, odd: the grid is S × S.
    loops: walls opened beyond a spanning tree, so that several paths exist.
    random_ends: draw start and goal too, rather than opposite corners.
    generator: 'prim', or 'wilson' for uniform spanning trees; None is 'prim'.
    unknown: fraction of the places between neighbouring cells that the prompt
      hides, rounded to a whole number of them; None hides none.
    train_size: number of mazes in a fixed training set; None draws fresh ones.
    max_length: most tokens of an answer, including DONE and eos; None lets any
      path fit. Mazes whose shortest path does not fit are not drawn.
    eval_size: mazes in each fixed split.
    task_seed: of the fixed splits and of the fixed training set.

  Raises:
    ValueError: naming the field; an even size, too few mazes to hold some out,
      or a max_length below the shortest paths.
  """
  _check(size, loops, generator, unknown, train_size, eval_size)
  length = _longest_answer(size) if max_length is None else max_length
  hidden = round((unknown or 0) * generation.num_connections(size))
  make = _Make(generator or "prim", size, loops, random_ends, hidden)
  _check_supply(make, length)
  prompts = _drawing(make, length)
  keys = jax.random.split(jax.random.key(task_seed), len(_HELD_OUT) + 1)
  splits = {
    name: prompts(split, key, eval_size)
    for (name, split), key in zip(_HELD_OUT.items(), keys, strict=False)
  }
  pool = prompts(_TRAIN, keys[-1], train_size or eval_size)
  splits["train"] = jax.tree.map(lambda x: x[:eval_size], pool)

  def draw(key: Array, batch: int) -> base.Prompts:
    if train_size is None:
      return prompts(_TRAIN, key, batch)
    return base.uniform_rows(key, pool, batch)

  return MazeTask(
    draw=draw,
    splits=splits,
    likelihoods=language.verify,
    length=length,
    policies=("transformer",),
    policy_options={
      "vocab_size": len(language.VOCABULARY),
      "max_length": length,
      "eos": language.EOS,
    },
  )


class _Drawn(NamedTuple):
  """A maze, and the part of it that its prompt shows."""

  maze: generation.Maze
  seen: generation.Maze


@dataclass(frozen=True)
class _Make:
  """key → one maze; equal settings share compiled functions."""

  generator: str
  size: int
  loops: int
  random_ends: bool
  hidden: int

  def __call__(self, key: Array) -> _Drawn:
    draw = functools.partial(
      _GENERATORS[self.generator],
      size=self.size,
      loops=self.loops,
      random_ends=self.random_ends,
    )
    if not self.hidden:
      maze = draw(key)
      return _Drawn(maze, maze)
    maze_key, hide_key = jax.random.split(key)
    maze = draw(maze_key)
    return _Drawn(maze, generation.hide(hide_key, maze, self.hidden))


@functools.cache
def _drawing(
  make: _Make, length: int
) -> Callable[[Any, Array, int], base.Prompts]:
  """(split, key, count) → mazes of a split whose answers fit, compiled."""

  def fits(maze: generation.Maze) -> Array:
    if length >= _longest_answer(make.size):
      return jnp.array(True)
    return paths.answer_length(maze) <= length

  def draw_split(split: Array, key: Array) -> _Drawn:
    """One maze of the split with this number."""

    def again(state: Any) -> Array:
      _, drawn = state
      return (_split_of(drawn.seen) != split) | ~fits(drawn.maze)

    def redraw(state: Any) -> tuple[Array, Any]:
      key, draw_key = jax.random.split(state[0])
      return key, make(draw_key)

    return lax.while_loop(again, redraw, redraw((key, None)))[1]

  @functools.partial(jax.jit, static_argnums=2)
  def prompts(split: Any, key: Array, count: int) -> base.Prompts:
    drawn = jax.vmap(functools.partial(draw_split, split))
    mazes, seen = drawn(jax.random.split(key, count))
    return base.Prompts(jax.vmap(language.encode)(seen), mazes)

  return prompts


def _longest_answer(size: int) -> int:
  """Tokens of a path through every cell, DONE and eos."""
  return 2 * (((size - 1) // 2) ** 2 - 1) + 2


def _check(
  size: int,
  loops: int,
  generator: str | None,
  unknown: float | None,
  train_size: int | None,
  eval_size: int,
) -> None:
  ranges.at_least(5, size=size)
  if size % 2 == 0:
    raise ValueError(
      f"size = {size}: must be odd, a wall between any two cells; take"
      f" {size - 1} or {size + 1}"
    )
  ranges.at_least(0, loops=loops)
  closed = ((size - 1) // 2 - 1) ** 2
  if loops > closed:
    raise ValueError(
      f"loops = {loops}: a maze of size {size} has {closed} walls to open"
    )
  if generator is not None:
    ranges.one_of(_GENERATORS, generator=generator)
  if unknown is not None:
    ranges.unit_interval(unknown=unknown)
  ranges.at_least(1, eval_size=eval_size)
  if train_size is not None:
    ranges.at_least(1, train_size=train_size)


def _split_of(seen: generation.Maze) -> Array:
  share = generation.fingerprint(seen) % _SHARES
  return jnp.minimum(share, _TRAIN).astype(jnp.int32)


@functools.cache
def _check_supply(make: _Make, length: int) -> None:
  """Raises ValueError if drawing until mazes fit would not fill all splits."""

  @jax.jit
  @jax.vmap
  def look(key: Array) -> tuple[Array, Array]:
    maze, seen = make(key)
    return paths.answer_length(maze), _split_of(seen)

  keys = jax.random.split(jax.random.key(1797), 1024)
  needed, splits = map(np.asarray, look(keys))
  fit = needed <= length
  if fit.mean() < 0.05:
    raise ValueError(
      f"max_length = {length}: shortest answers of mazes of size {make.size}"
      f" have {needed.min()} to {needed.max()} tokens, including DONE and eos;"
      " hardly any would fit"
    )
  if len(np.unique(splits[fit])) <= len(_HELD_OUT):
    raise ValueError(
      f"size = {make.size}: too few different mazes to hold some out; draw"
      " start and goal too (random_ends = True), or take a larger size"
    )
