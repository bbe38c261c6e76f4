"""Digit strings: 1000 classes of real images, initial pass rate 0.1 %.

python -m experiments.train --config=configs/digits.py --workdir=runs/digits
"""

from ml_collections import ConfigDict

from maxrl_jax.config import default


def get_config() -> ConfigDict:
  config = default()
  config.task.num_digits = 3
  config.rollouts = 1024
  config.steps = 8000
  config.optimizer.name = "adam"
  config.optimizer.learning_rate = 5e-4
  config.optimizer.warmup = 500
  return config
