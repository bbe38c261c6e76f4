"""Learning rates: chosen on validation seeds, reported on others."""

import numpy as np
import pytest
import xarray as xr

from configs import maze
from maxrl_jax.runs import choose, dataset, study
from maxrl_jax.runs.choose import Tuning
from maxrl_jax.runs.measure import Measure
from tests.support.configs import short_bandit
from tests.support.extent import long
from tests.support.regression_cases import short_config


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
  assert choose.best_rate("GRPO", (0.1, 0.2, 0.4), scores) == (rate, edge)


def test_one_rate_alone_has_no_edge():
  assert choose.best_rate("GRPO", (0.1,), [0.5]) == (0.1, False)


def test_rates_in_a_table():
  assert choose.rate_text(choose.Choice(3e-4, True)) == "0.0003 (edge)"
  assert choose.rate_text(choose.Choice(0.1, False)) == "0.1"


def _seeds(folder):
  return {int(path.stem.split("-")[-1]) for path in folder.glob("*.npz")}


def test_seeds_that_choose_are_not_reported(tmp_path):
  config = short_bandit()
  what = study.study(config, {"estimator.order": [1, 5]}, (1, 2, 3))
  rates = (0.1, 1.0, 30.0)
  tuned = choose.run(what, Tuning(rates), tmp_path)
  assert tuned.data["seed"].values.tolist() == [1, 2, 3] * 2
  assert _seeds(tmp_path) == {1, 2, 3, 1000, 1001}
  # The scores are those of the seeds that choose, on validation prompts.
  grid = {"estimator.order": [1, 5], choose.RATE: rates}
  trial = study.run(study.study(config, grid, (1000, 1001)), tmp_path)
  scores = dataset.final(trial, "validation_pass@1").reshape(2, 3, 2).mean(-1)
  np.testing.assert_allclose(tuned.scores, scores)
  best = [rates[i] for i in scores.argmax(1)]
  assert [choice.rate for choice in tuned.choices] == best
  np.testing.assert_allclose(
    tuned.data["optimizer_learning_rate"], np.repeat(best, 3)
  )


def test_a_grid_with_learning_rates_is_refused(tmp_path):
  what = study.study(short_bandit(), {choose.RATE: [0.1, 0.2]})
  for rates in ((0.1,), ()):
    with pytest.raises(ValueError, match=r"learning_rate is chosen here"):
      choose.run(what, Tuning(rates), tmp_path)


def test_without_rates_the_config_decides(tmp_path):
  what = study.study(short_bandit(), {"estimator.order": [1, 5]}, (1, 2))
  tuned = choose.run(what, Tuning(()), tmp_path)
  rate = what.config.optimizer.learning_rate
  assert tuned.choices == [(rate, False)] * 2 and tuned.scores.shape == (2, 0)
  assert _seeds(tmp_path) == {1, 2}


@pytest.mark.parametrize("rates", [long((1e-2, 1e30)), (1e29, 1e30)])
def test_a_rate_that_diverges_is_not_chosen(rates, tmp_path):
  """Losses: smaller is better."""
  config = short_config(
    **{
      "likelihood.scale": 1.0,
      "policy.name": "normal",
      "policy.policy_scale": 0.5,
      "policy.hidden": (),
      "estimator.name": "mse",
      "optimizer.schedule": "constant",
      "steps": 6,
    }
  )
  what = study.study(config, {"estimator.name": ["mse"]}, (1,))
  tuning = Tuning(rates, score="mse", larger=False)
  if rates[0] > 1:
    with pytest.raises(ValueError) as error:
      choose.run(what, tuning, tmp_path)
    assert str(error.value) == (
      "estimator.name = mse: diverged at every learning rate (1e+29, 1e+30)"
    )
    assert _seeds(tmp_path) == {1000, 1001}
  else:
    assert choose.run(what, tuning, tmp_path).choices == [(1e-2, True)]


@pytest.mark.parametrize(
  ("tuning", "message"),
  [
    (Tuning((0.1, 1.0), score="pass@2"), r"score = 'pass@2': only pass@k with"),
    (Tuning((0.1, 1.0), seeds=()), r"seeds = \(\): must be a list"),
    (Tuning((0.1, 1.0), seeds=3), "seeds = 3: must be a list"),
    (Tuning((0.1, 1.0), seeds=(1, 5)), "1 is a seed of the study, too"),
  ],
)
def test_a_wrong_choice_is_refused_before_training(tuning, message, tmp_path):
  what = study.study(short_bandit(), None, (1,), Measure(ks=(1, 4)))
  with pytest.raises(ValueError, match=message):
    choose.run(what, tuning, tmp_path)
  assert not [*tmp_path.iterdir()]


def test_a_score_of_more_rollouts_than_are_evaluated_is_refused(tmp_path):
  config = maze.get_config()
  config.eval_rollouts = 8
  what = study.study(config, None, (1,), Measure(ks=(4, 16)))
  with pytest.raises(ValueError, match="needs eval_rollouts = 8 to be"):
    choose.run(what, Tuning((0.1, 1.0), score="pass@16"), tmp_path)


def test_an_unknown_score_lists_those_that_there_are():
  data = xr.Dataset({"validation_nll": ("run", [1.0])})
  with pytest.raises(
    ValueError, match=r"score = 'nl': .*choose from \['nll'\]"
  ):
    choose.mean_scores(data, [0], [1], "nl", larger=False)


def test_runs_of_each_point_by_label():
  values = [10.0, 20.0, 11.0, 21.0]
  coordinates = {"point": ("run", [0, 1, 0, 1])}
  data = xr.Dataset({"score": ("run", values)}, coordinates)
  runs = dataset.by_point(data, ["first", "second"])
  assert runs["first"]["score"].values.tolist() == [10, 11]
  assert runs["second"]["score"].values.tolist() == [20, 21]
  with pytest.raises(ValueError, match="longer"):
    dataset.by_point(data, ["first"])
