"""Half-seen mazes against all 192 spanning trees of nine cells."""

import collections
import functools
import hashlib
import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from maxrl_jax.tasks import TASKS, mazes
from maxrl_jax.tasks.mazes import generation
from maxrl_jax.tasks.mazes.posterior import log_spanning_trees, posterior
from tests.support import maze_oracles as oracles
from tests.support.extent import long
from tests.support.maze_draws import PICTURE, from_picture

_SIDE, _SIZE, _LENGTH = 3, 7, 18
_PLACES = [  # Between cells, in the order of the edges below.
  *((2 * r + 1, 2 * c + 2) for r in range(3) for c in range(2)),
  *((2 * r + 2, 2 * c + 1) for r in range(2) for c in range(3)),
]
_EDGES = [
  *((3 * r + c, 3 * r + c + 1) for r in range(3) for c in range(2)),
  *((3 * r + c, 3 * r + c + 3) for r in range(2) for c in range(3)),
]


@functools.cache
def _trees():
  """Grids of all spanning trees: 8 of 12 edges that reach every cell."""
  trees = []
  for chosen in itertools.combinations(range(12), 8):
    reached = {0}
    for _ in range(8):
      for a, b in (_EDGES[i] for i in chosen):
        if reached & {a, b}:
          reached |= {a, b}
    if len(reached) == 9:
      grid = np.zeros((_SIZE, _SIZE), bool)
      grid[1::2, 1::2] = True
      for i in chosen:
        grid[_PLACES[i]] = True
      trees.append(grid)
  return trees


def _prompt(grid, hidden, start, goal):
  """Tokens of a half-seen maze, without the package."""
  tokens = np.where(grid, 8, 9)
  for place in hidden:
    tokens[place] = 18
  tokens[start], tokens[goal] = 11, 10
  rows = np.pad(tokens, ((0, 0), (0, 1)), constant_values=12).ravel()
  return np.array([1, 4, *rows, 5, 6])


def _by_enumeration(grid, hidden, start, goal):
  """{answer: its share of the trees that look the same}."""
  shown = np.ones_like(grid)
  for place in hidden:
    shown[place] = False
  like = [t for t in _trees() if (t == grid)[shown].all()]
  answers = [tuple(oracles.only_answer(t, start, goal)) for t in like]
  counts = collections.Counter(answers)
  return {a: Fraction(n, len(like)) for a, n in counts.items()}


def _by_answer(known, row=0):
  return {
    tuple(int(x) for x in answer if x): chance
    for answer, chance in zip(
      known.answers[row], known.probabilities[row], strict=True
    )
    if chance
  }


def test_there_are_192_trees():
  assert len(_trees()) == 192
  assert len({tree.tobytes() for tree in _trees()}) == 192


@pytest.mark.parametrize("num_hidden", [0, 1, 6, 9, 12])
def test_probabilities_of_answers_equal_enumeration(num_hidden):
  rng = np.random.default_rng(num_hidden)
  cases = []
  for _ in range(8):
    grid = _trees()[rng.integers(192)]
    hidden = [_PLACES[i] for i in rng.permutation(12)[:num_hidden]]
    ends = rng.permutation(9)[:2]
    start, goal = ((2 * int(e // 3) + 1, 2 * int(e % 3) + 1) for e in ends)
    cases.append((grid, hidden, start, goal))
  known = posterior([_prompt(*case) for case in cases], _LENGTH)
  for row, case in enumerate(cases):
    expected, actual = _by_enumeration(*case), _by_answer(known, row)
    assert actual.keys() == expected.keys()
    for answer, chance in expected.items():
      assert actual[answer] == pytest.approx(float(chance), rel=1e-12)
  np.testing.assert_allclose(known.probabilities.sum(1), 1, rtol=1e-12)
  assert (np.diff(known.probabilities, axis=1) <= 1e-15).all()


def test_four_hidden_places_by_hand():
  """Four cells, nothing shown: each tree leaves out one of four edges.

  To the neighbour: directly, unless that edge is the one left out. To the
  opposite corner: two ways, equally likely.
  """
  grid = np.zeros((5, 5), bool)
  grid[1::2, 1::2] = True
  hidden = [(1, 2), (3, 2), (2, 1), (2, 3)]
  beside = _prompt(grid, hidden, (1, 1), (1, 3))
  across = _prompt(grid, hidden, (1, 1), (3, 3))
  known = posterior([beside, across], 9)
  up, down, left, right = 13, 14, 15, 16
  del left
  assert _by_answer(known, 0) == pytest.approx(
    {
      (right, right, 7, 2): 0.75,
      (down, down, right, right, up, up, 7, 2): 0.25,
    }
  )
  assert _by_answer(known, 1) == pytest.approx(
    {
      (right, right, down, down, 7, 2): 0.5,
      (down, down, right, right, 7, 2): 0.5,
    }
  )


def test_numbers_of_spanning_trees():
  """Of grids, 4, 192 and 100352 (OEIS A007341); of contracted ones by hand."""
  for side, count in ((2, 4), (3, 192), (4, 100_352)):
    edges = [
      (side * r + c, side * r + c + step)
      for r in range(side)
      for c in range(side)
      for step, inside in ((1, c + 1 < side), (side, r + 1 < side))
      if inside
    ]
    log = log_spanning_trees(side**2, [], edges)
    assert log == pytest.approx(np.log(count), rel=1e-12)
  square = [(0, 1), (1, 3), (0, 2), (2, 3)]
  assert log_spanning_trees(4, [(0, 1)], square[1:]) == pytest.approx(np.log(3))
  assert log_spanning_trees(4, square, []) == -np.inf  # A cycle.
  assert log_spanning_trees(4, [(0, 1)], [(2, 3)]) == -np.inf  # Apart.
  assert log_spanning_trees(4, square[:3], []) == pytest.approx(0)


@pytest.mark.parametrize("num", [20_000, long(400_000)])
def test_wilson_draws_every_tree_equally_often(num):
  keys = jax.random.split(jax.random.key(0), num)
  draw = jax.jit(jax.vmap(lambda key: mazes.wilson(key, _SIZE).open))
  packed = np.packbits(np.asarray(draw(keys)).reshape(num, -1), -1)
  kinds, counts = np.unique(packed, axis=0, return_counts=True)
  known = {np.packbits(tree).tobytes() for tree in _trees()}
  assert {kind.tobytes() for kind in kinds} == known
  assert stats.chisquare(counts).pvalue > 1e-4


def test_larger_wilson_mazes_are_trees():
  keys = jax.random.split(jax.random.key(1), 30)
  many = jax.jit(jax.vmap(lambda key: mazes.wilson(key, 13).open))(keys)
  for grid in np.asarray(many):
    assert grid.sum() == 36 + 35  # Cells, and passages of a tree.
    assert len(oracles.distances(grid, (1, 1))) == 71


@functools.cache
def _task(unknown, size=_SIZE, eval_size=2000):
  return TASKS["maze"](
    size=size,
    unknown=unknown,
    generator="wilson",
    random_ends=True,
    eval_size=eval_size,
  )


def _grids(prompts):
  return np.asarray(prompts.inputs)[:, 2:-2].reshape(-1, 7, 8)[:, :, :-1]


@pytest.mark.parametrize(
  ("unknown", "hidden"), [long(0.75, 9), (0.4, 5), long(1, 12)]
)
def test_prompts_hide_that_many_places_and_nothing_else(unknown, hidden):
  prompts = _task(unknown, eval_size=100).draw(jax.random.key(2), 100)
  again = _task(unknown, eval_size=100).draw(jax.random.key(2), 100)
  np.testing.assert_array_equal(prompts.inputs, again.inputs)
  is_open = np.asarray(prompts.targets.open)
  seen = _grids(prompts)
  between = np.zeros((7, 7), bool)
  between[tuple(zip(*_PLACES, strict=True))] = True
  assert ((seen == 18).sum((1, 2)) == hidden).all()
  assert not (seen == 18)[:, ~between].any()
  for token, walkable in ((8, True), (9, False)):
    assert (is_open[seen == token] == walkable).all()
  if hidden < 12:  # Every place is hidden at times, and shown at times.
    share = (seen == 18).mean(0)[between]
    assert (share > 0).all() and (share < 1).all()


def test_nothing_unknown_changes_no_bit():
  """The bits of 2026-11-29, before anything could be unknown."""
  digests = set()
  for options in (
    {},
    {"unknown": 0.0},
    {"unknown": 0.03},
  ):  # 0.36 of 12 places.
    task = TASKS["maze"](size=7, random_ends=True, eval_size=40, **options)
    digest = hashlib.sha256()
    arrays = (task.splits, task.draw(jax.random.key(3), 40))
    for x in jax.tree.leaves(arrays):
      digest.update(np.asarray(x).astype(np.int32).tobytes())
    digests.add(digest.hexdigest())
  assert digests == {
    "f27b94d8ffa6c54c20d07d9b897702daa825976c4b4c42492969cd80e1eaef7d"
  }


@pytest.mark.long
def test_held_out_prompts_are_never_trained_on():
  """All mazes that fit a prompt are in one split."""
  task = _task(0.75, eval_size=500)
  parts = [
    {row.tobytes() for row in np.asarray(prompts.inputs)}
    for prompts in (
      task.draw(jax.random.key(5), 4000),
      *(task.splits[name] for name in ("validation", "test")),
    )
  ]
  assert min(map(len, parts)) > 400
  assert len(set.union(*parts)) == sum(map(len, parts))


@pytest.mark.long
def test_right_answers_are_drawn_as_often_as_the_posterior_says():
  """Rejection sampling: prompts of four cells recur; splits keep their law."""
  task = _task(0.5, size=5)
  prompts = jax.tree.map(
    lambda *x: np.concatenate(x),
    *(task.draw(jax.random.key(i), 2000) for i in range(6)),
  )
  answers = jax.jit(jax.vmap(task.demonstrations))(prompts.targets)
  rows, inverse = np.unique(prompts.inputs, axis=0, return_inverse=True)
  known = posterior(rows, task.length)
  statistic, freedom = 0.0, 0
  for row in range(len(rows)):
    drawn = collections.Counter(
      tuple(int(x) for x in answer if x)
      for answer in np.asarray(answers)[inverse == row]
    )
    chances = _by_answer(known, row)
    assert drawn.keys() <= chances.keys()
    expected = {a: chance * drawn.total() for a, chance in chances.items()}
    if min(expected.values()) > 5:
      statistic += sum((drawn[a] - x) ** 2 / x for a, x in expected.items())
      freedom += len(expected) - 1
  assert freedom > 30
  assert 1e-4 < stats.chi2.sf(statistic, freedom) < 1 - 1e-4


def test_walls_that_the_prompt_hides_stop_a_walk():
  """Right, then down; the other way round there is a wall."""
  maze = from_picture(PICTURE)
  seen = generation.hide(jax.random.key(0), maze, 4)
  text = mazes.encode(seen)
  assert (text == 18).sum() == 4
  up, down, left, right = 13, 14, 15, 16
  answers = jnp.array(
    [
      [right, right, down, down, 7, 2],
      [down, down, right, right, 7, 2],  # The wall is hidden, and there.
      [right, right, down, down, up, 7],
      [right, left, right, right, 7, 2],
    ]
  )
  right_ones = mazes.verify(maze, answers)
  assert right_ones.tolist() == [True, False, True, False]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda t: t[:-1], "prompts: 59 tokens, which no maze has"),
    (lambda t: t[:2], "prompts: 2 tokens, which no maze has"),
    (lambda t: np.where(t == 10, 8, t), "must have one START and one GOAL"),
    (lambda t: np.where(t == 18, 9, t), "no spanning tree has these"),
    (lambda t: np.where(t == 18, 8, t), "no spanning tree has these"),
  ],
)
def test_prompts_that_no_tree_fits_are_refused(change, message):
  prompt = _prompt(_trees()[0], _PLACES, (1, 1), (5, 5))
  with pytest.raises(ValueError, match=message):
    posterior([change(prompt)], _LENGTH)


def test_answers_must_fit():
  prompt = _prompt(_trees()[0], _PLACES, (1, 1), (5, 5))
  with pytest.raises(ValueError, match="length = 9: an answer has 1"):
    posterior([prompt], 9)
