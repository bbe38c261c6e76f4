"""Half-seen mazes of 7 × 7: three quarters of the walls are not shown.

The right answer is random given the prompt. As with configs/maze.py, first a
warm-up on the paths of the true mazes, then RL:

python -m experiments.train --config=configs/half_seen.py:warmup \
    --workdir=runs/half_warmup
python -m experiments.train --config=configs/half_seen.py \
    --workdir=runs/half_seen --config.policy.checkpoint=runs/half_warmup/model
"""

from ml_collections import ConfigDict

from maxrl_jax.config import default


def get_config(stage: str = "rl") -> ConfigDict:
  config = default(task="maze")
  config.task.size = 7
  config.task.generator = "wilson"  # The exact probabilities need it.
  config.task.random_ends = True
  config.task.unknown = 0.75
  config.policy.num_layers = 2
  config.policy.hidden_size = 64
  config.policy.intermediate_size = 256
  config.optimizer.schedule = "constant"
  config.eval_rollouts = 256
  if stage == "warmup":
    config.estimator.name = "supervised"
    config.steps = 1000
    config.batch_size = 64
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup = 50
  elif stage == "rl":
    config.steps = 600
    config.batch_size = 16
    config.rollouts = 32
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 3e-4
  else:
    raise ValueError(
      f"configs/half_seen.py:{stage}: choose from ['rl', 'warmup']"
    )
  config.log_every = 50
  config.eval_every = 200
  return config
