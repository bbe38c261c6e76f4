"""The figure of half-seen mazes, in a size for tests."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments import figures
from experiments.figures import half_seen, warm_ups
from experiments.figures.half_seen import KS, Settings
from experiments.reports import results
from maxrl_jax import config as configs
from maxrl_jax.runs import study
from maxrl_jax.tasks.mazes.posterior import posterior

TINY = Settings(
  size=5,
  unknown=0.5,
  layers=1,
  width=16,
  batch_size=4,
  rollouts=4,
  orders=(1, 3),
  warmup=20,
  steps=4,
  evaluations=1,
  mazes=16,
  seeds=2,
)


class _Guess:
  """A policy that gives every token the log-probability −½."""

  def apply(self, params, inputs, answers=None, method=None):
    assert params == "params"
    if method is None:
      return inputs
    assert method == "score" and answers.shape[0] == inputs.shape[0]
    per_answer = jnp.full(answers.shape[:2], -answers.shape[-1] / 2)
    return SimpleNamespace(log_probs=per_answer)


def test_policies_walk_the_posteriors_paths_of_the_test_split():
  """With the probability of their moves, whatever comes after."""
  task = configs.make_task(half_seen.config_of(TINY, "rl"))
  trainer = SimpleNamespace(task=task, policy=_Guess())
  values = half_seen.walks(trainer)("params")
  answers, q = posterior(task.splits["test"].inputs, 9)
  moves = ((answers >= 13) & (answers <= 16)).sum(-1)
  assert set(moves[q > 0].tolist()) == {2, 4, 6}
  pi = np.where(q > 0, np.exp(-moves / 2), 0)
  expected = np.mean(np.sum(q * pi, -1))
  assert values["pass@1"] == pytest.approx(expected, rel=1e-5)
  distance = (np.abs(q - pi).sum(-1) + 1 - pi.sum(-1)) / 2
  assert values["total_variation"] == pytest.approx(distance.mean(), rel=1e-5)


def _data(what, *_, **__):
  """Made-up numbers that favour what the claims say."""
  count, seeds = len(what.points), len(what.seeds)
  noise = 1e-4 * np.tile(np.arange(seeds), count)
  order = [p["estimator.order"] or 0 for p in what.points]
  name = [p["estimator.name"] for p in what.points]
  rank = np.where(np.array(name) == "supervised", 4, order).repeat(seeds)
  ends = {
    "total_variation": 0.5 - rank / 10,
    "kl": 5 - rank,
    "other": rank / 99,
  }
  ends |= {f"pass@{k}": (0.9 - rank / 10 if k == 1 else 0.5) for k in KS}
  ends["pass@64"] = np.where(rank > 2, 0.9, 0.5)
  metrics = {
    f"probe_{key}": (
      ("run", "eval_step"),
      np.stack([np.full(count * seeds, 0.5), x + noise], -1),
    )
    for key, x in ends.items()
  }
  metrics["test_pass@64"] = "run", 0.5 + noise
  coordinates = {
    "point": ("run", np.arange(count).repeat(seeds)),
    "eval_step": [0, what.config.steps],
    "seconds": ("run", np.full(count * seeds, 60.0)),
  }
  return xr.Dataset(metrics, coordinates)


def test_the_figure_is_drawn_and_claims_follow_the_numbers(
  monkeypatch, tmp_path
):
  monkeypatch.setattr(warm_ups, "trained", lambda *_: tmp_path / "model")
  monkeypatch.setattr(study, "run", _data)
  result = figures.make("half_seen", TINY, tmp_path)
  results.save(result, "half_seen", tmp_path)
  for name in ("half_seen", "half_seen_prompts"):
    assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 5000
  assert len(result.claims) == 5
  assert all(claim.holds is True for claim in result.claims), result.claims
  (table,) = result.tables
  assert {len(row) for row in table.rows} == {len(table.header)}


def test_orders_without_rloo_are_refused(tmp_path):
  settings = TINY._replace(orders=(2, 3))
  with pytest.raises(ValueError, match=r"orders = \(2, 3\): must begin with 1"):
    figures.make("half_seen", settings, tmp_path)


@pytest.mark.long
def test_all_methods_are_trained_from_one_warm_up(tmp_path):
  settings = TINY._replace(warmup=600)  # Before, no rollout is right.
  result = figures.make("half_seen", settings, tmp_path)
  assert len(list(tmp_path.glob("*/model/model.safetensors"))) == 1
  what = figures.studies("half_seen", settings, tmp_path)["methods"]
  data = study.run(what, tmp_path)
  assert data["probe_pass@64"].shape == (8, 2)
  assert len(set(data["probe_kl"].values[:, 0].tolist())) == 1
  assert len(set(data["probe_kl"].values[:, 1].tolist())) == 8
  assert len(result.claims) == 5
