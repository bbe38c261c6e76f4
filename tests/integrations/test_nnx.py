"""NNX networks train as policies do, and give what they give by themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from maxrl_jax.config import default
from maxrl_jax.integrations.nnx import Network
from maxrl_jax.learning import training
from maxrl_jax.policies.categorical import Categorical
from maxrl_jax.tasks import Prompts, Task


class Net(nnx.Module):
  def __init__(self, rngs, width=8):
    self.first = nnx.Linear(2, width, rngs=rngs)
    self.last = nnx.Linear(width, 5, rngs=rngs)

  def __call__(self, inputs):
    return self.last(jax.nn.relu(self.first(inputs)))


class Normed(Net):
  def __init__(self, rngs):
    super().__init__(rngs)
    self.norm = nnx.BatchNorm(8, rngs=rngs)


class Mine(Network, Categorical):
  pass


_INPUTS = jnp.linspace(-1, 1, 6).reshape(3, 2)


def test_outputs_and_gradients_are_those_of_the_module():
  policy = Mine(make=Net)
  params = policy.init(jax.random.key(4), _INPUTS)
  model = Net(nnx.Rngs(jax.random.key(4)))
  leaves = params["params"]["network"]
  # Linen derives the key of a parameter: the values are given over.
  for layer in ("first", "last"):
    for name in ("kernel", "bias"):
      (value,) = [
        v for k, v in leaves.items() if k.startswith(f"{layer}/{name}")
      ]
      setattr(getattr(model, layer), name, nnx.Param(value))
  np.testing.assert_array_equal(policy.apply(params, _INPUTS), model(_INPUTS))
  ours = jax.grad(lambda p: jnp.sum(policy.apply(p, _INPUTS) ** 2))(params)
  theirs = nnx.grad(lambda m: jnp.sum(m(_INPUTS) ** 2))(model)
  for one, other in zip(
    jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True
  ):
    np.testing.assert_allclose(one, other, 1e-6)


def _draw(key, batch):
  inputs = jax.random.normal(key, (batch, 2))
  return Prompts(inputs, (inputs.sum(-1) > 0).astype(jnp.int32))


def test_several_runs_train_from_starts_of_their_own():
  task = Task(
    draw=_draw,
    splits={"validation": _draw(jax.random.key(1), 64)},
    likelihoods=lambda target, answers: answers == target,
  )
  config = default()
  config.runs, config.steps, config.rollouts = 2, 100, 16
  config.optimizer.learning_rate = 0.3
  trainer = training.make_train(config, task, policy=Mine(make=Net))
  start_keys, _ = trainer.keys(np.arange(2))
  starts = jax.tree.leaves(trainer.start(start_keys, {}).params)
  assert any(not np.allclose(x[0], x[1]) for x in starts)
  *_, (_, _, metrics) = training.chunks(trainer, config)
  # Of five answers by chance; a linear rule is learnt.
  assert (metrics["pass_rate"][-10:].mean(0) > 0.8).all()


def test_a_module_in_place_of_its_class_is_refused():
  with pytest.raises(ValueError, match="make: is a Net, must be a class"):
    Mine(make=Net(nnx.Rngs(0))).init(jax.random.key(0), _INPUTS)


def test_state_that_would_be_lost_is_refused():
  with pytest.raises(ValueError, match=r"has norm/mean.* is not an nnx\.Param"):
    Mine(make=Normed).init(jax.random.key(0), _INPUTS)
