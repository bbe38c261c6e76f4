"""The figures, each a function (preset, workdir) → Result."""

from experiments.figures import (
  bandit,
  bounds,
  digit_strings,
  estimator_study,
  gradient_norms,
  weights,
)

FIGURES = {
  "weights": weights.figure,
  "bounds": bounds.figure,
  "estimators": estimator_study.figure,
  "bandit": bandit.figure,
  "digits": digit_strings.figure,
  "gradient_norms": gradient_norms.figure,
}
