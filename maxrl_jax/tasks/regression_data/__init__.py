"""Noisy regression data with reference densities.

Targets include log p*(y|x), of the density from which they were drawn or of the
best one that the prompt allows; excess NLL is a policy's distance from it.
"""

from maxrl_jax.tasks.regression_data.functions import (
  bimodal,
  heteroscedastic,
  teacher,
)
from maxrl_jax.tasks.regression_data.numbers import noisy_regression
from maxrl_jax.tasks.regression_data.real import diabetes
from maxrl_jax.tasks.regression_data.sequences import bag_of_words, in_context

__all__ = [
  "bag_of_words",
  "bimodal",
  "diabetes",
  "heteroscedastic",
  "in_context",
  "noisy_regression",
  "teacher",
]
