"""make_train(config): pure init and step, run in compiled chunks.

    task → prompts → policy → rollouts → estimator → surrogate → update

`step` is one update of one run. `chunks` scans it over steps and vmaps it over
runs in one compiled program, and hands metrics out between chunks.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import lax

from maxrl_jax import losses, rollouts
from maxrl_jax.estimators import ESTIMATORS
from maxrl_jax.objectives import OBJECTIVES
from maxrl_jax.policies import POLICIES
from maxrl_jax.tasks import TASKS, Task

Array = jax.Array


@struct.dataclass
class TrainState:
  """One run: everything its next step depends on, besides its key."""

  step: Array
  params: Any
  opt_state: Any
  learning_rate: Array  # In the state, so that runs of one program may differ.


class Train(NamedTuple):
  """Pure functions of one run, and what they were made from.

  Attributes:
    init: (key, learning_rate=None) → TrainState.
    step: (state, key) → (state, metrics); randomness is fold_in(key, step).
    advance: (states, keys) [runs] → (states, metrics [runs, log_every]): a
      compiled chunk of steps of all runs. Traced once for each number of runs.
    logits: (params, inputs [B, …]) → [B, C].
    task: the task.
  """

  init: Callable[..., TrainState]
  step: Callable[[TrainState, Array], tuple[TrainState, dict[str, Array]]]
  advance: Callable[[TrainState, Array], tuple[TrainState, dict[str, Array]]]
  logits: Callable[[Any, Array], Array]
  task: Task


def make_train(config) -> Train:
  """Builds the task, the policy and one update from a config.

  Raises:
    ValueError: naming the field, its value and the choices.
  """
  check_config(config)
  task = make_task(config)
  policy = make_policy(config, task)
  optimizer = make_optimizer(config)
  loss = make_loss(config, task)
  example = jax.tree.map(lambda x: x[:1], task.splits["validation"].inputs)

  def init(key: Array, learning_rate=None) -> TrainState:
    params = policy.init(key, example)
    if learning_rate is None:
      learning_rate = config.optimizer.learning_rate
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=optimizer.init(params),
      learning_rate=jnp.asarray(learning_rate, jnp.float32),
    )

  def step(state: TrainState, key: Array):
    draw_key, rollout_key = jax.random.split(
      jax.random.fold_in(key, state.step)
    )
    prompts = task.draw(draw_key, config.batch_size)

    def objective(params):
      logits = policy.apply(params, prompts.inputs)
      return loss(rollout_key, logits, prompts.targets)

    gradient, metrics = jax.grad(objective, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(
      gradient, state.opt_state, state.params
    )
    params = jax.tree.map(
      lambda p, u: p - state.learning_rate.astype(p.dtype) * u,
      state.params,
      updates,
    )
    metrics["gradient_norm"] = optax.tree.norm(gradient)
    new = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
    return new, metrics

  advance = make_advance(step, config.log_every)
  return Train(init, step, advance, policy.apply, task)


def make_advance(step, length: int):
  """Compiles `length` steps of all runs into one program."""

  def run(state, key):
    return lax.scan(lambda s, _: step(s, key), state, None, length)

  @functools.partial(jax.jit, donate_argnums=0)
  def advance(states, keys):
    if keys.shape[0] > 1:
      return jax.vmap(run)(states, keys)
    # A plain matrix product is faster than a batched one.
    one = run(*jax.tree.map(lambda x: x[0], (states, keys)))
    return jax.tree.map(lambda x: x[None], one)

  return advance


def chunks(
  train: Train, config, seeds=None, learning_rates=None
) -> Iterator[tuple[int, TrainState, dict[str, np.ndarray]]]:
  """Trains several runs together, yielding after each chunk.

  A run's numbers depend on its own seed, not on its neighbours.

  Args:
    train: from `make_train(config)`; may be used again and again.
    config: the same config.
    seeds: [runs]; None is config.seed, config.seed + 1, … config.runs of them.
    learning_rates: [runs]; None is the config's for all.

  Yields:
    steps done, states (run axis first), metrics [steps of the chunk, runs].

  Raises:
    FloatingPointError: naming the step, the quantity and the value, when a
      likelihood leaves [0, 1] or anything is not finite.
  """
  if seeds is None:
    seeds = config.seed + np.arange(config.runs)
  if learning_rates is None:
    learning_rates = np.full(len(seeds), config.optimizer.learning_rate)
  keys = jax.vmap(lambda s: jax.random.split(jax.random.key(s)))(
    jnp.asarray(seeds)
  )
  states = jax.vmap(train.init)(keys[:, 0], jnp.asarray(learning_rates))
  for start in range(0, config.steps, config.log_every):
    states, metrics = train.advance(states, keys[:, 1])
    metrics = {name: np.asarray(x).T for name, x in metrics.items()}
    check_metrics(metrics, start)
    yield start + config.log_every, states, metrics


def check_metrics(metrics: dict[str, np.ndarray], start: int) -> None:
  """Raises FloatingPointError at the first step with an impossible number."""
  found = []
  for name, values in metrics.items():
    likelihood = name.startswith("likelihood")
    good = np.isfinite(values)
    if likelihood:
      good &= (values >= 0) & (values <= 1)
    for step, run in np.argwhere(~good)[:1]:
      allowed = "in [0, 1]" if likelihood else "finite"
      message = f"{name} = {values[step, run]:.6g}, must be {allowed}"
      # A likelihood is the cause, what follows from it in that step is not.
      found.append((step, not likelihood, run, message))
  if found:
    step, _, run, message = min(found)
    raise FloatingPointError(f"step {start + step + 1}, run {run}: {message}")


# What a config means


def make_task(config) -> Task:
  """The task that config.task names, with the options that are set."""
  options = _options(config.task)
  if "data_name" in options:
    options["name"] = options.pop("data_name")
  return _build(TASKS, "task", config.task.name, options)


def make_policy(config, task: Task) -> nn.Module:
  """The policy that config.policy names, sized for the task."""
  options = _options(config.policy) | task.policy_options
  options["num_actions"] = task.num_actions
  return _build(POLICIES, "policy", config.policy.name, options)


def make_optimizer(config) -> optax.GradientTransformation:
  """Gradient → step direction; the caller multiplies by the learning rate."""
  block = config.optimizer
  parts = {
    "sgd": lambda: [optax.trace(block.momentum)] if block.momentum else [],
    "adam": lambda: [optax.scale_by_adam()],
    "adamw": lambda: [
      optax.scale_by_adam(),
      optax.add_decayed_weights(block.weight_decay),
    ],
  }
  rules = _choice(parts, "optimizer.name", block.name)()
  decay = config.steps - block.warmup
  schedules = {
    "cosine": lambda: optax.cosine_decay_schedule(1.0, max(decay, 1)),
    "constant": lambda: optax.constant_schedule(1.0),
  }
  schedule = _choice(schedules, "optimizer.schedule", block.schedule)()
  if block.warmup:
    # From 1/warmup, so that no step is wasted on a rate of zero.
    rise = optax.linear_schedule(1 / block.warmup, 1.0, block.warmup - 1)
    schedule = optax.join_schedules([rise, schedule], [block.warmup])
  clip = (
    []
    if block.clip_norm is None
    else [optax.clip_by_global_norm(block.clip_norm)]
  )
  return optax.chain(*clip, *rules, optax.scale_by_schedule(schedule))


# Objectives of the exact pass rate, by the name a config gives them.
EXACT = {
  f"exact_{name}": make
  for name, make in OBJECTIVES.items()
  if name != "maximum_likelihood"
}


def make_loss(config, task: Task):
  """(key, logits [B, C], targets [B, …]) → (loss, metrics of the batch)."""
  name = config.estimator.name
  options = _options(config.estimator)
  if name == "cross_entropy":  # log p itself, finite where p underflows.
    return _exact_loss(lambda log_p: log_p, task)
  if name in EXACT:
    value = _build(EXACT, "estimator", name, options).value
    return _exact_loss(lambda log_p: value(jnp.exp(log_p)), task)
  names = ESTIMATORS | EXACT | {"cross_entropy": None}
  estimator = _choice(names, "estimator.name", name)
  _check_options("estimator", name, estimator, options)
  estimator = functools.partial(estimator, **options)
  # Estimators check their options where they are traced: do it before.
  jax.eval_shape(estimator, jnp.zeros(config.rollouts))
  return _sampled_loss(estimator, task, config.rollouts)


def _exact_loss(value, task: Task):
  def loss(key, logits, targets):
    del key  # Nothing is sampled.
    log_p = jax.vmap(task.log_pass_rate)(targets, logits)
    return -jnp.mean(value(log_p)), {"pass_rate": jnp.mean(jnp.exp(log_p))}

  return loss


def _sampled_loss(estimator, task: Task, num: int):
  def loss(key, logits, targets):
    keys = jax.random.split(key, logits.shape[0])
    drawn = jax.vmap(
      lambda key, row, target: rollouts.sample(key, row, target, task, num)
    )(keys, logits, targets)
    advantages = jax.vmap(estimator)(drawn.likelihoods)
    losses_ = jax.vmap(losses.surrogate)(drawn.log_probs, advantages)
    return jnp.mean(losses_), _sampled_metrics(drawn.likelihoods)

  return loss


def _sampled_metrics(likelihoods: Array) -> dict[str, Array]:
  found = jnp.any(likelihoods > 0, -1)
  metrics = {
    "pass_rate": jnp.mean(likelihoods.astype(jnp.float32)),
    "solved": jnp.mean(found.astype(jnp.float32)),
  }
  if likelihoods.dtype != bool:  # Watched by `check_metrics`.
    metrics["likelihood_min"] = jnp.min(likelihoods)
    metrics["likelihood_max"] = jnp.max(likelihoods)
  return metrics


def check_config(config) -> None:
  """Raises ValueError at the first number that cannot be meant."""
  for name in ("runs", "steps", "batch_size", "rollouts", "log_every"):
    if config[name] < 1:
      raise ValueError(f"{name} = {config[name]}: must be at least 1")
  if config.steps % config.log_every:
    raise ValueError(
      f"log_every = {config.log_every}: must divide steps = {config.steps}"
    )
  if config.eval_every < 1 or config.eval_every % config.log_every:
    raise ValueError(
      f"eval_every = {config.eval_every}: must be a multiple of"
      f" log_every = {config.log_every}"
    )
  if config.optimizer.learning_rate <= 0:
    raise ValueError(
      f"optimizer.learning_rate = {config.optimizer.learning_rate}: must be"
      " above 0"
    )
  if not 0 <= config.optimizer.warmup < config.steps:
    raise ValueError(
      f"optimizer.warmup = {config.optimizer.warmup}: must be from 0 to"
      f" steps = {config.steps}"
    )


def _options(block) -> dict[str, Any]:
  """The fields of a config block that are set, less its name."""
  return {
    name: value
    for name, value in block.items()
    if name != "name" and value is not None
  }


def _choice(choices, field: str, name: str):
  if name not in choices:
    raise ValueError(f"{field} = {name!r}: choose from {sorted(choices)}")
  return choices[name]


def _build(choices, block: str, name: str, options: dict[str, Any]):
  make = _choice(choices, f"{block}.name", name)
  _check_options(block, name, make, options)
  return make(**options)


def _check_options(block: str, name: str, make, options) -> None:
  """Names the option that `make` does not take, or misses."""
  parameters = inspect.signature(make).parameters
  for option, value in options.items():
    if option not in parameters:
      taken = sorted(set(parameters) - {"likelihoods", "mask", "method"})
      raise ValueError(
        f"{block}.{option} = {value}: {name!r} takes {taken or 'no options'}"
      )
  for option, parameter in parameters.items():
    required = parameter.default is inspect.Parameter.empty
    if required and option not in options and option != "likelihoods":
      raise ValueError(f"{block}.{option} is not set: {name!r} needs it")
