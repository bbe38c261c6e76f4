"""Grids of a sweep: what is written, what is meant, what is refused."""

import pytest

from maxrl_jax.config import default
from maxrl_jax.runs import grid
from tests.support.sweep_cases import swept_bandit


def test_a_grid_is_every_combination():
  axes = grid.parse(
    "estimator.order=1,4;optimizer.learning_rate=log(0.01,1,3)", swept_bandit()
  )
  actual = grid.points(axes)
  assert [tuple(point.values()) for point in actual] == [
    (order, rate) for order in (1, 4) for rate in (0.01, 0.1, 1.0)
  ]


def test_text_and_mapping_say_the_same():
  text = (
    "rollouts=range(4,12,4);batch_size+estimator.order=8+1,4+None;"
    "optimizer.warmup=lin(0,4,3);policy.hidden=(8,),(8,8);"
    "estimator.baseline=None,0.5,none;task.continuous=true,false"
  )
  mapping = {
    "rollouts": [4, 8, 12],
    ("batch_size", "estimator.order"): [(8, 1), (4, None)],
    "optimizer.warmup": [0, 2, 4],
    "policy.hidden": [(8,), (8, 8)],
    "estimator.baseline": [None, 0.5, "none"],
    "task.continuous": [True, False],
  }
  config = default(task="bandit")
  assert grid.parse(text, config) == grid.parse(mapping, config)


def test_a_grid_is_text_or_a_mapping():
  with pytest.raises(ValueError, match="grid: is a int, must be text"):
    grid.parse(3, swept_bandit())


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("estimator.ordre=1,2", "no field estimator.ordre; did you mean estimator"),
    ("estimater.order=1", "no field estimater.order"),
    ("estimator=1", "estimator is a block"),
    ("estimator.order=", "estimator.order has no values"),
    ("", "the grid is empty"),
    ("estimator.order", "is not field=values"),
    ("estimator.order=1,2,1", r"has the value \(1,\) twice"),
    ("estimator.order=1;estimator.order=2", "estimator.order is given twice"),
    ("estimator.order=1.5", "estimator.order = 1.5: must be of type int"),
    ("estimator.order=many", "estimator.order = many: must be of type int"),
    ("optimizer.learning_rate=log(1,2)", "three numbers are needed"),
    ("estimator.order=log(1,31,4)", "write estimator.order=1,3,10,31"),
    ("seed=1,2", "seed cannot be swept: seeds are given apart"),
    ("steps=10,20", "steps cannot be swept: all runs"),
    ("mesh.data=1,2", "mesh.data cannot be swept: it does not change"),
    ("checkpoint.every=1,2", "checkpoint.every cannot be swept: it does not"),
    ("optimizer.learning_rate=log(-1,1,3)", "ends must be above 0"),
    ("batch_size+rollouts=1+2,3", "for 2 fields together"),
    ("batch_size+rollouts=range(8,16,8)", "for 2 fields together"),
    ("task.continuous=yes", "task.continuous = yes: must be of type bool"),
    ("estimator.order=inf", "estimator.order = inf: must be of type int"),
    ("estimator.order=range(1,9,0)", "write range"),
    ("estimator.order=range(1.5,4)", "a range is of whole numbers"),
    ({"estimator.order": 3}, "must be a list of values"),
  ],
)
def test_a_wrong_grid_is_one_clear_line(text, message):
  with pytest.raises(ValueError, match=message):
    grid.parse(text, default(task="bandit"))


def test_spaced_values_are_round_and_keep_their_ends():
  """But whole numbers stay whole, of however many digits."""
  axes = grid.parse(
    "rollouts=log(128,2048,5);optimizer.learning_rate=log(0.001234,0.9,3)",
    swept_bandit(),
  )
  assert [v for (v,) in axes[0].values] == [128, 256, 512, 1024, 2048]
  assert [v for (v,) in axes[1].values] == [0.001234, 0.0333, 0.9]
