"""The whole family of series objectives on a bandit: order T, power α, pass@K.

python -m experiments.sweep --config=configs/family.py --seeds=8 \
    --workdir=runs/family

MaxRL, power and pass@K differ only in the coefficients a_k of their series, so
one compiled program trains them all, at every learning rate.
"""

from ml_collections import ConfigDict

from configs import bandit

ORDERS = (1, 2, 4, 8, 16, 31)
ALPHAS = (0.25, 0.5, 0.75)
KS = (2, 4, 8, 16)


def get_config() -> ConfigDict:
  return bandit.get_config()


def get_sweep() -> dict:
  methods: list[tuple] = [("maxrl", order, None, None) for order in ORDERS]
  methods += [("power", None, alpha, None) for alpha in ALPHAS]
  methods += [("pass_at_k", None, None, k) for k in KS]
  fields = ("name", "order", "alpha", "k")
  return {
    tuple(f"estimator.{field}" for field in fields): methods,
    "optimizer.learning_rate": [0.1, 0.3, 1.0, 3.0],
  }
