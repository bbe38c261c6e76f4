"""Orders, methods, series and masks that leave-one-out weights refuse."""

import jax
import numpy as np
import pytest

from maxrl_jax import symmetric

traced = jax.jit(symmetric.leave_one_out, static_argnames="method")


@pytest.mark.parametrize("order", [0, -1, 4, 2.5, np.nan])
def test_an_order_out_of_range_is_named(order):
  with pytest.raises(ValueError, match=rf"^order = {order}: .* 1 to 3 "):
    symmetric.leave_one_out(np.full(3, 0.5), order)


def test_what_a_method_cannot_do_is_named():
  l = np.full(3, 0.5)
  with pytest.raises(ValueError, match=r"method = 'peel': choose from"):
    symmetric.loo_weights(l, 2, method="peel")
  with pytest.raises(ValueError, match=r"order = 1: quadrature has orders 2"):
    symmetric.loo_weights(l, 1, method="quadrature")
  with pytest.raises(ValueError, match="quadrature has orders"):
    traced(l, 3, method="quadrature")
  with pytest.raises(ValueError, match=r"method = 'quadrature': a series has"):
    symmetric.series_weights(l, np.ones(2), method="quadrature")


@pytest.mark.parametrize("terms", [0, 4])
def test_a_series_has_one_to_N_terms(terms):
  with pytest.raises(ValueError, match=rf"coefficients: {terms} terms for N"):
    symmetric.series_weights(np.full(3, 0.5), np.ones(terms))


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_likelihoods_are_one_group(shape):
  for call in (
    symmetric.leave_one_out,
    lambda l: symmetric.series_leave_one_out(l, np.ones(1)),
  ):
    with pytest.raises(ValueError, match=r"^likelihoods: shape .* vmap"):
      call(np.ones(shape))


def test_binary_refuses_what_is_between():
  with pytest.raises(ValueError, match=r"likelihoods\[1\] = 0.6.*binary"):
    symmetric.leave_one_out(np.array([1.0, 0.6]), 1, method="binary")


@pytest.mark.parametrize("shape", [(), (3,), (4, 1)])
def test_a_mask_of_another_shape_is_named(shape):
  with pytest.raises(
    ValueError, match=r"mask: shape .* must be \[N\] = \(4,\)"
  ):
    symmetric.loo_weights(np.full(4, 0.5), 2, mask=np.ones(shape, bool))


def test_negative_coefficients_are_refused():
  with pytest.raises(ValueError, match="coefficients: -1 is among them"):
    symmetric.series_weights(np.full(3, 0.5), np.array([1.0, -1.0]))
