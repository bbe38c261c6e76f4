"""Groups of six rollouts for estimators, and how advantages are compared."""

import numpy as np

# One group of six.
GRADED = np.array([0.9, 0.0, 0.35, 1.0, 0.6, 0.35])
BINARY = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])


def assert_same(got, expected, atol=1e-10):
  np.testing.assert_allclose(got, expected, rtol=0, atol=atol)
