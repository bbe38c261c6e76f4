"""An optimizer, a schedule and starting parameters of one's own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maxrl_jax.config import RATE, default
from maxrl_jax.learning import training
from maxrl_jax.optimizers import OPTIMIZERS, SCHEDULES
from maxrl_jax.runs import study
from tests.support.configs import short_bandit

_RATE = {RATE: 0.5, "steps": 8}


def _end(config, **own):
  *_, (_, states, _) = training.chunks(
    training.make_train(config, **own), config, seeds=[3]
  )
  return jax.tree.map(lambda x: np.asarray(x[0]), states.params)


def _same(one, other):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5), one, other)


def test_an_optimizer_has_its_own_rate_and_schedule():
  config = short_bandit(
    **_RATE, **{"optimizer.name": "adam", "optimizer.schedule": "cosine"}
  )
  own = optax.adam(optax.cosine_decay_schedule(0.5, 8))
  # The config's optimizer has no effect beside it.
  other = short_bandit(**_RATE | {RATE: 77.0})
  _same(_end(config), _end(other, optimizer=own))


def test_a_schedule_scales_the_configs_rate():
  config = short_bandit(**_RATE)
  halved = optax.piecewise_constant_schedule(1.0, {4: 0.5})
  own = optax.sgd(optax.piecewise_constant_schedule(0.5, {4: 0.5}))
  _same(_end(config, schedule=halved), _end(config, optimizer=own))


def test_training_starts_from_given_parameters():
  config = short_bandit(**_RATE)
  half = short_bandit(**_RATE | {"steps": 4})
  half_way = _end(half)
  params = (
    training.make_train(config, params=half_way).init(jax.random.key(0)).params
  )
  jax.tree.map(np.testing.assert_array_equal, params, half_way)
  # SGD without momentum has no other state, but each step has its own key.
  on = _end(half, params=half_way)
  assert not np.array_equal(
    on["params"]["logits"], half_way["params"]["logits"]
  )


def signs(decay: float = 0.0) -> optax.GradientTransformation:
  del decay
  return optax.scale_by_sign()


def halving(updates: int) -> optax.Schedule:
  return lambda done: jnp.where(done < updates / 2, 1.0, 0.5)


def test_those_of_ones_own_have_names_in_configs():
  try:
    config = default("bandit", optimizer=signs, schedule=halving)
    assert config.optimizer.name == "signs"
    assert config.optimizer.decay is None
    fields = short_bandit(**_RATE).to_dict()
    fields["optimizer"] = config.optimizer.to_dict() | {"learning_rate": 0.5}
    config.update(fields)
    rate = optax.piecewise_constant_schedule(0.5, {4: 0.5})
    own = optax.chain(optax.scale_by_sign(), optax.scale_by_learning_rate(rate))
    _same(_end(config), _end(config, optimizer=own))
  finally:
    OPTIMIZERS.pop("signs", None)
    SCHEDULES.pop("halving", None)


@pytest.mark.parametrize(
  ("own", "message"),
  [
    ({"optimizer": 0.1}, "optimizer: is a float, must be an optax one"),
    ({"schedule": 0.1}, "schedule: is a float, must be a function"),
    (
      {"optimizer": optax.sgd(0.1), "schedule": optax.constant_schedule(1.0)},
      "schedule: your own optimizer includes one",
    ),
    (
      {"optimizer": optax.sgd(0.1), "varying": [RATE]},
      "optimizer.learning_rate: has no effect beside your own optimizer",
    ),
    (
      {"params": {"params": {"logits": np.zeros((8, 16))}}},
      r"params have params.logits of shape \(8, 16\), must be \(7, 4\)",
    ),
    (
      {"params": {"params": {}}},
      r"params lack params.logits, which this policy has;",
    ),
  ],
)
def test_wrong_parts_are_refused(own, message):
  with pytest.raises(ValueError, match=message):
    training.make_train(short_bandit(), **own)


def nesterov(momentum: float = 0.9) -> optax.GradientTransformation:
  return optax.trace(momentum, nesterov=True)


def climbing(decay: float = 0.9) -> optax.GradientTransformation:
  return optax.sgd(1.0, decay)


@pytest.mark.parametrize(
  ("own", "message"),
  [
    (optax.lion, "'lion': includes the learning rate; take its directions"),
    (climbing, "'climbing': its direction has the opposite sign of the grad"),
  ],
)
def test_directions_have_no_learning_rate(own, message):
  """The update would climb, in silence."""
  try:
    config = default("bandit", optimizer=own)
    config.optimizer.learning_rate = 0.01
    with pytest.raises(ValueError, match=message):
      training.make_train(config)
  finally:
    OPTIMIZERS.pop(own.__name__, None)


def test_options_of_ones_own_may_be_swept():
  try:
    config = default("bandit", optimizer=nesterov)
    what = study.study(config, "optimizer.momentum=0.5,0.9")
    assert len(what.plan()) == 2
    config = default("bandit", optimizer="adam")
    with pytest.raises(ValueError, match="momentum: has no effect on 'adam'"):
      study.study(config, "optimizer.momentum=0.5,0.9").plan()
  finally:
    OPTIMIZERS.pop("nesterov", None)


def test_parameters_have_the_types_of_the_policy():
  config = short_bandit()
  trainer = training.make_train(config)
  params = trainer.init(jax.random.key(0)).params
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  started = training.make_train(config, params=half).init(jax.random.key(0))
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(started.params))
