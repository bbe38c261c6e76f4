"""Bias and variance on one prompt: every estimator against its estimand."""

import csv

import jax.numpy as jnp
import pytest

from experiments import estimator_moments
from maxrl_jax.estimators import ESTIMATORS, Estimator, estimands
from tests.support.extent import long

_STUDIED = tuple(n for n, e in ESTIMATORS.items() if e.estimand is not None)
_SETTINGS = estimator_moments.Settings(
  estimators=_STUDIED,
  orders=("1", "3"),
  baselines=("centred",),
  alpha=0.25,
  rollouts=4,
  arms=3,
  pass_rate=0.3,
  continuous=False,
  groups=1024,
  seed=0,
)
# Nothing at finite N, as the README's table has it.
_LIMITS = {
  False: {"grpo": "→ 2 arcsin √p", "self_normalized": "→ log p"},
  True: {"maxrl_paper": "→ log p", "self_normalized": "→ log p"},
}


@pytest.mark.parametrize("continuous", [long(False), True])
def test_every_estimator_is_unbiased_for_what_it_claims(continuous):
  rows = estimator_moments.study(_SETTINGS._replace(continuous=continuous))
  assert {row["estimator"] for row in rows} == set(_STUDIED)
  for row in rows:
    name, bias = row["estimator"], row["bias"]
    if continuous and name == "grpo":
      assert bias is None and row["bias_error"] is None
      assert row["target"].startswith("none") and row["variance"] > 0
    elif name in _LIMITS[continuous]:
      assert row["target"] == _LIMITS[continuous][name] and bias > 0.1, row
    else:
      assert bias < 1e-5 and "→" not in row["target"], row


def test_every_estimator_is_studied_or_said_not_to_be():
  assert {*_STUDIED, *estimator_moments._NOT_STUDIED} == set(ESTIMATORS)


def test_the_table_says_what_was_measured(tmp_path):
  settings = _SETTINGS._replace(estimators=("grpo", "power"), continuous=True)
  rows = estimator_moments.study(settings)
  estimator_moments.write(rows, settings, tmp_path / "study.csv")
  with open(tmp_path / "study.csv") as file:
    first, *others = csv.DictReader(file)
  assert first["bias"] == "" and len(others) == 2
  for row in (first, *others):
    assert (row["continuous"], row["groups"]) == ("True", "1024")
    assert (row["alpha"], row["pass_rate"], row["arms"]) == ("0.25", "0.3", "3")
  assert estimator_moments.text(rows).splitlines()[1].split()[-4] == "none"


def test_a_new_estimator_needs_an_estimand_and_no_colour(tmp_path, monkeypatch):
  monkeypatch.setitem(ESTIMATORS, "flat", Estimator(jnp.zeros_like))
  settings = _SETTINGS._replace(estimators=("rloo", "flat"))
  with pytest.raises(ValueError, match=r"'flat' has no estimand"):
    estimator_moments.study(settings)
  flat = Estimator(jnp.zeros_like, estimands.rl)
  monkeypatch.setitem(ESTIMATORS, "flat", flat)
  _, row = rows = estimator_moments.study(settings)
  assert row["bias"] == pytest.approx(1) and row["variance"] == 0
  estimator_moments.draw(rows, tmp_path / "study.png")
  assert (tmp_path / "study.png").stat().st_size > 5000
