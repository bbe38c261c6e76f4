"""Policies against a known distribution of the right answer."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from maxrl_jax.evaluation import reference

_INF = float("inf")


def test_calibration_by_hand():
  """Answers with 3/4 and 1/4; the policy gives 1/2, 1/4, and 1/4 to others."""
  values = reference.calibration(
    np.array([[0.75, 0.25, 0.0]]),
    jnp.log(jnp.array([[0.5, 0.25, 0.25]])),
    (1, 2),
  )
  expected = {
    "kl": 0.75 * np.log(1.5),
    "total_variation": (0.25 + 0 + 0.25) / 2,
    "other": 0.25,
    "pass@1": 0.75 * 0.5 + 0.25 * 0.25,
    "pass@2": 0.75 * (1 - 0.25) + 0.25 * (1 - 0.5625),
  }
  assert values == pytest.approx(expected, rel=1e-6)


def test_calibration_is_a_mean_over_prompts():
  """One that guesses, and one with a single answer, which is certain."""
  values = reference.calibration(
    np.array([[0.5, 0.5], [1.0, 0.0]]),
    jnp.array([[0.0, -_INF], [0.0, jnp.nan]]),
    (1, 64),
  )
  assert values["kl"] == _INF
  del values["kl"]
  expected = {"total_variation": 0.25, "other": 0, "pass@1": 0.75}
  assert values == pytest.approx(expected | {"pass@64": 0.75})


def test_a_calibrated_policy_has_no_distance():
  q = np.array([[0.7, 0.2, 0.1], [0.6, 0.4, 0.0]])
  with np.errstate(divide="ignore"):
    values = reference.calibration(q, np.log(q), (1,))
  assert values["kl"] == pytest.approx(0, abs=1e-6)
  assert values["total_variation"] == pytest.approx(0, abs=1e-6)
  assert values["pass@1"] == pytest.approx((0.54 + 0.52) / 2)


def test_entropy_and_distinct_guesses_by_hand():
  q = np.array([[0.25, 0.5, 0.25], [0.0, 1.0, 0.0]])
  np.testing.assert_allclose(reference.entropy(q), [1.5 * np.log(2), 0])
  best = reference.distinct_guesses(q, (1, 2, 3, 64))
  np.testing.assert_allclose(best, [0.75, 0.875, 1, 1])


def test_the_optimum_of_two_answers_by_hand():
  """T = 2, w = 2 − p: of 3/5 and 2/5 0.6 (2 − p) = 0.4 (1 + p), p = 4/5.

  Of 3/4 and 1/4 all goes to the first: 3/4 w(1) > 1/4 w(0).
  """
  q = np.array([[0.6, 0.4], [0.75, 0.25]])
  np.testing.assert_allclose(
    reference.optimum(q, 2), [[0.8, 0.2], [1, 0]], atol=1e-9
  )
  np.testing.assert_array_equal(reference.optimum(q, 1), [[1, 0], [1, 0]])


@pytest.mark.parametrize("order", [2, 3, 7])
def test_no_other_policy_has_a_higher_objective(order):
  q = np.array([0.5, 0.3, 0.2])

  def objective(p):
    terms = [(1 - p) ** k / k for k in range(1, order + 1)]
    return -np.sum(q * np.sum(terms, 0), -1)

  best = reference.optimum(q[None], order)[0]
  assert best.sum() == pytest.approx(1)
  grid = [
    (i / 200, j / 200, (200 - i - j) / 200)
    for i, j in itertools.product(range(201), repeat=2)
    if i + j <= 200
  ]
  values = objective(np.array(grid))
  assert objective(best) >= values.max() - 1e-9
  near = np.abs(np.array(grid)[values.argmax()] - best).max()
  assert near <= 0.006  # The grid's best is beside it.


def test_the_optimum_tends_to_maximum_likelihood():
  q = np.array([[0.5, 0.3, 0.15, 0.05, 0.0]])
  distances = [
    np.abs(reference.optimum(q, order) - q).sum()
    for order in (1, 2, 4, 16, 64, 256, 1024)
  ]
  assert (np.diff(distances) < 0).all()
  assert distances[-1] < 1e-6


def test_an_order_below_one_is_refused():
  with pytest.raises(ValueError, match="order = 0: must be at least 1"):
    reference.optimum(np.array([[1.0]]), 0)


@pytest.mark.parametrize("log_pi", [np.log(1e-7), np.log(1e-8), -40.0])
def test_coverage_of_rare_answers_is_accurate(log_pi):
  values = reference.calibration(
    np.array([[1.0]]), jnp.array([[log_pi]], jnp.float32), (1024,)
  )
  exact = -np.expm1(1024 * np.log1p(-np.exp(log_pi)))
  assert float(values["pass@1024"]) == pytest.approx(exact, rel=1e-5)
