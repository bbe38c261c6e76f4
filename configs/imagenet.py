"""ResNet-50 from scratch on ImageNet, the published setting (arXiv 2602.02710).

1000 classes, initial pass rate 0.1 %; batch 256, 20 epochs, SGD with momentum
0.9 and rate 0.1, cosine after one epoch of warm-up, random resized crop and
flip, 1024 rollouts per image. Not run yet, for lack of the data and a GPU.

python -m experiments.train --config=configs/imagenet.py \\
    --config.task.data_dir=DATA --workdir=runs/imagenet

DATA holds `imagenet2012` as tensorflow-datasets prepares it, in array_record
files. `--config.estimator.name=cross_entropy`, `grpo` or `rloo` and
`--config.rollouts=128` are the other lines of the figure. The batch is sharded
over all devices. Sixteen processes decode (`task.workers`), and pass batches
through shared memory: /dev/shm must have 2 GB.

The paper does not state these choices, so published runs may differ: 10 000
training images are held out for validation (`task.eval_size`), activations are
bfloat16 (`policy.dtype`), batch statistics are over the whole batch on all
devices, there is no weight decay, and pixels range from −1 to 1.
"""

from ml_collections import ConfigDict

from maxrl_jax.config import default

_EPOCH = 5_000  # Steps: 1.27 million images, 256 per step.


def get_config() -> ConfigDict:
  config = default(task="streamed_images")
  config.task.data_name = "imagenet2012"
  config.task.test_split = "validation"
  config.task.image_size = 224
  config.task.eval_size = 10_000
  config.task.workers = 16
  config.policy.name = "resnet"
  config.policy.dtype = "bfloat16"
  config.batch_size = 256
  config.rollouts = 1024
  config.steps = 20 * _EPOCH
  config.optimizer.warmup = _EPOCH
  config.optimizer.name = "sgd"
  config.optimizer.momentum = 0.9
  config.optimizer.learning_rate = 0.1
  config.log_every = 20  # 770 MB of pixels on the devices, twice.
  config.eval_every = _EPOCH
  config.checkpoint.every = _EPOCH // 5
  return config
