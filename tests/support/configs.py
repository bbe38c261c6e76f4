"""Configs of short runs, by dotted fields."""

from configs import bandit
from maxrl_jax.config import default


def make_config(fields):
  """The default config of the task in `fields`, with these fields set."""
  fields = dict(fields)
  config = default(task=fields.pop("task.name", "digits"))
  config.update_from_flattened_dict(fields)
  return config


def short_bandit(**fields):
  """A bandit whose run takes a moment."""
  config = bandit.get_config()
  config.update_from_flattened_dict(
    {
      "steps": 4,
      "log_every": 2,
      "eval_every": 2,
      "batch_size": 5,
      "rollouts": 6,
      "task.num_prompts": 7,
      "task.num_arms": 4,
      "task.hardest": 0.05,
    }
    | fields
  )
  return config
