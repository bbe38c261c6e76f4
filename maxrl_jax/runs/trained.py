"""Loads the runs in a folder of `experiments.train`."""

import pathlib
import warnings
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np
from ml_collections import ConfigDict

from maxrl_jax.learning import training
from maxrl_jax.learning.training import Train
from maxrl_jax.learning.update import TrainState
from maxrl_jax.policies import POLICIES
from maxrl_jax.runs import checkpoints, folders, resume
from maxrl_jax.tasks import TASKS, Task


class Trained(NamedTuple):
  """Runs restored from a checkpoint.

  Attributes:
    config: what they were trained with.
    trainer: `make_train(config)`, with the policy and the task.
    step: steps done.
    states: after that step, of NumPy arrays, run axis first.
    metrics: by name, [records, runs]; "step" is [records].
  """

  config: ConfigDict
  trainer: Train
  step: int
  states: TrainState
  metrics: dict[str, np.ndarray]


def load(
  workdir: str | pathlib.Path,
  *,
  best: bool = False,
  task: Task | None = None,
  policy: nn.Module | None = None,
) -> Trained:
  """Loads the runs of a folder; it may still be training.

      run = maxrl_jax.runs.load("runs/mine")
      evaluate = evaluation.make_evaluate(run.trainer, ks=(1, 64))
      evaluate("test", run.states)

  Args:
    workdir: of `experiments.train`.
    best: the checkpoint with the highest validation pass@1, instead of the
      newest.
    task: your own, if the runs were trained with one.
    policy: your own, likewise.

  Raises:
    ValueError: the folder has no runs, no intact checkpoint, or checkpoints of
      another task or policy.
  """
  workdir = pathlib.Path(workdir)
  path = workdir / "config.json"
  if not path.exists():
    raise ValueError(
      f"workdir = '{workdir}': has no config.json; it must be a folder of"
      " experiments.train"
    )
  fields = folders.read(path)
  own = fields.pop("own_parts", ())
  if not {"task", "policy", "estimator"} <= fields.keys():
    raise ValueError(f"{path}: is not one of experiments.train")
  config = ConfigDict(_with_tuples(fields))
  for name, table, given in (
    ("task", TASKS, task),
    ("policy", POLICIES, policy),
  ):
    if given is None and name in own:
      raise ValueError(
        f"workdir = '{workdir}': was trained with a {name} of your own; pass it"
        f" as {name}="
      )
    if given is None and config[name].name not in {None, *table}:
      raise ValueError(
        f"workdir = '{workdir}': {name}.name = {config[name].name!r} is not the"
        f" library's; pass {name}=, or call get_config() of its config first"
      )
  trainer = training.make_train(_anywhere(config, workdir), task, policy=policy)
  like = resume.like(trainer, config.runs, {})
  saved, damage = checkpoints.read(workdir / "checkpoints", like, best=best)
  for message in damage.values():
    warnings.warn(message, stacklevel=2)
  if saved is None:
    raise ValueError(
      f"workdir = '{workdir}': has no checkpoint yet; the first is saved after"
      f" {config.checkpoint.every or config.eval_every} steps"
    )
  records = [resume.unpacked(record) for record in saved.about["records"]]
  return Trained(config, trainer, saved.step, saved.states, _columns(records))


def _anywhere(config: ConfigDict, workdir: pathlib.Path) -> ConfigDict:
  """The config for any devices, with the folder's model as checkpoint.

  The parameters from which its runs started may be gone.
  """
  copy = config.copy_and_resolve_references()
  for axis in copy.mesh:
    copy.mesh[axis] = None
  models = sorted(workdir.glob("model*"))
  if copy.policy.checkpoint is not None and models:
    copy.policy.checkpoint = str(models[0])
  return copy


def _with_tuples(value: Any) -> Any:
  """Lists as tuples, which JSON does not have."""
  if isinstance(value, dict):
    return {name: _with_tuples(x) for name, x in value.items()}
  return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _columns(records: list[resume.Record]) -> dict[str, np.ndarray]:
  """Stacks records by name, with NaN where a record lacks a name."""
  missing = {
    name: np.full(x.shape, np.nan) for r in records for name, x in r.items()
  }
  return {
    name: np.stack([record.get(name, nan) for record in records])
    for name, nan in missing.items()
  }
