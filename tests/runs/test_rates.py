"""Which learning rate is chosen, and what happens where none can be."""

from types import SimpleNamespace

import numpy as np
import pytest

from configs import bimodal
from experiments.runs import rates, regression_runs


@pytest.mark.parametrize(
  ("scores", "rate", "edge"),
  [
    ([0.1, 0.3, 0.2], 0.2, False),
    ([0.1, 0.3, 0.4], 0.4, True),
    ([-5, np.nan, -7], 0.1, True),
    ([np.nan, -np.inf, -7], 0.4, True),
    ([np.inf, 0.1, np.nan], 0.2, False),
    ([0.3, 0.3, 0.3], 0.1, True),
  ],
)
def test_the_best_of_those_that_did_not_diverge(scores, rate, edge):
  assert rates.best_rate("GRPO", (0.1, 0.2, 0.4), scores) == (rate, edge)


def test_one_rate_alone_has_no_edge():
  assert rates.best_rate("GRPO", (0.1,), [0.5]) == (0.1, False)


def test_rates_in_a_table():
  assert rates.marked(3e-4, True) == "0.0003 (edge)"
  assert rates.marked(0.1, False) == "0.1"


def test_a_regression_that_always_diverges_is_named(monkeypatch, tmp_path):
  """The second of two points; the first one has a rate."""
  losses = np.repeat([3.0, 2.0, np.nan, np.nan], 2)
  for module, name, value in (
    (regression_runs.training, "make_train", lambda *_, **__: None),
    (
      regression_runs.evaluation,
      "make_evaluate",
      lambda *_: lambda split, states: {"nll": losses},
    ),
    (
      regression_runs,
      "resumable",
      SimpleNamespace(measured=lambda *_, **__: ([], None)),
    ),
  ):
    monkeypatch.setattr(module, name, value)
  with pytest.raises(ValueError) as error:
    regression_runs.train(
      bimodal.get_config(),
      1,
      tmp_path,
      "bimodal MaxRL",
      points=[{"estimator.order": 1}, {"estimator.order": 2}],
      rates=(0.1, 0.3),
    )
  assert str(error.value) == (
    "bimodal MaxRL, estimator.order = 2: diverged at every learning rate"
    " (0.1, 0.3)"
  )
