"""A ResNet on CIFAR-10: like `configs/imagenet.py`, but for one small GPU.

Not a setting of the paper. The whole data set is in memory; crops of padded
images and flips are computed on the device. Not run yet, for lack of the data.

python -m experiments.train --config=configs/cifar.py \\
    --config.task.data_dir=DATA --workdir=runs/cifar

DATA holds `cifar10` as tensorflow-datasets prepares it, in array_record files.
"""

from ml_collections import ConfigDict

from maxrl_jax.config import default

_EPOCH = 175  # Steps: 45 000 images, 256 per step.


def get_config() -> ConfigDict:
  config = default(task="images")
  config.task.data_name = "cifar10"
  config.task.eval_size = 5_000
  config.policy.name = "resnet"
  config.policy.stem = "cifar"
  config.policy.stages = (2, 2, 2, 2)
  config.policy.dtype = "bfloat16"
  config.batch_size = 256
  config.rollouts = 1024
  config.steps = 20 * _EPOCH
  config.optimizer.warmup = _EPOCH
  config.log_every = config.eval_every = _EPOCH
  return config
