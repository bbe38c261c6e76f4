"""Digit strings with sequential rollouts: waves of 16 until one is right.

python -m experiments.train --config=configs/sequential.py \
    --workdir=runs/sequential

Order 1024: at most 1024 rollouts per string. On average it needs its weight
w_1024(p) and up to 15 more; unsolved strings share a pool, which draws some
more. One answer is right, so a baseline would only add noise.
"""

from ml_collections import ConfigDict

from configs import digits

CAPS = (128, 1024, 8192)


def get_config() -> ConfigDict:
  config = digits.get_config()
  config.estimator.name = "sequential"
  config.estimator.cap = 1024
  config.estimator.baseline = "none"
  config.rollouts = 16
  config.optimizer.learning_rate = 1e-3
  return config


def get_sweep() -> dict:
  return {
    "estimator.cap": CAPS,
    "optimizer.learning_rate": [5e-4, 1e-3, 2e-3],
  }
