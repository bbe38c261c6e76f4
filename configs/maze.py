"""Mazes of 9 × 9, a transformer of 0.1 M parameters: minutes on two cores.

First a warm-up on shortest paths, then RL from its checkpoint:

python -m experiments.train --config=configs/maze.py:warmup \
    --workdir=runs/warmup
python -m experiments.train --config=configs/maze.py --workdir=runs/maze \
    --config.policy.checkpoint=runs/warmup/model
"""

from ml_collections import ConfigDict

from maxrl_jax.config import default


def get_config(stage: str = "rl") -> ConfigDict:
  config = default(task="maze")
  config.task.size = 9
  config.task.max_length = 18  # Tokens; mazes that need more are not drawn.
  config.policy.num_layers = 2
  config.policy.hidden_size = 64
  config.policy.intermediate_size = 256
  config.optimizer.schedule = "constant"
  if stage == "warmup":
    config.estimator.name = "supervised"
    config.steps = 700
    config.batch_size = 64
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup = 50
  elif stage == "rl":
    config.steps = 240
    config.batch_size = 16
    config.rollouts = 32
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-4
  else:
    raise ValueError(f"stage = {stage!r}: choose from ['rl', 'warmup']")
  config.log_every = 20
  config.eval_every = 60 if stage == "rl" else 100
  return config
