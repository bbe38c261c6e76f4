"""Contextual bandit: 64 prompts, initial pass rates from 1e-4 to one half.

python -m experiments.train --config=configs/bandit.py --workdir=runs/bandit
python -m experiments.sweep --config=configs/bandit.py --workdir=runs/orders
"""

from ml_collections import ConfigDict

from maxrl_jax.config import default


def get_config() -> ConfigDict:
  config = default(task="bandit")
  config.policy.name = "tabular"
  config.rollouts = 32
  config.batch_size = 64
  config.steps = 2000
  config.optimizer.learning_rate = 0.3
  config.optimizer.momentum = 0.0
  config.optimizer.schedule = "constant"
  return config


def get_sweep() -> dict:
  return {
    "estimator.order": [1, 2, 4, 8, 16, 31],
    "optimizer.learning_rate": [0.03, 0.1, 0.3, 1.0],
  }
