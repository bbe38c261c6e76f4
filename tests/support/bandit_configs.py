"""The config of a bandit whose run takes a moment."""

from configs import bandit


def short_bandit(**options):
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
    | options
  )
  return config
