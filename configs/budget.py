"""One budget of rollouts: many prompts, or many rollouts per prompt.

python -m experiments.sweep --config=configs/budget.py --seeds=8 \
    --workdir=runs/budget

Strings of two digits (100 classes); every step draws B × N = 2048 rollouts.
"""

from ml_collections import ConfigDict

from configs import digits

PAIRS = ((256, 8), (128, 16), (64, 32), (32, 64), (16, 128))


def get_config() -> ConfigDict:
  config = digits.get_config()
  config.task.num_digits = 2
  config.policy.hidden = (128,)
  config.steps, config.log_every, config.eval_every = 1000, 50, 100
  config.optimizer.warmup = 50
  return config


def get_sweep() -> dict:
  return {
    ("batch_size", "rollouts"): PAIRS,
    "optimizer.learning_rate": [1e-3, 3e-3, 1e-2],
  }
