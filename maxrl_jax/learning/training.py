"""make_train(config): pure init and step, run in compiled chunks.

`step` is one update of one run (`one_run`). `chunks` scans it over steps and
vmaps it over runs in one compiled program, and hands metrics out between
chunks.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import numpy.typing as npt
from jax import lax
from ml_collections import ConfigDict

from maxrl_jax import config as configuration
from maxrl_jax.devices import feeding
from maxrl_jax.devices import mesh as meshes
from maxrl_jax.learning import guards
from maxrl_jax.learning import update as one_run
from maxrl_jax.learning.update import TrainState
from maxrl_jax.tasks import Task

Array = jax.Array


class Train(NamedTuple):
  """Pure functions of one run, and what they were made from.

  Attributes:
    init: (key, varied=None) → TrainState; `varied` has values of config fields
      by dotted name, those that are missing are the config's.
    keys: seeds [runs] → keys [runs] for `start` and for `advance`.
    start: `init` of all runs in one program, (keys [runs], varied) → states.
    step: (state, key, batch=None) → (state, metrics); randomness is
      fold_in(key, step). `batch` is of a task's stream, where it has one.
    advance: (states, keys) [runs], batches=None → (states, metrics [runs,
      log_every]): a compiled chunk of steps of all runs, which see the same
      `batches` [log_every, B, …]. Traced once for each number of runs.
    policy: the policy's module.
    task: the task.
    task_of: varied → the task of a run, where its fields may vary.
    task_varies: whether they do.
    layout: where arrays are, if there are several devices.
  """

  init: Callable[..., TrainState]
  keys: Callable[[np.ndarray], tuple[Array, Array]]
  start: Callable[[Array, dict[str, Array]], TrainState]
  step: Callable[..., tuple[TrainState, dict[str, Array]]]
  advance: Callable[..., tuple[TrainState, dict[str, Array]]]
  policy: nn.Module
  task: Task
  task_of: Callable[[dict[str, Array]], Task]
  task_varies: bool
  layout: meshes.Layout


def make_train(
  config: ConfigDict,
  task: Task | None = None,
  varying: Sequence[str] = (),
  policy: nn.Module | None = None,
) -> Train:
  """Builds the task, the policy and one update from a config.

  Args:
    config: as maxrl_jax/config/defaults.py.
    task: your own; config.task and config.likelihood then mean nothing. None
      is the one that config.task names.
    varying: names of `configuration.VARYING`, such as "estimator.order", whose
      values come from `TrainState.varied` rather than from the config.
    policy: your own module, with the methods that `policies` lists; None is
      the one that config.policy names, which means nothing otherwise.

  Raises:
    ValueError: naming the field, or what is your own, and what is allowed.
  """
  run = one_run.make_run(config, task, varying, policy)
  layout = run.layout

  @jax.jit
  def start(keys: Array, varied: dict[str, Any]) -> TrainState:
    return layout.arrange(jax.vmap(run.init)(keys, varied))

  @jax.jit
  def keys(seeds: Array) -> tuple[Array, Array]:
    return layout.arrange(jax.vmap(_keys)(seeds))

  return Train(
    run.init,
    keys,
    start,
    run.step,
    make_advance(run.step, config.log_every, layout),
    run.policy,
    run.task,
    run.task_of,
    run.task_varies,
    layout,
  )


def _keys(seed: Array) -> tuple[Array, Array]:
  """Of a run: for its start, and for its steps."""
  return tuple(jax.random.split(jax.random.key(seed)))


def make_advance(
  step: Callable, length: int, layout: meshes.Layout = meshes.ONE_DEVICE
) -> Callable:
  """Compiles `length` steps of all runs into one program.

  Args:
    step: of one run.
    length: how many.
    layout: which devices have which runs; metrics are everywhere.
  """

  def run(state: Any, key: Array, batches: Any) -> Any:
    return lax.scan(lambda s, b: step(s, key, b), state, batches, length)

  def several(states: Any, keys: Array, batches: Any) -> Any:
    count = keys.shape[0]
    if count > 1:
      axis = layout.runs_axis(count)
      each = jax.vmap(run, (0, 0, None), spmd_axis_name=axis)
      return each(states, keys, batches)
    # A plain matrix product is faster than a batched one.
    state, key = jax.tree.map(lambda x: x[0], (states, keys))
    return jax.tree.map(lambda x: x[None], run(state, key, batches))

  @functools.partial(
    jax.jit, donate_argnums=0, out_shardings=(None, layout.everywhere())
  )
  def advance(states: Any, keys: Array, batches: Any = None) -> tuple[Any, Any]:
    states, metrics = several(states, keys, batches)
    return layout.arrange(states), metrics

  return advance


def chunks(
  train: Train,
  config: ConfigDict,
  seeds: npt.ArrayLike | None = None,
  varied: dict[str, Any] | None = None,
  *,
  states: TrainState | None = None,
  check: bool | None = None,
) -> Iterator[tuple[int, TrainState, dict[str, np.ndarray]]]:
  """Trains several runs together, yielding after each chunk.

  A run's numbers depend on its own seed, not on its neighbours.

  Args:
    train: from `make_train(config)`; may be used again and again.
    config: the same config.
    seeds: [runs]; None is config.seed, config.seed + 1, … config.runs of them.
    varied: config fields by dotted name, each [runs, …]; what is missing is the
      config's for all. Only what `make_train` was told to vary, and the
      learning rate.
    states: go on from these, a checkpoint's, with the same seeds, config and
      `varied`: the numbers are then those of a run that never stopped, bit for
      bit. None: start.
    check: raise at impossible numbers; without it a run that diverges leaves
      the others alone, and has metrics that are not finite. None: as
      config.on_nonfinite says.

  Yields:
    steps done, states (run axis first; valid until the next chunk, which takes
    over their memory), metrics [steps of the chunk, runs].

  Raises:
    FloatingPointError: naming the step, the quantity, its value and the prompt
      of the batch, when a likelihood leaves [0, 1] or anything is not finite.
    ValueError: a value of `varied` that a config could not have, or states
      that are not of these runs.
  """
  if seeds is None:
    seeds = config.seed + np.arange(config.runs)
  if check is None:
    check = config.on_nonfinite == "stop"
  varied = {k: np.asarray(v, np.float32) for k, v in (varied or {}).items()}
  configuration.check_values(config, varied, train.task, train.policy)
  start_keys, keys = train.keys(np.asarray(seeds, np.uint32))
  if states is None:
    states = train.start(start_keys, varied)
  else:
    _check_states(states, config, varied)
    states = train.layout.place(states)
  done = int(states.step[0])
  for start, fed in _fed(train, config, done):
    states, found = train.advance(states, keys, *fed)
    metrics = {name: np.asarray(x).T for name, x in found.items()}
    if check:
      guards.check_metrics(metrics, start, train.task.likelihood)
    # Which prompt of a batch it was means nothing but to the check.
    metrics = {k: v for k, v in metrics.items() if k not in guards.PLACES}
    yield start + config.log_every, states, metrics


def _check_states(
  states: TrainState, config: ConfigDict, varied: dict[str, np.ndarray]
) -> None:
  """Raises ValueError where going on would be another run in silence."""
  done = int(np.asarray(states.step)[0])
  if (config.steps - done) % config.log_every:
    raise ValueError(
      f"log_every = {config.log_every}: must divide the {config.steps - done}"
      f" steps that are left after step {done}"
    )
  wanted = configuration.values_of(config, states.varied) | varied
  for name, value in wanted.items():
    found = np.asarray(states.varied[name])
    asked = np.asarray(value, found.dtype)
    if not np.array_equal(found, np.broadcast_to(asked, found.shape)):
      raise ValueError(
        f"{name} = {_in_short(asked)}: the states to go on from have"
        f" {_in_short(found)}; go on with that, or start in another folder"
      )


def _in_short(values: np.ndarray) -> str:
  """One number where all are equal."""
  distinct = np.unique(values)
  told = distinct if len(distinct) == 1 else np.ravel(values)
  return ", ".join(f"{value:g}" for value in told)


def _fed(train: Train, config: ConfigDict, done: int) -> Iterator[tuple]:
  """(steps done, what `advance` is given besides) of every chunk left."""
  starts = range(done, config.steps, config.log_every)
  stream = train.task.stream
  if stream is None:
    yield from ((start, ()) for start in starts)
    return
  sizes = config.batch_size, config.log_every, done, config.steps
  batches = feeding.training(stream, train.layout, *sizes)
  with contextlib.closing(batches):
    for start, batch in zip(starts, batches, strict=True):
      yield start, (batch,)
