"""The figures, each a function (preset, workdir) → Result."""

from experiments.figures import (
  bandit,
  bimodal,
  bounds,
  budget,
  digit_strings,
  estimator_study,
  factorized,
  family,
  gradient_norms,
  heteroscedastic,
  jensen,
  low_snr,
  scale,
  weights,
)

FIGURES = {
  "weights": weights.figure,
  "bounds": bounds.figure,
  "estimators": estimator_study.figure,
  "bandit": bandit.figure,
  "digits": digit_strings.figure,
  "gradient_norms": gradient_norms.figure,
  "bimodal": bimodal.figure,
  "jensen": jensen.figure,
  "low_snr": low_snr.figure,
  "heteroscedastic": heteroscedastic.figure,
  "scale": scale.figure,
  "factorized": factorized.figure,
  "family": family.figure,
  "budget": budget.figure,
}
