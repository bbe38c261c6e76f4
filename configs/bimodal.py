"""Bimodal regression, y = ± f(x) + noise: only a likelihood sees both modes.

python -m experiments.train --config=configs/bimodal.py --workdir=runs/bimodal

Exact ML reaches an NLL near 1.15 nats; so does MaxRL of order N − 1 = 31, while
order 1 (RL) collapses to the likelier mode.
"""

from ml_collections import ConfigDict

from maxrl_jax.config import default


def get_config() -> ConfigDict:
  config = default(task="bimodal")
  config.task.noise = 0.4
  config.likelihood.scale = 0.4
  config.policy.name = "grid"
  config.policy.bins = 64
  config.policy.low, config.policy.high = -4.0, 4.0
  config.policy.hidden = (128, 128)
  config.rollouts = 32
  config.batch_size = 64
  config.steps = 3000
  config.optimizer.name = "adam"
  config.optimizer.learning_rate = 1e-3
  config.optimizer.schedule = "constant"
  return config
