"""make_train(config): pure init and step, run in compiled chunks.

`step` is one update of one run (`update`). `chunks` scans it over steps and
vmaps it over runs in one compiled program, and returns metrics between chunks.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from jax import lax
from ml_collections import ConfigDict

from maxrl_jax.config import flatten
from maxrl_jax.devices import feeding
from maxrl_jax.devices.mesh import ONE_DEVICE, Layout
from maxrl_jax.learning import guards, update
from maxrl_jax.learning.batch_losses import Hyper
from maxrl_jax.learning.custom_checks import check_values
from maxrl_jax.learning.update import TrainState
from maxrl_jax.tasks import Streamed, Task
from maxrl_jax.tasks.regression import log_ceiling

Array = jax.Array
# Separates the keys of runs from those of data; any large number would do.
_RUN = 0x72756E
# Fields that `chunks` may have other values of than `make_train` had.
_FREE = ("seed", "runs", "eval_every", "eval_rollouts", "checkpoint", "mesh")


class Train(NamedTuple):
  """Pure functions of one run, and the parts they were built from.

  Attributes:
    init: (key, hyper=None) → TrainState; `hyper` has values of config fields
      by dotted name, which replace those of the config.
    keys: seeds [runs] → keys [runs] for `start` and for `advance`.
    start: `init` of all runs in one program, (keys [runs], hyper) → states.
    step: (state, key, batch=None) → (state, metrics); randomness is
      fold_in(key, step). `batch` comes from a task's stream, if it has one.
    advance: (states, keys) [runs], batches=None → (states, metrics [runs,
      log_every]): a compiled chunk of steps of all runs, which see the same
      `batches` [log_every, B, …]. Traced once for each number of runs.
    policy: the policy's module.
    task: the task.
    task_at: hyper → the task of a run with these values.
    task_varies: whether tasks of runs differ.
    layout: which devices have which arrays.
    fields: of the config it was built from, by dotted name.
  """

  init: Callable[..., TrainState]
  keys: Callable[[np.ndarray], tuple[Array, Array]]
  start: Callable[[Array, dict[str, Array]], TrainState]
  step: Callable[..., tuple[TrainState, dict[str, Array]]]
  advance: Callable[..., tuple[TrainState, dict[str, Array]]]
  policy: nn.Module
  task: Task
  task_at: Callable[[Hyper], Task]
  task_varies: bool
  layout: Layout
  fields: dict[str, Any]


def make_train(
  config: ConfigDict,
  task: Task | None = None,
  varying: Sequence[str] = (),
  policy: nn.Module | None = None,
  devices: Sequence[jax.Device] | None = None,
  *,
  optimizer: optax.GradientTransformation | None = None,
  schedule: optax.Schedule | None = None,
  params: Any = None,
) -> Train:
  """Builds the task, the policy and one update from a config.

  Args:
    config: from `config.default()`.
    task: your own, instead of config.task and config.likelihood.
    varying: fields of `config.may_vary`, such as "estimator.order", whose
      values come from `TrainState.hyper` rather than from the config.
    policy: your own module, instead of config.policy; `policies.Policy` lists
      its methods.
    devices: over which config.mesh shards; None: all. Descriptions of devices
      will do to compile for them.
    optimizer: your own optax optimizer, with its learning rate and schedule,
      instead of config.optimizer (except for spike_factor).
    schedule: updates done → factor of the learning rate, instead of the
      config's schedule and warm-up.
    params: initial parameters of the policy, of one run.

  Raises:
    ValueError: an invalid field or argument, and what is allowed.
  """
  run = update.make_run(
    config, task, varying, policy, devices, optimizer, schedule, params
  )
  layout = run.layout
  fields = _fields(config)
  if optimizer is not None or schedule is not None:
    fields.pop("steps", None)

  @jax.jit
  def start(keys: Array, hyper: dict[str, Any]) -> TrainState:
    return layout.constrain_states(jax.vmap(run.init)(keys, hyper))

  @jax.jit
  def keys(seeds: Array) -> tuple[Array, Array]:
    return layout.constrain_states(jax.vmap(_keys)(seeds))

  return Train(
    run.init,
    keys,
    start,
    run.step,
    make_advance(run.step, config.log_every, layout),
    run.policy,
    run.task,
    run.task_at,
    any(name.startswith(("task.", "likelihood.")) for name in run.varying),
    layout,
    fields,
  )


def _fields(config: ConfigDict) -> dict[str, Any]:
  """Fields that the trainer depends on, by dotted name."""
  blocks = {k: x for k, x in config.to_dict().items() if k not in _FREE}
  if config.optimizer.schedule == "constant":
    del blocks["steps"]
  return flatten(blocks)


def _check_fields(train: Train, config: ConfigDict, started: bool) -> None:
  """Raises ValueError at a field that the trainer has another value of."""
  given = _fields(config)
  ignored = {"steps"} - train.fields.keys()
  if started:  # From which parameters does not matter any more.
    ignored.add("policy.checkpoint")
  for name in sorted({*given, *train.fields} - ignored):
    built = train.fields.get(name)
    if given.get(name) != built:
      raise ValueError(
        f"{name} = {given.get(name)!r}: the trainer was built with {built!r};"
        " call make_train with this config"
      )


def _keys(seed: Array) -> tuple[Array, Array]:
  """Keys of a run: for its start, and for its steps.

  Fixed splits have keys split(key(task_seed)), and split(key)[i] is
  fold_in(key, i): `_RUN` is never such an i, so that a run of the same seed
  has other keys.
  """
  return tuple(jax.random.split(jax.random.fold_in(jax.random.key(seed), _RUN)))


def make_advance(
  step: Callable, length: int, layout: Layout = ONE_DEVICE
) -> Callable:
  """Compiles `length` steps of all runs into one program.

  Args:
    step: of one run.
    length: number of steps.
    layout: which devices have which runs; metrics are replicated.
  """

  def run(state: Any, key: Array, batches: Any) -> Any:
    def packed_step(state: Any, batch: Any) -> Any:
      state, metrics = step(state, key, batch)
      return state, _packed(metrics)

    state, rows = lax.scan(packed_step, state, batches, length)
    return state, _unpacked(rows)

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
    jax.jit, donate_argnums=0, out_shardings=(None, layout.replicated())
  )
  def advance(states: Any, keys: Array, batches: Any = None) -> tuple[Any, Any]:
    states, metrics = several(states, keys, batches)
    return layout.constrain_states(states), metrics

  return advance


def _packed(metrics: dict[str, Array]) -> dict[tuple[str, ...], Array]:
  """Metrics by their names, all of a dtype as one array.

  On a GPU each array that a loop writes to is one more kernel.
  """
  names: dict[Any, tuple[str, ...]] = {}
  for name, x in metrics.items():
    names[x.dtype] = (*names.get(x.dtype, ()), name)
  return {n: jnp.stack([metrics[name] for name in n]) for n in names.values()}


def _unpacked(rows: dict[tuple[str, ...], Array]) -> dict[str, Array]:
  """Metrics [log_every] from the rows that a loop has written."""
  return {
    name: x[:, i] for names, x in rows.items() for i, name in enumerate(names)
  }


def chunks(
  train: Train,
  config: ConfigDict,
  seeds: npt.ArrayLike | None = None,
  hyper: dict[str, Any] | None = None,
  *,
  states: TrainState | None = None,
  check: bool | None = None,
) -> Iterator[tuple[int, TrainState, dict[str, np.ndarray]]]:
  """Trains several runs together, yielding after each chunk.

  The results of a run depend on its seed, not on the other runs.

  Args:
    train: from `make_train(config)`; may be used repeatedly.
    config: the same config; its seed, runs and evaluations may differ, and its
      steps where the schedule does not depend on them.
    seeds: [runs]; None is config.seed, config.seed + 1, … (config.runs).
    hyper: config fields by dotted name, each [runs, …]; fields that are
      missing have the config's value. Allowed are the learning rate and fields
      that `make_train` was given as `varying`.
    states: to resume from, with the same seeds, config and `hyper`: results are
      bit-identical to those without an interruption. None: start.
    check: whether to raise at invalid metrics; if not, a run that diverges goes
      on with metrics that are not finite, and does not affect the others. None:
      as config.on_nonfinite.

  Yields:
    steps done, states (run axis first; valid until the next chunk, to which
    their memory is donated), metrics [steps of the chunk, runs].

  Raises:
    FloatingPointError: a likelihood outside [0, 1] or a metric that is not
      finite, with its step, value and prompt of the batch.
    ValueError: a config that is not the trainer's, a value of `hyper` that is
      invalid in a config, or states of other runs.
  """
  if not isinstance(train, Train):
    raise ValueError(
      f"train: is a {type(train).__name__}, must be from make_train; chunks"
      " takes (train, config)"
    )
  if seeds is None:
    seeds = config.seed + np.arange(config.runs)
  if check is None:
    check = config.on_nonfinite == "stop"
  hyper = {k: np.asarray(v, np.float32) for k, v in (hyper or {}).items()}
  for name, values in hyper.items():
    if values.shape[:1] != np.shape(seeds)[:1]:
      raise ValueError(
        f"hyper['{name}'] has shape {values.shape}, must have one value for"
        f" each of {len(np.atleast_1d(seeds))} seeds"
      )
  _check_fields(train, config, started=states is not None)
  check_values(config, hyper, train.task, train.policy)
  start_keys, keys = train.keys(check_seeds(seeds))
  if states is None:
    states = train.start(start_keys, hyper)
  else:
    guards.check_states(states, config, hyper, len(keys))
    states = train.layout.place(states)
  for start, batches in _batches(train, config, int(states.step[0])):
    states, each = train.advance(states, keys, *batches)
    metrics = {name: np.asarray(x).T for name, x in each.items()}
    if check:
      guards.check_metrics(metrics, start, log_ceiling(train.task))
    # Only the check needs the indices of prompts.
    metrics = {k: v for k, v in metrics.items() if k not in guards.PLACES}
    yield start + config.log_every, states, metrics


def check_seeds(seeds: npt.ArrayLike) -> np.ndarray:
  """Seeds as uint32; raises ValueError at invalid ones."""
  given = np.asarray(seeds)
  whole = given.dtype.kind in "iu" and given.ndim == 1 and len(given)
  if not whole or given.min() < 0 or given.max() >= 2**31:
    raise ValueError(
      f"seeds = {given}: must be a list of whole numbers from 0 to 2^31 - 1"
    )
  return given.astype(np.uint32)


def _batches(train: Train, config: ConfigDict, done: int) -> Iterator[tuple]:
  """(steps done, batches to pass to `advance`) of every chunk left."""
  starts = range(done, config.steps, config.log_every)
  if not isinstance(train.task, Streamed):
    yield from ((start, ()) for start in starts)
    return
  sizes = config.batch_size, config.log_every, done, config.steps
  batches = feeding.training(train.task.stream, train.layout, *sizes)
  with contextlib.closing(batches):
    for start, batch in zip(starts, batches, strict=True):
      yield start, (batch,)
