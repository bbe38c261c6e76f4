"""Regression metrics against a NumPy loop and an integral."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from maxrl_jax.distributions import Components
from maxrl_jax.evaluation import regression as metrics
from tests.support.regression_cases import small


def test_metrics_by_a_loop_in_numpy():
  policy, params, task, prompts = small(None, num_dims=2, bins=5)
  task = dataclasses.replace(task, tolerance=0.8)
  actual = jax.jit(
    lambda params, prompts: metrics.metrics(
      policy, task, params, prompts, (1, 3)
    )
  )(params, prompts)
  outputs = policy.apply(params, prompts.inputs)
  logits = np.float64(outputs.head)
  pi = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  values = np.linspace(-1, 1, 5)
  y = np.float64(prompts.targets.y)
  density = np.einsum(
    "bdc,bdc->bd", pi, stats.norm.pdf(y[..., None] - values, 0, 0.6)
  )
  nll = -np.log(density).sum(1).mean()
  mean = pi @ values
  near = np.einsum("bdc,bdc->bd", pi, np.abs(values - y[..., None]) <= 0.8)
  expected = {
    "nll": nll,
    "excess_nll": nll + float(prompts.targets.log_reference.mean()),
    "pass_rate": (density * 0.6 * (2 * np.pi) ** 0.5).prod(1).mean(),
    "mse": ((y - mean) ** 2).sum(1).mean(),
    "mse_clean": ((y - mean) ** 2).sum(1).mean(),
    "entropy": -(pi * np.log(pi)).sum((1, 2)).mean(),
    "correlation": np.mean(
      [np.corrcoef(mean[:, d], y[:, d])[0, 1] for d in range(2)]
    ),
    "pass@1": near.prod(1).mean(),
    "pass@3": (1 - (1 - near.prod(1)) ** 3).mean(),
  }
  pit = np.einsum(
    "bdc,bdc->bd", pi, stats.norm.cdf(y[..., None] - values, 0, 0.6)
  )
  expected["pit_distance"] = stats.kstest(pit.ravel(), "uniform").statistic
  assert set(actual) == set(expected)
  for name, value in expected.items():
    assert float(actual[name]) == pytest.approx(value, rel=1e-4), name


def test_entropy_of_normals_equals_formula_and_integral():
  zero = jnp.zeros(1)
  entropy = jax.jit(metrics.entropy)
  actual = entropy(Components(zero, zero, jnp.array([0.3])))
  assert float(actual) == pytest.approx(stats.norm(0, 0.3).entropy(), abs=1e-5)
  weights, means, scales = [0.25, 0.75], [-2.0, 1.0], [0.5, 0.8]
  x = np.linspace(-12, 12, 200_001)
  q = sum(
    w * stats.norm.pdf(x, m, s)
    for w, m, s in zip(weights, means, scales, strict=True)
  )
  integral = -np.trapezoid(np.where(q > 0, q * np.log(q + 1e-300), 0), x)
  policy = (jnp.log(jnp.array(weights)), jnp.array(means), jnp.array(scales))
  actual = entropy(Components(*policy))
  assert float(actual) == pytest.approx(integral, abs=1e-3)
