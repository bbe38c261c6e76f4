"""Invalid arguments of the leave-one-out weights raise ValueError."""

import jax
import numpy as np
import pytest

from maxrl_jax import symmetric

traced = jax.jit(symmetric.leave_one_out, static_argnames="method")


@pytest.mark.parametrize("order", [0, -1, 4, 2.5, np.nan, [1, 2]])
def test_error_names_an_order_out_of_range(order):
  with pytest.raises(ValueError, match=r"^order = .* from 1 to 3 ") as error:
    symmetric.leave_one_out(np.full(3, 0.5), order)
  assert str(error.value).startswith(f"order = {order}: ")


def test_error_names_an_unsupported_method():
  l = np.full(3, 0.5)
  with pytest.raises(ValueError, match=r"method = 'peel': choose from"):
    symmetric.loo_weights(l, 2, method="peel")
  with pytest.raises(ValueError, match="a traced order or a mask, not both"):
    traced(l, 3, mask=np.ones(3, bool), method="quadrature")
  with pytest.raises(ValueError, match=r"'quadrature': choose from .* series"):
    symmetric.series_weights(l, np.ones(2), method="quadrature")


@pytest.mark.parametrize("terms", [0, 4])
def test_a_series_must_have_1_to_N_terms(terms):
  with pytest.raises(ValueError, match=rf"coefficients: {terms} terms for N"):
    symmetric.series_weights(np.full(3, 0.5), np.ones(terms))


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_likelihoods_must_be_one_group(shape):
  for call in (
    symmetric.leave_one_out,
    lambda l: symmetric.series_leave_one_out(l, np.ones(1)),
  ):
    with pytest.raises(ValueError, match=r"^likelihoods: shape .* vmap"):
      call(np.ones(shape))


def test_binary_method_requires_0_or_1():
  with pytest.raises(ValueError, match=r"likelihoods\[1\] = 0.6.*binary"):
    symmetric.leave_one_out(np.array([1.0, 0.6]), 1, method="binary")


@pytest.mark.parametrize("shape", [(), (3,), (4, 1)])
def test_error_names_a_mask_of_another_shape(shape):
  with pytest.raises(
    ValueError, match=r"mask: shape .* must be \[N\] = \(4,\)"
  ):
    symmetric.loo_weights(np.full(4, 0.5), 2, mask=np.ones(shape, bool))


@pytest.mark.parametrize("bad", [-1, np.nan, np.inf])
def test_coefficients_must_be_at_least_0(bad):
  with pytest.raises(ValueError, match=f"coefficients: {bad}, all must be"):
    symmetric.series_weights(np.full(3, 0.5), np.array([1.0, bad]))


@pytest.mark.parametrize("coefficients", [1.0, np.ones((1, 2))])
def test_coefficients_must_be_one_series(coefficients):
  with pytest.raises(ValueError, match=r"coefficients: shape .* must be \[T\]"):
    symmetric.series_weights(np.full(3, 0.5), coefficients)


def test_coefficients_must_be_numbers():
  with pytest.raises(ValueError, match=r"coefficients = \['a'\]: must be numb"):
    symmetric.series_weights(np.full(3, 0.5), ["a"])
