"""What a study measures of its runs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from maxrl_jax import evaluation
from maxrl_jax.learning import guards
from maxrl_jax.learning.training import Train, TrainState

KS = (1, 4, 16, 64, 128, 256, 1024)  # Default k of pass@k.

Record = dict[str, np.ndarray]


class Measure(NamedTuple):
  """What to measure, besides validation and test metrics at the end.

  Attributes:
    splits: evaluated every `config.eval_every` steps.
    ks: k of pass@k.
    probe: (trainer, options …) → (params → arrays by name), of one run:
      measured with each evaluation, as `probe/NAME`. Defined in a module, since
      its name is part of a run's key.
    options: (name, value) pairs for the probe.
    at_start: evaluate before the first step, too.
    every_step: keep training metrics of every step, rather than means over
      `config.log_every` steps.
  """

  splits: tuple[str, ...] = ("validation",)
  ks: tuple[int, ...] = KS
  probe: Callable[..., Callable[[Any], dict[str, Any]]] | None = None
  options: tuple[tuple[str, Any], ...] = ()
  at_start: bool = False
  every_step: bool = False

  def identity(self) -> list:
    """The measurement as JSON."""
    probe = self.probe
    name = None if probe is None else f"{probe.__module__}.{probe.__qualname__}"
    return [*self._replace(probe=None), name]


class Measurer:
  """Measures the runs of one program."""

  def __init__(
    self, trainer: Train, config: ConfigDict, measure: Measure
  ) -> None:
    self._config, self._measure = config, measure
    self.at_start = measure.at_start
    self._evaluate = evaluation.make_evaluate(
      trainer, measure.ks, config.eval_rollouts
    )
    self._probe: Callable[[Any], dict] = lambda params: {}
    if measure.probe is not None:
      of_run = measure.probe(trainer, **dict(measure.options))
      self._probe = jax.jit(lambda params: jax.lax.map(of_run, params))

  def __call__(self, step: int, states: TrainState, metrics: Record) -> Record:
    """The record of a chunk; `metrics` are [steps, runs], {} at the start."""
    record: Record = {"step": np.array(step)}
    for name, values in metrics.items():
      record[f"train/{name}"] = self._reduced(name, values)
    if metrics:
      record["diverged"] = guards.diverged(metrics)
    if self._evaluates(step):
      for split in self._measure.splits:
        record |= self._evaluated(split, states)
      probed = self._probe(states.params)
      record |= {f"probe/{k}": np.asarray(x) for k, x in probed.items()}
    return record

  def _evaluates(self, step: int) -> bool:
    return step % self._config.eval_every == 0 or step == self._config.steps

  def revised(self, record: Record) -> Record:
    """A record of a shorter run, as a run of this length has it.

    The shorter run was evaluated after its last step; this one is evaluated
    there only if the step is a multiple of eval_every.
    """
    if self._evaluates(int(record["step"])):
      return record
    return {k: x for k, x in record.items() if not _is_evaluation(k)}

  def _reduced(self, name: str, values: np.ndarray) -> np.ndarray:
    """Metrics of a chunk [steps, runs] → [runs, steps] or, reduced, [runs]."""
    if self._measure.every_step:
      return values.T
    return values.sum(0) if name == "skipped" else values.mean(0)

  def _evaluated(self, split: str, states: TrainState) -> Record:
    metrics = self._evaluate(split, states)
    return {f"{split}/{name}": x for name, x in metrics.items()}

  def final(self, states: TrainState) -> Record:
    """Final metrics of the splits that records lack, [runs]."""
    record: Record = {}
    for split in ("validation", "test"):
      if split not in self._measure.splits:
        record |= self._evaluated(split, states)
    return record

  def of_runs(self, records: list[Record], final: Record) -> list[Record]:
    """Splits records of chunks and final metrics into the arrays of each run.

    `train/…` [step], `validation/…`, `test/…`, `probe/…` [eval_step, …] or [],
    `step`, `eval_step` and `diverged`.
    """
    trained = [r for r in records if any("train/" in name for name in r)]
    evaluated = [r for r in records if any(_is_evaluation(name) for name in r)]
    join = np.concatenate if self._measure.every_step else np.stack
    arrays: Record = {}
    for rows, wanted in ((trained, "train/"), (evaluated, _EVALUATIONS)):
      for name in rows[-1] if rows else ():
        if name.startswith(wanted):
          stack = join if wanted == "train/" else np.stack
          arrays[name] = stack([row[name] for row in rows], 1)
    arrays |= final
    arrays["diverged"] = np.logical_or.reduce([r["diverged"] for r in trained])
    steps = np.array([r["step"] for r in trained])
    if self._measure.every_step:
      steps = np.arange(1, steps[-1] + 1)
    shared = {
      "step": steps,
      "eval_step": np.array([r["step"] for r in evaluated]),
    }
    count = len(arrays["diverged"])
    return [
      {name: values[run] for name, values in arrays.items()} | shared
      for run in range(count)
    ]


_EVALUATIONS = ("validation/", "test/", "probe/")


def _is_evaluation(name: str) -> bool:
  return name.startswith(_EVALUATIONS)
