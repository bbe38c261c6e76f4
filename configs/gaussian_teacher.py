"""Synthetic classification with any number of classes.

    python -m experiments.train --config=configs/gaussian_teacher.py \
      --config.task.num_classes=10000 --workdir=runs/teacher
"""

from ml_collections import ConfigDict

from maxrl_jax.config import default


def get_config() -> ConfigDict:
  config = default(task="gaussian_teacher")
  config.task.num_classes = 100
  config.optimizer.name = "adam"
  config.optimizer.learning_rate = 1e-3
  return config
