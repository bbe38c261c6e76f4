"""Digit-string training runs, tuned alike and kept on disk when done."""

import pathlib
from typing import NamedTuple

import numpy as np
from ml_collections import config_dict

from configs import digits
from experiments.runs import resumable
from experiments.runs.rates import Choice, best_rate
from experiments.runs.store import stored
from experiments.shell import output
from maxrl_jax import evaluation
from maxrl_jax.learning import training
from maxrl_jax.learning.update import RATE

KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Method(NamedTuple):
  """A line of the figure: an estimator and its rollouts."""

  estimator: str
  rollouts: int
  label: str


METHODS = (
  Method("cross_entropy", 1, "cross-entropy"),
  Method("maxrl", 1024, "MaxRL 1024"),
  Method("maxrl", 128, "MaxRL 128"),
  Method("maxrl", 16, "MaxRL 16"),
  Method("grpo", 1024, "GRPO 1024"),
  Method("grpo", 128, "GRPO 128"),
  Method("rloo", 1024, "REINFORCE 1024"),
)


class Preset(NamedTuple):
  """How long and how often; the grid is the same for every method."""

  steps: int
  tuning_steps: int
  learning_rates: tuple[float, ...]
  seeds: tuple[int, ...]
  batch_size: int
  hidden: tuple[int, ...]
  warmup: int
  eval_every: int


PRESETS = {
  "quick": Preset(
    steps=1500,
    tuning_steps=750,
    learning_rates=(1e-3, 2e-3, 4e-3),
    seeds=(1, 2, 3),
    batch_size=64,
    hidden=(256, 256),
    warmup=50,
    eval_every=50,
  ),
  "full": Preset(
    steps=8000,
    tuning_steps=3000,
    learning_rates=(5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3),
    seeds=(1, 2, 3, 4, 5),
    batch_size=128,
    hidden=(512, 512),
    warmup=500,
    eval_every=200,
  ),
}
TUNING_SEED = 1000  # Never a seed of the reported runs.


def config_of(method: Method, preset: Preset, steps: int, **optimizer):
  """The run's whole configuration; `optimizer` sets fields of that block."""
  config = digits.get_config()
  with config.unlocked():
    config.estimator.name = method.estimator
    config.rollouts = method.rollouts
    config.steps = steps
    config.batch_size = preset.batch_size
    config.policy.hidden = preset.hidden
    config.optimizer.warmup = preset.warmup * steps // preset.steps
    config.log_every = config.eval_every = preset.eval_every
    config.optimizer.update(optimizer)
  return config_dict.FrozenConfigDict(config)


def all_runs(preset: Preset, folder: pathlib.Path):
  """Tunes and trains every method.

  Returns:
    {method: chosen learning rate}, {method: {learning rate: validation
    pass@1}, NaN where training diverged}, {method: [one dict of arrays a
    seed]}.

  Raises:
    ValueError: a method diverged at every learning rate.
  """
  tuning: dict[Method, dict[float, float]] = {}
  chosen: dict[Method, Choice] = {}
  updates = len(METHODS) * (
    preset.tuning_steps * len(preset.learning_rates)
    + preset.steps * len(preset.seeds)
  )
  with output.bar(total=updates, unit="step", desc="digit strings") as bar:
    for method in METHODS:
      tune = _Trainer(method, preset, preset.tuning_steps, folder, bar)
      tuning[method] = {
        rate: tune.final_score(rate) for rate in preset.learning_rates
      }
      scores = list(tuning[method].values())
      chosen[method] = best_rate(method.label, preset.learning_rates, scores)
    final = {
      method: _Trainer(method, preset, preset.steps, folder, bar)
      for method in METHODS
    }
    runs: dict[Method, list] = {method: [] for method in METHODS}
    for seed in preset.seeds:
      for method in METHODS:
        runs[method].append(final[method].run(chosen[method].rate, seed))
  return chosen, tuning, runs


class _Trainer:
  """Runs of one configuration, compiled at most once."""

  def __init__(self, method, preset, steps, folder, bar):
    self.method, self.folder, self.bar = method, folder, bar
    self.config = config_of(method, preset, steps)
    self.made = None

  def run(self, learning_rate: float, seed: int) -> dict[str, np.ndarray]:
    """Curves on validation and test, from disk if they are there."""
    return self._stored("seed", self._train, learning_rate, seed)

  def final_score(self, learning_rate: float) -> float:
    """Validation pass@1 of the tuning run; NaN if it diverges."""
    found = self._stored("tuning", self._score, learning_rate, TUNING_SEED)
    return float(found["score"])

  def _stored(self, what: str, compute, learning_rate: float, seed: int):
    words = f"{self.method.label}, lr {learning_rate:g}"
    self.bar.set_postfix_str(words, refresh=False)
    done = self.bar.n + self.config.steps
    found = stored(
      self.folder,
      f"{self.method.label} lr{learning_rate:g} {what}{seed}",
      self.config,
      lambda unfinished: compute(learning_rate, seed, unfinished),
      learning_rate=learning_rate,
      seed=seed,
    )
    self.bar.update(done - self.bar.n)  # All at once, if it was on disk.
    return found

  def _score(self, learning_rate, seed, unfinished):
    """Kept where it is NaN too: what diverged once will do so again."""
    try:
      run = self._train(learning_rate, seed, unfinished)
    except FloatingPointError:
      return {"score": np.array(np.nan)}
    return {"score": run["validation/pass@1"][-1]}

  def _train(self, learning_rate, seed, unfinished):
    if self.made is None:
      self.made = training.make_train(self.config)
      self.evaluate = evaluation.make_evaluate(self.made, KS)

    def measure(step, states, metrics):
      del metrics
      row = {"step": np.array(step)}
      for split in ("validation", "test"):
        found = self.evaluate(split, states)
        row |= {f"{split}/{name}": value[0] for name, value in found.items()}
      return row

    before = self.bar.n
    rows, _ = resumable.measured(
      self.made,
      self.config,
      measure,
      unfinished,
      lambda step: self.bar.update(before + step - self.bar.n),
      seeds=[seed],
      varied={RATE: [learning_rate]},
    )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}
