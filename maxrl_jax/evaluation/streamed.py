"""Exact pass rates on splits that the host reads in batches."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

from maxrl_jax.devices import feeding
from maxrl_jax.evaluation.coverage import PassRates, means, pass_rates
from maxrl_jax.learning.training import Train, TrainState
from maxrl_jax.tasks import Streamed

_PROMPTS = 256  # On the devices at a time, about.


def make_evaluate(train: Train, ks: Sequence[int]) -> Callable:
  """(split, states) → `coverage.metrics` of each run, [runs].

  Pass rates are computed batch by batch; prompts are never all in memory.

  Args:
    train: of a task with a stream.
    ks: k of pass@k.
  """
  assert isinstance(train.task, Streamed)
  stream, layout = train.task.stream, train.layout

  @functools.partial(jax.jit, out_shardings=layout.replicated())
  def rates(params: Any, hyper: dict[str, Any], batch: Any) -> PassRates:
    prompts = stream.prepare(jax.tree.map(lambda x: x[0], batch))

    def one(run: Any) -> PassRates:
      params, hyper = run
      task = train.task_at(hyper)
      assert isinstance(task, Streamed)
      return pass_rates(train.policy, params, prompts, task)

    return lax.map(one, (params, hyper))

  @jax.jit
  def scored(joined: Any) -> dict[str, jax.Array]:
    return jax.vmap(lambda rates: means(rates, ks))(joined)

  def evaluate(split: str, states: TrainState) -> dict[str, np.ndarray]:
    size = stream.sizes[split]
    parts = layout.size("data")
    # A multiple of the devices, but no more than a small split needs.
    batch = -(-min(size, _PROMPTS) // parts) * parts
    batches = [
      jax.tree.map(np.asarray, rates(states.params, states.hyper, prompts))
      for prompts in feeding.split(stream, layout, split, batch)
    ]
    joined = jax.tree.map(lambda *x: np.concatenate(x, 1)[:, :size], *batches)
    names = [f"pass@{k}" for k in ks] + ["majority", "nll"]
    scores = scored(joined)
    return {name: np.asarray(scores[name]) for name in names}

  return evaluate
