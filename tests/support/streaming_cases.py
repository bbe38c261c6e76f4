"""Trains from a stream on meshes: `-m tests.support.streaming_cases FOLDER`.

Prints one JSON object for one device and one for eight: the parameters after 24
steps as one flat list, losses and pass rates, and what evaluation finds.
"""

import json
import sys

import jax
import numpy as np

from configs import imagenet
from maxrl_jax import evaluation
from maxrl_jax.learning import training
from tests.support.image_sets import encode, write


def write_pictures(tfds, root) -> None:
  """Pictures in four colours, JPEG, 96 to train and 20 to test."""
  rng = np.random.default_rng(0)
  tint = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]])

  def picture(label):
    noise = rng.integers(-40, 40, (20, 24, 3))
    pixels = np.clip(tint[label] + noise, 0, 255).astype(np.uint8)
    return encode(pixels, "jpeg")

  splits = {
    split: [(picture(i % 4), i % 4) for i in range(count)]
    for split, count in (("train", 96), ("validation", 20))
  }
  write(tfds, root, splits)


def config(data_dir: str):
  """`configs/imagenet.py` with pictures and a network of two blocks."""
  config = imagenet.get_config()
  config.task.data_name, config.task.data_dir = "tiny", data_dir
  config.task.image_size, config.task.eval_size = 16, 16
  config.task.workers = 0
  config.policy.stages, config.policy.channels = (1, 1), (4, 8)
  config.policy.dtype = "float32"
  config.batch_size, config.rollouts = 16, 32
  config.steps, config.log_every, config.eval_every = 24, 8, 8
  config.checkpoint.every, config.optimizer.warmup = 8, 4
  return config


def get_config(data_dir: str):
  """The least of it: one layer, four steps; `FILE:DATA` of --config."""
  least = config(data_dir)
  least.policy.name, least.policy.hidden = "mlp", (8,)
  least.policy.stages = least.policy.channels = least.policy.dtype = None
  least.task.image_size, least.task.eval_size = 8, 8
  least.batch_size, least.rollouts = 8, 16
  least.steps = least.log_every = least.eval_every = 4
  least.checkpoint.every, least.optimizer.warmup = 4, 0
  return least


def main() -> None:
  for data in (1, 8):
    ours = config(sys.argv[1])
    ours.mesh.data = data
    # At 0.1 a draw that rounding has changed leads elsewhere.
    ours.optimizer.learning_rate = 0.01
    trainer = training.make_train(ours)
    logged = {"loss": [], "pass_rate": []}
    for _, states, metrics in training.chunks(trainer, ours):  # noqa: B007
      for name, values in logged.items():
        values += metrics[name].ravel().tolist()
    scores = evaluation.make_evaluate(trainer, (1,))("test", states)
    leaves = [np.ravel(x) for x in jax.tree.leaves(states.params)]
    row = logged | {
      "sizes": trainer.layout.mesh and dict(trainer.layout.mesh.shape),
      "traces": trainer.advance._cache_size(),
      "params": np.concatenate(leaves).tolist(),
      "scores": [float(x[0]) for x in scores.values()],
    }
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
  main()
