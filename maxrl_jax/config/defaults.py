"""Every field of a config, its meaning and its default.

Blocks have the options of functions, from their signatures: `config.task` those
of its task, the other blocks those of every estimator, noise model and policy.
None means the default of the function that takes the option.
"""

import inspect
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from maxrl_jax import off_policy, options, ranges
from maxrl_jax.config.lookup import choice
from maxrl_jax.estimators import ESTIMATORS, NON_OPTIONS, Estimator
from maxrl_jax.likelihoods import LIKELIHOODS
from maxrl_jax.objectives import OBJECTIVES
from maxrl_jax.optimizers import OPTIMIZERS, SCHEDULES
from maxrl_jax.policies import POLICIES, SET_BY_TASK
from maxrl_jax.tasks import TASKS
from maxrl_jax.tasks.regression import Data

# Fields of config.optimizer that are not options of an entry of OPTIMIZERS.
OF_EVERY_OPTIMIZER = (
  *("learning_rate", "clip_norm", "spike_factor", "warmup", "schedule"),
)


class Block(ConfigDict):
  """A ConfigDict that, once locked, refuses unknown fields in one line."""

  def __setitem__(self, key: Any, value: Any) -> None:
    if self.is_locked and key not in self:
      hint = ranges.did_you_mean(key, self)
      raise KeyError(f"no field {key!r}: {hint}choose from {sorted(self)}")
    if isinstance(value, np.generic):  # As in a loop over an array.
      value = value.item()
    super().__setitem__(key, value)


def default(
  task: str | Callable = "digits",
  policy: str | Callable | None = None,
  estimator: str | Estimator | Callable = "maxrl",
  optimizer: str | Callable = "sgd",
  schedule: str | Callable = "cosine",
) -> ConfigDict:
  """The default config, locked: unknown fields are refused.

  Your own functions and modules are registered under their names, which every
  command then accepts.

  Args:
    task: a name in `tasks.TASKS`, or a function of options → Task or Data.
    policy: a name in `policies.POLICIES`, or a Flax module class; None is the
      first that the task takes.
    estimator: a name in `estimators.ESTIMATORS`, or an estimator.
    optimizer: a name in `optimizers.OPTIMIZERS`, or a function like those.
    schedule: a name in `optimizers.SCHEDULES`, or a function like those.
  """
  config = Block()

  config.seed = 0  # Seed of the first run; the others count up from it.
  config.runs = 1  # Seeds trained at once, vmapped into one program.
  config.steps = 3000  # Batches: updates, unless off_policy.updates is set.
  config.batch_size = 128  # B, prompts per update.
  config.rollouts = 128  # N, rollouts per prompt.
  config.log_every = 100  # Steps of a compiled chunk; divides steps.
  config.eval_every = 500  # Steps between evaluations; a multiple of log_every.
  # Per prompt, where p is sampled; the largest k of pass@k.
  config.eval_rollouts = 256
  # At an invalid value: "stop", or "skip" the update and count it.
  config.on_nonfinite = "stop"

  config.checkpoint = Block()
  config.checkpoint.every = placeholder(int)  # Steps; None: eval_every.
  config.checkpoint.keep_last = 2  # The newest checkpoints.
  config.checkpoint.keep_best = 1  # Also the best by validation pass@1.

  # Number of devices along each axis; None: as many as fit.
  config.mesh = Block()
  config.mesh.runs = placeholder(int)  # Runs of a program; divides runs.
  config.mesh.data = placeholder(int)  # Prompts of a batch; divides batch_size.
  config.mesh.rollouts = placeholder(int)  # Of one group; None: 1.
  config.mesh.model = placeholder(int)  # transformer: its heads; None: 1.

  # The objective. A name in `estimators.ESTIMATORS`; sequential, which draws
  # waves of N rollouts until a prompt is solved; or, from the exact pass rate:
  # cross_entropy (exact ML), exact_rl, exact_maxrl, exact_grpo, exact_power,
  # exact_pass_at_k; for regression also mse; for tasks with demonstrations
  # supervised.
  name = register("estimator", ESTIMATORS, estimator, Estimator)
  objectives = [e.function for e in ESTIMATORS.values()] + [
    *OBJECTIVES.values()
  ]
  config.estimator = union(objectives, name)
  # "likelihood" (default) or "reward".
  config.estimator.signal = placeholder(str)
  config.estimator.cap = placeholder(int)  # sequential: T, limit per prompt.
  # Per nat of the entropy of a token; for policies that write sequences.
  config.estimator.entropy_bonus = placeholder(float)
  # Per nat of KL(π‖ν) per rollout, where ν is the policy at the start.
  config.estimator.reference_kl = placeholder(float)
  config.estimator.factorized = placeholder(bool)  # A group per target dim.

  # Updates on rollouts of other parameters, with a loss of `off_policy.LOSSES`
  # or "reweighted"; without effect while U = 1 and S = 0.
  config.off_policy = union(
    off_policy.LOSSES.values(), None, off_policy.NON_OPTIONS
  )
  config.off_policy.updates = placeholder(int)  # U on each batch; None: 1.
  # S: rollouts are of the parameters before the last S batches; None: 0.
  config.off_policy.staleness = placeholder(int)
  config.off_policy.kl = placeholder(float)  # β per nat, to the behaviour.

  name = register("task", TASKS, task)
  config.task = own_block(TASKS[name], name)  # Only the options of this task.

  # Regression: the noise model that turns predictions into likelihoods.
  config.likelihood = union(LIKELIHOODS.values(), None)
  config.likelihood.per_prompt = placeholder(bool)  # σ is the prompt's.
  config.likelihood.learned = placeholder(str)  # Learn σ: "input", "global".

  chosen = None if policy is None else register("policy", POLICIES, policy)
  config.policy = union(_first(POLICIES, chosen), chosen, SET_BY_TASK)
  # Parameters to start from: model/ of a run; transformer: any Qwen2 folder.
  config.policy.checkpoint = placeholder(str)

  # sgd, adam, adamw and their options.
  name = register("optimizer", OPTIMIZERS, optimizer)
  config.optimizer = union(_first(OPTIMIZERS, name), name)
  config.optimizer.learning_rate = 0.1  # Peak.
  config.optimizer.clip_norm = placeholder(float)  # Of the global gradient.
  # Skip updates whose gradient norm exceeds its running mean by this factor.
  config.optimizer.spike_factor = placeholder(float)
  config.optimizer.warmup = 0  # Steps of linear warm-up.
  # cosine (to zero) or constant.
  config.optimizer.schedule = register("schedule", SCHEDULES, schedule)

  return config.lock()


def register(
  block: str,
  table: dict[str, Any],
  item: Any,
  wrap: Callable = lambda function: function,
) -> str:
  """The name of an item of the table; adds the item unless it is a name.

  Raises:
    ValueError: an unknown name, an object instead of a function, or one with
      the name of another one of the library.
  """
  if isinstance(item, str):
    if block != "estimator":  # There are exact objectives, too.
      choice(table, block, item)
    return item
  is_record = not isinstance(item, type) and hasattr(item, "function")
  function = item.function if is_record else item
  if not hasattr(function, "__name__"):
    raise ValueError(
      f"{block}: is a {type(item).__name__}, must be a name, a function or a"
      " class; objects are arguments of make_train"
    )
  name = function.__name__.lower()
  there = table.get(name)
  there = getattr(there, "function", there)
  if there is not function and _is_ours(there) and not _is_ours(function):
    raise ValueError(
      f"{block}: {name!r} is a name of the library; rename your function"
    )
  table[name] = item if is_record else wrap(item)
  return name


def _is_ours(function: Any) -> bool:
  return getattr(function, "__module__", "").startswith("maxrl_jax.")


def own_block(function: Callable, name: str) -> ConfigDict:
  """A block with the options of one function and their defaults."""
  block = Block({"name": name})
  for option, parameter in options.parameters(function).items():
    block[option] = _field(parameter, parameter.default)
  if options.returns(function) is Data and "tolerance" not in block:
    block.tolerance = 0.5  # pass@k: a prediction this close to y is right.
  return block


def _first(table: dict[str, Any], name: str | None) -> list[Any]:
  """A table's entries, that of the name first: it sets the types of options."""
  return sorted(table.values(), key=lambda x: name is None or x != table[name])


def union(
  functions: Iterable[Callable],
  name: str | None,
  exclude: Collection[str] = (),
) -> ConfigDict:
  """A block with the options of several functions, none of them set."""
  block = Block({"name": placeholder(str) if name is None else name})
  for function in functions:
    known = options.parameters(function, {*NON_OPTIONS, *exclude})
    for option, parameter in known.items():
      if option not in block:
        block[option] = _field(parameter, None)
  return block


def _field(parameter: inspect.Parameter, value: Any) -> Any:
  if value is None or value is parameter.empty:
    return placeholder(options.type_of(parameter))
  return value
