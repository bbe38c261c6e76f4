"""The programs that a grid becomes, and points that cannot train."""

import pytest

from maxrl_jax.config import default
from maxrl_jax.learning import training
from maxrl_jax.runs import grid, programs
from tests.support.sweep_cases import plan, swept_bandit


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("estimator.order=1,7", "grid point estimator.order=7: .*from 1 to 6"),
    ("estimator.order=5;rollouts=4,6", "rollouts=4: .*from 1 to 4"),
    ("estimator.name=maxrl,grop", "estimator.name=grop: .*choose from"),
    ("optimizer.learning_rate=0.1,-1", "learning_rate = -1.0: must be above"),
    ("likelihood.scale=1,2", r"likelihood\.scale = 1\.0: task 'bandit'"),
    ("estimator.name=power", "estimator.alpha is not set"),
    ("optimizer.schedule=constant,cosin", "schedule=cosin: .*choose from"),
    ("batch_size=None,8", "batch_size = None: must be at least 1"),
    ("optimizer.learning_rate=None", "learning_rate = None: must be a num"),
    (
      "optimizer.name+optimizer.momentum=sgd+0.5,adam+0.5",
      "momentum: has no effect on 'adam'",
    ),
    (
      "rollouts+estimator.name=4+exact_rl,6+exact_rl",
      "'exact_rl' draws none",
    ),
  ],
)
def test_a_point_that_cannot_train_is_refused(text, message):
  config = swept_bandit()
  with pytest.raises(ValueError, match=message):
    programs.plan(config, grid.points(grid.parse(text, config)), [0])


def test_what_keeps_shapes_is_one_program():
  points, (program,) = plan(
    "estimator.order=1,2,4;optimizer.learning_rate=0.1,0.3;"
    "estimator.baseline=0.0,0.5"
  )
  assert len(points) == 12 and len(program.seeds) == 24
  assert set(program.hyper) == {
    "estimator.order",
    "estimator.baseline",
    "optimizer.learning_rate",
  }


@pytest.mark.parametrize(
  ("text", "count"),
  [
    ("rollouts=4,6", 2),
    ("estimator.name=maxrl,grpo,rloo", 3),
    ("estimator.order=None,3", 2),
    ("estimator.baseline=none,centred,0.5,1.0", 3),
    ("rollouts=4,6;estimator.order=1,2;optimizer.learning_rate=0.1,0.2", 2),
    (
      "estimator.name+estimator.order+estimator.alpha+estimator.k="
      "maxrl+1+None+None,maxrl+5+None+None,power+3+0.5+None,"
      "pass_at_k+None+None+4",
      1,
    ),
  ],
)
def test_how_many_programs(text, count):
  points, planned = plan(text)
  assert len(planned) == count
  runs = [
    (int(point), int(seed))
    for program in planned
    for point, seed in zip(program.points, program.seeds, strict=True)
  ]
  assert sorted(runs) == [(p, s) for p in range(len(points)) for s in (0, 1)]


def test_a_learned_scale_starts_where_its_own_run_says():
  """The policy is built from it: it cannot be an array over runs."""
  config = default(task="bimodal", policy="grid")
  config.likelihood.learned, config.likelihood.smallest_scale = "global", 0.1
  config.likelihood.scale = 0.5
  points = grid.points(grid.parse("likelihood.scale=0.3,1.2", config))
  planned = programs.plan(config, points, [0])
  assert [p.config.likelihood.scale for p in planned] == [0.3, 1.2]
  with pytest.raises(ValueError, match=r"likelihood\.scale: cannot vary"):
    training.make_train(config, varying=["likelihood.scale"])
