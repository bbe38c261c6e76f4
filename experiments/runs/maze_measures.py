"""What is measured of mazes' warm-up: (config, made, params) → arrays."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.runs.maze_presets import METHODS
from experiments.runs.maze_runs import KS
from maxrl_jax import evaluation
from maxrl_jax.estimators import ESTIMATORS
from maxrl_jax.learning import batch_losses, rollouts
from maxrl_jax.tasks import mazes

ANSWERS = 64  # To each maze.
REPEATS = 4  # Groups of rollouts whose gradient norms are averaged.
COMPARED = ("MaxRL", "GRPO", "RLOO")


def answers(config, made, params) -> dict[str, np.ndarray]:
  """Answers to held-out mazes, whether right, and where they lead."""
  del config
  prompts = made.task.splits["test"]

  @jax.jit
  def draw(params):
    drawn = rollouts.sample_batch(
      jax.random.key(4), made.policy, params, prompts, made.task, ANSWERS
    )
    places, _ = jax.vmap(mazes.language.visited)(prompts.targets, drawn.actions)
    return drawn.actions, drawn.likelihoods, places

  answers, right, places = draw(params)
  return {
    "answers": np.asarray(answers),
    "right": np.asarray(right),
    "places": np.asarray(places),
    **{k: np.asarray(v) for k, v in prompts.targets._asdict().items()},
  }


def gradient_norms(config, made, params) -> dict[str, np.ndarray]:
  """Norms of each maze's own gradient by method, and its pass rate."""
  prompts = made.task.splits["validation"]
  count = prompts.inputs.shape[0]
  found: dict[str, np.ndarray] = {}
  for label in COMPARED:
    name = METHODS[label]["name"]
    loss = batch_losses.sampled(
      ESTIMATORS[name],
      made.policy,
      made.task,
      config.rollouts,
    )

    @jax.jit
    def norms(params, key, loss=loss):
      return evaluation.gradient_norms(
        lambda *arguments: loss(*arguments)[0],
        params,
        jax.random.split(key, count),
        prompts,
      )

    keys = jax.random.split(jax.random.key(2), REPEATS)
    found[label] = np.mean([norms(params, key) for key in keys], 0)
  correct = jax.jit(
    lambda params: evaluation.success_counts(
      made.policy, params, prompts, made.task, jax.random.key(3), KS[-1]
    )
  )(params)
  return found | {"pass_rate": np.asarray(correct / jnp.float32(KS[-1]))}
