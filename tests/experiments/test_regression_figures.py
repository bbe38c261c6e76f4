"""Studies of regression figures: their seeds and methods."""

import pytest

from experiments import figures
from experiments.figures import regression_methods as methods
from maxrl_jax.config import default
from maxrl_jax.runs.choose import Tuning

_NAMES = ("bimodal", "low_snr", "heteroscedastic", "factorized")


@pytest.mark.parametrize("name", _NAMES)
def test_seeds_that_choose_are_not_reported(name, tmp_path):
  settings = figures.settings(name, "full", ["seeds=3"])
  assert settings.rates
  for what in figures.studies(name, settings, tmp_path).values():
    assert what.seeds == (1, 2, 3)
    assert not set(what.seeds) & set(Tuning(()).seeds)
  assert not list(tmp_path.iterdir())


def test_a_method_that_does_not_exist_is_refused(tmp_path):
  settings = figures.settings("bimodal", "quick", ["others=MSE,IWEA"])
  with pytest.raises(ValueError, match="method = 'IWEA': choose from"):
    figures.studies("bimodal", settings, tmp_path)


def test_methods_and_rates_by_name():
  config = methods.with_method(default(task="bimodal"), "RLOO on −MSE")
  assert (config.estimator.name, config.estimator.signal) == ("rloo", "reward")
  words = methods.rate_in_words(config, ())
  assert words == "learning rate 0.1 for every method"
  words = methods.rate_in_words(config, (1e-3, 3e-3), "MSE")
  assert "from 0.001, 0.003 by the validation MSE of two other" in words
