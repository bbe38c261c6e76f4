"""make_train(config): pure init and step, run in compiled chunks.

    task → prompts → policy → rollouts → estimator → surrogate → update

`step` is one update of one run. `chunks` scans it over steps and vmaps it over
runs in one compiled program, and hands metrics out between chunks.
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
from flax import struct
from jax import lax
from ml_collections import ConfigDict

from maxrl_jax import configuration, feeding, guards, interfaces, rollouts
from maxrl_jax import mesh as meshes
from maxrl_jax.tasks import Prompts, Task

Array = jax.Array


class TrainState(struct.PyTreeNode):
  """One run: everything its next step depends on, besides its key."""

  step: Array
  params: Any  # Of the policy; with its batch statistics, if it has any.
  opt_state: Any
  varied: dict[str, Array]  # Config fields in which runs of a program differ.
  typical_norm: Array  # Of gradients: a running mean, for the spike guard.


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
  layout: meshes.Layout


RATE = "optimizer.learning_rate"  # May vary without being asked for.


def make_train(
  config: ConfigDict,
  task: Task | None = None,
  varying: Sequence[str] = (),
  policy: nn.Module | None = None,
) -> Train:
  """Builds the task, the policy and one update from a config.

  Args:
    config: as configs/default.py.
    task: your own; config.task and config.likelihood then mean nothing. None
      is the one that config.task names.
    varying: names of `configuration.VARYING`, such as "estimator.order", whose
      values come from `TrainState.varied` rather than from the config.
    policy: your own module, with the methods that `policies` lists; None is
      the one that config.policy names, which means nothing otherwise.

  Raises:
    ValueError: naming the field, or what is your own, and what is allowed.
  """
  configuration.check(config)
  varying = tuple(dict.fromkeys((RATE, *varying)))
  configuration.check_varying(config, varying, own_task=task is not None)
  task_varies = any(name.startswith(("task.", "likeli")) for name in varying)
  own = task is not None or policy is not None
  task = configuration.make_task(config) if task is None else task
  checkpoint = None
  if policy is None:
    policy = configuration.make_policy(config, task)
    checkpoint = configuration.initial_params(config, policy)
  optimizer = configuration.make_optimizer(config)
  layout = meshes.layout(config, policy)
  policy = layout.suited(policy)
  configuration.make_loss(config, task, policy, layout)  # Errors come early.
  example = task.example
  jax.eval_shape(policy.init, jax.random.key(0), example)  # Errors come early.
  if own and task.stream is None:
    interfaces.check(task, policy, config.batch_size, config.rollouts)

  def init(key: Array, varied: dict[str, Any] | None = None) -> TrainState:
    unknown = sorted(set(varied or {}) - set(varying))
    if unknown:
      raise ValueError(
        f"varied: {unknown[0]} is not among the fields that this program was"
        f" made to vary, {sorted(varying)}"
      )
    values = configuration.values_of(config, varying) | (varied or {})
    values = {k: jnp.asarray(v, jnp.float32) for k, v in values.items()}
    params = policy.init(key, example) if checkpoint is None else checkpoint
    return TrainState(
      jnp.zeros((), jnp.int32),
      params,
      optimizer.init(params),
      values,
      jnp.zeros(()),
    )

  def task_of(varied: dict[str, Any]) -> Task:
    if not task_varies:
      return task
    return configuration.make_task(configuration.overlay(config, varied))

  def step(
    state: TrainState, key: Array, batch: Prompts | None = None
  ) -> tuple[TrainState, dict[str, Array]]:
    draw_key, rollout_key = jax.random.split(
      jax.random.fold_in(key, state.step)
    )
    ours = configuration.overlay(config, state.varied)
    own_task = task_of(state.varied)
    loss = configuration.make_loss(ours, own_task, policy, layout)
    prompts = _prompts(own_task, draw_key, config.batch_size, batch)
    prompts = layout.spread(prompts, "data")
    (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(
      state.params, rollout_key, prompts
    )
    after = _updated(state, optimizer, gradient)
    if rollouts.STATISTICS in metrics:
      name = rollouts.STATISTICS
      after = after.replace(params={**after.params, name: metrics.pop(name)})
    metrics["loss"] = value
    metrics["gradient_norm"] = optax.tree.norm(gradient)
    metrics["parameter_norm"] = optax.tree.norm(_weights(after.params))
    return guards.guarded(config, state, after, metrics)

  @jax.jit
  def start(keys: Array, varied: dict[str, Any]) -> TrainState:
    return layout.arrange(jax.vmap(init)(keys, varied))

  @jax.jit
  def keys(seeds: Array) -> tuple[Array, Array]:
    return layout.arrange(jax.vmap(_keys)(seeds))

  advance = make_advance(step, config.log_every, layout)
  return Train(init, keys, start, step, advance, policy, task, task_of, layout)


def _prompts(task: Task, key: Array, size: int, batch: Any) -> Prompts:
  """Drawn here, or made of what the host has read."""
  if task.draw is not None:
    return task.draw(key, size)
  if task.stream is None or batch is None:
    raise ValueError("step: this task's prompts are read by the host: batch")
  return task.stream.prepare(batch)


def _keys(seed: Array) -> tuple[Array, Array]:
  """Of a run: for its start, and for its steps."""
  return tuple(jax.random.split(jax.random.key(seed)))


def _weights(params: Any) -> dict[str, Any]:
  """Without statistics of batches, which no gradient moves."""
  return {k: v for k, v in params.items() if k != rollouts.STATISTICS}


def _updated(state: TrainState, optimizer: Any, gradient: Any) -> TrainState:
  """One step of the optimizer along its direction."""
  direction, opt_state = optimizer.update(
    gradient, state.opt_state, state.params
  )
  params = jax.tree.map(
    lambda p, d: p - state.varied[RATE].astype(p.dtype) * d,
    state.params,
    direction,
  )
  return state.replace(step=state.step + 1, params=params, opt_state=opt_state)


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
  check: bool = True,
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
    states: go on from these, a checkpoint's, with the same seeds: the numbers
      are then those of a run that never stopped, bit for bit. None: start.
    check: raise at impossible numbers; without it a run that diverges leaves
      the others alone, and has metrics that are not finite.

  Yields:
    steps done, states (run axis first; valid until the next chunk, which takes
    over their memory), metrics [steps of the chunk, runs].

  Raises:
    FloatingPointError: naming the step, the quantity, its value and the prompt
      of the batch, when a likelihood leaves [0, 1] or anything is not finite.
  """
  if seeds is None:
    seeds = config.seed + np.arange(config.runs)
  varied = {k: np.asarray(v, np.float32) for k, v in (varied or {}).items()}
  start_keys, keys = train.keys(np.asarray(seeds, np.uint32))
  if states is None:
    states = train.start(start_keys, varied)
  else:
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
