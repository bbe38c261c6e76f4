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
  llm,
  low_snr,
  maze_pictures,
  maze_rates,
  maze_studies,
  mazes,
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
  "maze_answers": maze_pictures.figure,
  "maze_gradients": maze_studies.gradients,
  "mazes": mazes.figure,
  "maze_rollouts": maze_studies.rollouts,
  "maze_scarce": maze_studies.scarce,
  "maze_baselines": mazes.baselines,
  "maze_rates": maze_rates.figure,
  "llm": llm.figure,
}
# Training transformers by RL takes longer than all the others: mazes have their
# own command, and only what is measured of the warm-up is among all. The choice
# of their learning rates takes longer still; presets record it.
MAZES = [
  name for name in FIGURES if name.startswith("maze") and name != "maze_rates"
]
_WARM_UP = ["maze_answers", "maze_gradients"]
ALL = [
  name for name in FIGURES if not name.startswith("maze") and name != "llm"
] + _WARM_UP
