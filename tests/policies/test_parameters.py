"""Parameters of any policy in a folder, to start from."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import bandit, digits, gaussian_teacher, noisy_regression
from maxrl_jax.learning import training
from maxrl_jax.policies import parameters
from maxrl_jax.policies.categorical import Categorical
from maxrl_jax.runs import programs, train_to_folder
from tests.support.configs import short_bandit
from tests.support.extent import long


@pytest.mark.parametrize(
  "module", [bandit, digits, gaussian_teacher, long(noisy_regression)]
)
def test_every_policy_starts_from_what_it_saved(module, tmp_path):
  config = module.get_config()
  trainer = training.make_train(config)
  params = trainer.init(jax.random.key(7)).params
  parameters.save(tmp_path / "model", trainer.policy, params)
  config.policy.checkpoint = str(tmp_path / "model")
  state = training.make_train(config).init(jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, state.params, params)


def test_a_run_starts_where_another_ended(tmp_path):
  train_to_folder.train(short_bandit(), tmp_path / "first")
  model = tmp_path / "first" / "model"
  config = short_bandit(**{"policy.checkpoint": str(model)})
  trainer = training.make_train(config)
  first = trainer.init(jax.random.key(0)).params["params"]["logits"]
  fresh = training.make_train(short_bandit()).init(jax.random.key(0))
  assert not np.allclose(first, fresh.params["params"]["logits"])
  # The identity of its results is the contents, wherever they are.
  moved = short_bandit(
    **{"policy.checkpoint": str(model.rename(tmp_path / "m"))}
  )
  one, other = programs.digest(moved), programs.digest(short_bandit())
  parameters.save(model, trainer.policy, {"params": {"logits": first}})
  assert one == programs.digest(config) != other


def test_a_folder_within_a_checkpoint_is_not_part_of_it(tmp_path):
  (tmp_path / "model.safetensors").write_bytes(b"weights")
  before = parameters.digest(tmp_path)
  (tmp_path / ".git").mkdir()
  assert parameters.digest(tmp_path) == before
  (tmp_path / "model.safetensors").write_bytes(b"others")
  assert parameters.digest(tmp_path) != before


def test_a_folder_without_parameters_is_refused(tmp_path):
  config = short_bandit(**{"policy.checkpoint": str(tmp_path)})
  with pytest.raises(
    ValueError, match=r"checkpoint = .* must be the folder mo"
  ):
    training.make_train(config)


class Odd(Categorical):
  """Parameters in a list, and a name with a dot."""

  @nn.compact
  def __call__(self, inputs):
    pair = self.param("pair", lambda key: [jnp.ones(3), jnp.zeros(4)])
    dotted = self.param("w.x", lambda key: jnp.ones(3))
    return inputs[:, :1] + (pair[0] + pair[1][:3] + dotted)[None]


def test_trees_of_any_kind_come_back(tmp_path):
  policy, inputs = Odd(), jnp.ones((2, 1))
  params = policy.init(jax.random.key(0), inputs)
  params = jax.tree.map(lambda x: x + 2, params)
  parameters.save(tmp_path, policy, params)
  loaded = parameters.load(tmp_path, policy, inputs)
  assert jax.tree.structure(loaded) == jax.tree.structure(params)
  jax.tree.map(np.testing.assert_array_equal, loaded, params)
