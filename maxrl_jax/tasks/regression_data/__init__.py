"""Noisy regression data, each with the best that can be known of it.

Each data set knows the density p*(y|x) that it was drawn from, or the best that
can be inferred from what the prompt shows: its targets carry log p*(y|x), and
excess NLL over it is how far a policy is from the truth.
"""

from collections.abc import Callable

from maxrl_jax.tasks.regression import Data
from maxrl_jax.tasks.regression_data.functions import (
  bimodal,
  heteroscedastic,
  teacher,
)
from maxrl_jax.tasks.regression_data.real import diabetes
from maxrl_jax.tasks.regression_data.sequences import bag_of_words, in_context

REGRESSION: dict[str, Callable[..., Data]] = {
  "teacher": teacher,
  "heteroscedastic": heteroscedastic,
  "bimodal": bimodal,
  "bag_of_words": bag_of_words,
  "in_context": in_context,
  "diabetes": diabetes,
}
