"""A step with sampled numbers against cross-entropy of the same transformer.

The baseline encodes the prompt and the digits of its target alone, as
supervised training does: one first digit, where the policy decodes all.
"""

import dataclasses

import jax

from benchmarks.steps import steps
from configs import noisy_regression
from maxrl_jax.learning import training
from maxrl_jax.policies import Transformer
from maxrl_jax.tasks import Prompts, Task

_STEPS = 5  # Per timed call.


def comparisons():
  """(name, library call, baseline call, target ratio, larger is better)."""
  config = noisy_regression.get_config()
  trainer = training.make_train(config)
  baseline = supervised(config, trainer)
  for estimator in ("maxrl", "rloo"):
    config.estimator.name = estimator
    yield (
      f"{_STEPS} steps, {config.batch_size} prompts of"
      f" {trainer.task.example.shape[1]} tokens: {estimator} N ="
      f" {config.rollouts} against cross-entropy",
      steps(training.make_train(config), _STEPS),
      steps(baseline, _STEPS),
      1.6,
      False,
    )


@dataclasses.dataclass(frozen=True)
class _Copying(Task):
  """The target is the answer."""

  def demonstrations(self, target: jax.Array) -> jax.Array:
    return target


def supervised(config, trainer: training.Train) -> training.Train:
  """Cross-entropy on the digits of the same prompts, without the policy."""
  policy = trainer.policy
  written = policy.numerals

  def digits_of(prompts: Prompts) -> Prompts:
    digits = written.digits(written.nearest(prompts.targets.y[:, 0]))
    return Prompts(prompts.inputs, digits)

  task = _Copying(
    draw=lambda key, batch: digits_of(trainer.task.draw(key, batch)),
    likelihoods=lambda target, answers: (answers == target).all(-1),
    splits={name: digits_of(x) for name, x in trainer.task.splits.items()},
    policies=("transformer",),
  )
  names = {field.name for field in dataclasses.fields(Transformer)}
  options = {
    field.name: getattr(policy, field.name)
    for field in dataclasses.fields(policy)
    if field.name in names - {"parent", "name"}
  }
  transformer = Transformer(
    **options, max_length=written.length, eos=policy.vocab_size - 1
  )
  other = config.copy_and_resolve_references()
  other.estimator.name = "supervised"
  return training.make_train(other, task, policy=transformer)
