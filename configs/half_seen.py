"""Half-seen mazes of 7 × 7: three quarters of the walls are not shown.

The right answer is random given the prompt. As with configs/maze.py, first a
warm-up on the paths of the true mazes, then RL:

python -m experiments.train --config=configs/half_seen.py:warmup \
    --workdir=runs/half_warmup
python -m experiments.train --config=configs/half_seen.py \
    --workdir=runs/half --config.policy.checkpoint=runs/half_warmup/model
"""

from ml_collections import ConfigDict

from configs import maze


def get_config(stage: str = "rl") -> ConfigDict:
  config = maze.get_config(stage)
  config.task.size = 7
  config.task.max_length = None
  config.task.generator = "wilson"  # The exact probabilities need it.
  config.task.random_ends = True
  config.task.unknown = 0.75
  config.steps = 1000
  if stage == "warmup":
    config.optimizer.schedule = "cosine"
  else:
    config.steps = 600
    config.optimizer.learning_rate = 3e-4
  config.eval_rollouts = 256
  config.log_every = 50
  config.eval_every = 200
  return config
