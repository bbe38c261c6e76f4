"""Trains on meshes: `python -m tests.support.mesh_cases NAME`.

Prints one JSON object a mesh: the parameters after 50 steps as one flat list,
which devices' shapes they had, and what the compiled step communicates.
"""

import dataclasses
import functools
import json
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np

from configs import bandit, bimodal, digits, maze
from maxrl_jax import config as configuration
from maxrl_jax.devices.mesh import AXES
from maxrl_jax.learning import sequences, training
from maxrl_jax.runs import study
from maxrl_jax.runs.slices import Slices

STEPS = 50


def _digits():
  config = digits.get_config()
  config.batch_size, config.rollouts, config.policy.hidden = 16, 32, (32,)
  config.task.num_digits = 2
  return config


def _sequential():
  """A pool of waves that prompts on all devices share."""
  config = _digits()
  config.rollouts, config.estimator.name, config.estimator.cap = (
    4,
    "sequential",
    32,
  )
  return config


def _graded():
  """Likelihoods between 0 and 1, order 3: what a group's weights need is l."""
  config = bandit.get_config()
  config.task.continuous, config.estimator.order = True, 3
  config.batch_size, config.rollouts = 8, 16
  return config


def _one_prompt():
  config = _graded()
  config.batch_size, config.rollouts = 1, 64
  return config


def _regression():
  config = bimodal.get_config()
  config.batch_size, config.rollouts, config.policy.hidden = 16, 8, (16,)
  # Adam would make steps of rounding where a gradient is no more than that.
  config.runs, config.optimizer.name = 4, "sgd"
  config.optimizer.learning_rate = 0.1
  return config


def _maze(name: str):
  config = maze.get_config(name)
  config.task.size, config.task.random_ends = 7, True
  config.task.max_length, config.task.eval_size = 8, 16
  config.policy.hidden_size, config.policy.intermediate_size = 32, 64
  config.policy.num_layers = 1
  config.policy.checkpoint = None
  config.batch_size, config.rollouts = 8, 8
  return config


def _maze_rl():
  config = _maze("rl")
  config.estimator.entropy_bonus = 0.01  # Hardly any answer is right.
  return config


def _off_policy():
  """Two updates on rollouts of older parameters, near the first ones."""
  config = _maze("rl")
  config.estimator.baseline = 1.0  # Hardly any answer is right.
  config.estimator.reference_kl = 0.1
  config.off_policy.name = "clipped"
  config.off_policy.updates, config.off_policy.staleness = 2, 1
  return config


# config, and meshes of (runs, data, rollouts, model); None is what is there.
CASES = {
  "digits": (_digits, [(1, 2, 1, 1), (1, 4, 1, 1), (1, 2, 4, 1)]),
  "sequential": (_sequential, [(1, 2, 1, 1), (1, 8, 1, 1)]),
  "graded": (_graded, [(1, 8, 1, 1), (1, 4, 2, 1)]),
  "one_prompt": (_one_prompt, [(1, 1, 8, 1)]),
  "regression": (_regression, [(2, 2, 2, 1), None]),
  "maze_supervised": (lambda: _maze("warmup"), [(1, 4, 1, 2)]),
  "maze_rl": (_maze_rl, [(1, 2, 2, 2)]),
  "maze_few": (lambda: _maze("rl"), [(1, 2, 2, 2), (1, 4, 2, 1)]),
  "off_policy": (_off_policy, [(1, 2, 2, 2)]),
}


def _on_mesh(config, mesh, steps):
  """In one chunk of steps; mesh None is what is there."""
  config.steps = config.log_every = config.eval_every = steps
  config.optimizer.warmup = 0
  if mesh is not None:
    config.mesh.update(dict(zip(AXES, mesh, strict=True)))
  return config


def train(config, mesh, task=None):
  """The parameters, and what was communicated for them, on one mesh."""
  config = _on_mesh(config, mesh, STEPS)
  trainer = training.make_train(config, task)
  ((_, states, metrics),) = training.chunks(trainer, config)
  keys = jax.random.split(jax.random.key(0), config.runs)
  text = trainer.advance.lower(states, keys).compile().as_text()
  name = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
  leaves = {name(p): x for p, x in jax.tree.leaves_with_path(states.params)}
  return {
    "mesh": mesh,
    "sizes": None if trainer.layout.mesh is None else trainer.layout.mesh.shape,
    "traces": trainer.advance._cache_size(),
    "params": np.concatenate([*map(np.ravel, leaves.values())]).tolist(),
    "loss": metrics["loss"].tolist(),
    "shards": {
      path: x.addressable_shards[0].data.shape for path, x in leaves.items()
    },
    "gathered": _gathered(text),
  }


def _gathered(text: str) -> list[str]:
  """Shapes of what all-gathers give, [runs …]."""
  return sorted(set(re.findall(r"= (\S+?)(?:\{\S*)? all-gather", text)))


def sweep(folder: pathlib.Path) -> dict:
  """Twelve runs in one program, and where its states are."""
  config = bandit.get_config()
  config.steps = config.log_every = config.eval_every = 10
  config.batch_size, config.rollouts, config.task.num_prompts = 7, 8, 16
  what = study.study(config, "estimator.order=1,2,4,7", range(3))
  data = study.run(what, folder)
  (program,) = what.plan()
  slices = Slices(program, what.measure, folder, None, None, True)
  seeds, hyper = program.seeds, program.hyper
  # A number of runs that the devices do not divide.
  few = {name: values[:5] for name, values in hyper.items()}
  trainer = training.make_train(config, varying=list(hyper))
  ((_, states, _),) = training.chunks(trainer, config, seeds[:5], few)
  return {
    "size": slices._largest(12),
    "devices": jax.device_count(),
    "mesh": slices.trainer.layout.mesh and slices.trainer.layout.mesh.shape,
    "pass@1": data["test_pass@1"].values.tolist(),
    "few": np.ravel(jax.tree.leaves(states.params)[0]).tolist(),
    "gradient_norm": data["train_gradient_norm"].values.tolist(),
  }


def impossible(mesh) -> dict:
  """What a run says in which the best arm's likelihood is NaN."""
  config = _on_mesh(_graded(), mesh, steps=10)
  whole = configuration.make_task(config)

  def likelihoods(table, arms):
    l = whole.likelihoods(table, arms)
    return jnp.where(l == 1, jnp.nan, l)

  task = dataclasses.replace(whole, likelihoods=likelihoods)
  try:
    list(training.chunks(training.make_train(config, task), config))
  except FloatingPointError as error:
    return {"error": str(error)}


def main() -> None:
  if sys.argv[1] == "sweep":
    print(json.dumps(sweep(pathlib.Path(sys.argv[2]))))
    return
  if sys.argv[1] == "impossible":
    for mesh in [(1, 1, 1, 1), (1, 4, 2, 1)]:
      print(json.dumps(impossible(mesh)), flush=True)
    return
  sequences._ON_CPU = 16  # So that each device has several blocks.
  make, meshes = CASES[sys.argv[1]]
  task = None
  if sys.argv[1] == "maze_few":
    # Of some prompts no answer is right: these need no gradient.
    task = configuration.make_task(make())
    right = lambda _, answers: answers[:, 0] == 3  # noqa: E731
    task = dataclasses.replace(task, likelihoods=right)
  for mesh in [(1, 1, 1, 1), *meshes]:
    print(json.dumps(train(make(), mesh, task)), flush=True)


if __name__ == "__main__":
  main()
