"""A run of sixty steps, and what it would go on from."""

from configs import bandit
from maxrl_jax.learning import training
from maxrl_jax.runs.resume import Resumable


def small(**changes):
  config = bandit.get_config()
  config.steps, config.log_every, config.eval_every = 60, 10, 20
  config.optimizer.name, config.task.num_prompts = "adam", 8
  config.update_from_flattened_dict(changes)
  return config


def final(config, workdir):
  """What a run would go on from."""
  trainer = training.make_train(config)
  return Resumable(trainer, config, workdir / "checkpoints")
