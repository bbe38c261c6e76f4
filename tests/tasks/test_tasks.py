import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from maxrl_jax.distributions import Components
from maxrl_jax.tasks import TASKS
from maxrl_jax.tasks import classification as classification_module


def test_bandit_starts_at_the_pass_rates_asked_for():
  for continuous in (False, True):
    task = TASKS["bandit"](
      num_prompts=9, hardest=1e-4, easiest=0.5, continuous=continuous
    )
    logits = np.float64(task.policy_options["initial_logits"])
    policy = np.exp(logits)
    table = np.float64(task.splits["train"].targets)
    np.testing.assert_allclose(policy.sum(1), 1, rtol=1e-5)
    expected = np.geomspace(1e-4, 0.5, 9)
    np.testing.assert_allclose((policy * table).sum(1), expected, rtol=1e-4)


def test_bandit_likelihoods_and_log_pass_rate_agree_with_a_loop():
  task = TASKS["bandit"](num_prompts=5, num_arms=4, continuous=True)
  target = jnp.asarray(task.splits["train"].targets[2])
  actions = jnp.array([3, 0, 0, 2])
  np.testing.assert_array_equal(
    task.likelihoods(target, actions), [float(target[a]) for a in actions]
  )
  logits = jnp.array([0.1, -2.0, 1.0, 0.5])
  p = np.exp(np.float64(logits))
  p = p / p.sum() @ np.float64(target)
  np.testing.assert_allclose(
    task.log_pass_rate(
      target, Components(jax.nn.log_softmax(logits), jnp.arange(4))
    ),
    np.log(p),
    1e-5,
  )


def test_digit_strings_show_the_digits_of_their_label():
  task = TASKS["digits"](num_digits=3, eval_size=50)
  data = load_digits()
  known = {
    image.tobytes(): label
    for image, label in zip(
      (data.images / 8 - 1).astype(np.float32), data.target, strict=True
    )
  }
  drawn = task.draw(jax.random.key(0), 20)
  for prompts in (drawn, task.splits["test"]):
    inputs = np.asarray(prompts.inputs)
    assert inputs.shape[1:] == (8, 24, 1)
    for picture, target in zip(inputs, prompts.targets, strict=True):
      parts = [picture[:, 8 * i : 8 * i + 8, 0] for i in range(3)]
      digits = [known[np.ascontiguousarray(part).tobytes()] for part in parts]
      assert int("".join(map(str, digits))) == int(target)


def test_digit_splits_share_no_image():
  task = TASKS["digits"](num_digits=1, eval_size=3000)
  draw = jax.jit(task.draw, static_argnums=1)
  inputs = np.asarray(draw(jax.random.key(1), 9000).inputs)
  train = {x.tobytes() for x in inputs}
  seen = {
    name: {x.tobytes() for x in np.asarray(prompts.inputs)}
    for name, prompts in task.splits.items()
  }
  assert len(seen["validation"]) == 200 and len(seen["test"]) == 450
  assert not train & seen["test"]
  assert not train & seen["validation"]
  assert not seen["validation"] & seen["test"]


def test_gaussian_teacher_is_learnable_and_noise_lowers_its_ceiling():
  clean = TASKS["gaussian_teacher"](num_classes=5, dim=3, task_seed=4)
  again = TASKS["gaussian_teacher"](num_classes=5, dim=3, task_seed=4)
  np.testing.assert_array_equal(
    clean.splits["test"].targets, again.splits["test"].targets
  )
  noisy = TASKS["gaussian_teacher"](
    num_classes=5, dim=3, task_seed=4, temperature=2.0
  )
  key = jax.random.key(0)
  a, b = (
    jax.jit(task.draw, static_argnums=1)(key, 4000) for task in (clean, noisy)
  )
  np.testing.assert_array_equal(a.inputs, b.inputs)
  agreement = float(jnp.mean(a.targets == b.targets))
  assert 0.2 < agreement < 0.8
  assert set(np.unique(a.targets)) == set(range(5))


def test_a_teacher_without_noise_draws_none():
  """B × C Gumbels would be most of the work, and nothing in the end."""
  for temperature, drawn in ((0.0, False), (0.5, True)):
    task = TASKS["gaussian_teacher"](
      num_classes=77, dim=3, eval_size=2, temperature=temperature
    )
    program = jax.make_jaxpr(lambda key, task=task: task.draw(key, 5))(
      jax.random.key(0)
    )
    assert (" log " in str(program)) == drawn


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("bandit", {"hardest": 0.0}, "hardest"),
    ("bandit", {"easiest": 1.0}, "easiest"),
    ("bandit", {"num_arms": 1}, "num_arms"),
    ("digits", {"num_digits": 0}, "num_digits"),
    ("digits", {"num_digits": 6}, "num_digits = 6: .* must be at most 5"),
    ("gaussian_teacher", {"num_classes": 1}, "num_classes"),
    ("gaussian_teacher", {"temperature": -1.0}, "temperature"),
  ],
)
def test_impossible_options_name_the_field(name, options, message):
  with pytest.raises(ValueError, match=message):
    TASKS[name](**options)


def test_training_set_is_the_rest():
  total = len(load_digits().target)
  held_out = classification_module._VALIDATION + classification_module._TEST
  task = TASKS["digits"](num_digits=1, eval_size=20_000)
  train = {x.tobytes() for x in np.asarray(task.splits["train"].inputs)}
  assert len(train) == total - held_out
