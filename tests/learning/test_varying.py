"""Runs of one program that differ in a field equal the same runs alone."""

import jax
import numpy as np
import pytest

from maxrl_jax import evaluation, objectives
from maxrl_jax.config import may_vary
from maxrl_jax.learning import training
from tests.support.configs import make_config

_BANDIT = {"task.name": "bandit", "task.num_prompts": 7, "task.num_arms": 4}
_BANDIT |= {"task.hardest": 0.05}
_TEACHER = {"task.name": "teacher", "policy.name": "normal"}
_TEACHER |= {"likelihood.scale": 0.7, "task.eval_size": 30}
_POWER = {"estimator.name": "power", "estimator.order": 3}
_CASES = {
  "order": (_BANDIT, "estimator.order", (1, 3, 5)),
  "order of graded likelihoods": (
    _BANDIT | {"task.continuous": True},
    "estimator.order",
    (1, 2, 5),
  ),
  "alpha": (_BANDIT | _POWER, "estimator.alpha", (0.0, 0.5, 1.0)),
  "baseline": (_BANDIT, "estimator.baseline", (0.0, 0.5)),
  "epsilon": (
    _BANDIT | {"estimator.name": "grpo"},
    "estimator.epsilon",
    (0.0, 0.3),
  ),
  "cap": (
    _BANDIT | {"estimator.name": "sequential", "rollouts": 3},
    "estimator.cap",
    (3, 9, 60),
  ),
  "rate": (_BANDIT, "optimizer.learning_rate", (0.1, 0.4)),
  "sigma": (_TEACHER, "likelihood.scale", (0.5, 1.5)),
  "window": (
    _TEACHER | {"likelihood.name": "tolerance", "likelihood.scale": None},
    "likelihood.width",
    (0.5, 2.0),
  ),
  "snr": (_TEACHER, "task.snr", (0.5, 4.0)),
  "rho": (_TEACHER | {"task.name": "bag_of_words"}, "task.rho", (0.2, 0.8)),
  "noise": (_TEACHER | {"task.name": "bimodal"}, "task.noise", (0.2, 0.8)),
  "positive probability": (
    _TEACHER | {"task.name": "bimodal"},
    "task.positive_probability",
    (0.5, 0.8),
  ),
}


def _config(**fields):
  return make_config(
    {
      "steps": 6,
      "log_every": 3,
      "eval_every": 3,
      "batch_size": 5,
      "rollouts": 6,
      "optimizer.learning_rate": 0.05,
      "policy.hidden": () if fields["task.name"] != "bandit" else None,
    }
    | fields
  )


def _final(config, varying=(), **kwargs):
  trainer = training.make_train(config, varying=varying)
  *_, (_, states, metrics) = training.chunks(trainer, config, **kwargs)
  actual = evaluation.make_evaluate(trainer, (1, 4))("test", states)
  assert trainer.advance._cache_size() == 1
  return jax.tree.map(np.asarray, states.params), actual | metrics


@pytest.mark.parametrize("case", _CASES)
@pytest.mark.long
def test_a_varied_run_is_the_run_alone(case):
  base, field, values = _CASES[case]
  together, actual = _final(
    _config(**base | {field: values[0]}),
    [field],
    seeds=[3] * len(values),
    hyper={field: values},
  )
  for run, value in enumerate(values):
    alone, own = _final(_config(**base | {field: value}), seeds=[3])
    jax.tree.map(
      lambda a, b, run=run: np.testing.assert_allclose(
        a[run], b[0], rtol=2e-4, atol=2e-5
      ),
      together,
      alone,
    )
    for name, metric in own.items():
      np.testing.assert_allclose(
        actual[name][..., run], metric[..., 0], rtol=1e-3, atol=2e-5
      )
  # The field does something, or the comparison would say nothing.
  leaf = jax.tree.leaves(together)[-1]
  nll = actual.get("nll", np.zeros(2))
  assert np.abs(leaf[0] - leaf[1]).max() > 1e-4 or abs(nll[0] - nll[1]) > 1e-3


@pytest.mark.long
def test_coefficients_serve_every_series():
  """MaxRL, pass@k and power are one program with their own a_k."""
  cases = {
    "maxrl": ({"estimator.order": 4}, objectives.maxrl(4)),
    "pass_at_k": ({"estimator.k": 3}, objectives.pass_at_k(3)),
    "power": (
      {"estimator.alpha": 0.5, "estimator.order": 5},
      objectives.power(0.5),
    ),
  }
  rows = [
    objective.coefficients(options.get("estimator.order", 6))
    for options, objective in cases.values()
  ]
  rows = np.stack([np.pad(row, (0, 6 - len(row))) for row in rows])
  name = "estimator.coefficients"
  together, _ = _final(
    _config(**_BANDIT | {"estimator.name": "series", name: (1.0,)}),
    [name],
    seeds=[0] * 3,
    hyper={name: rows},
  )
  for run, (estimator, (options, _)) in enumerate(cases.items()):
    config = _config(**_BANDIT | {"estimator.name": estimator} | options)
    alone, _ = _final(config, seeds=[0])
    a, b = together["params"]["logits"], alone["params"]["logits"]
    np.testing.assert_allclose(a[run], b[0], rtol=1e-4, atol=1e-6)


def test_what_cannot_vary_is_refused():
  config = _config(**_BANDIT)
  with pytest.raises(ValueError, match="rollouts: cannot vary"):
    training.make_train(config, varying=["rollouts"])
  trainer = training.make_train(config)
  with pytest.raises(
    ValueError, match=r"hyper: estimator\.order is not a varying field"
  ):
    next(training.chunks(trainer, config, [0], {"estimator.order": [1]}))
  with pytest.raises(ValueError, match=r"task\.rho: has no effect"):
    training.make_train(config, trainer.task, ["task.rho"])
  assert set(trainer.init(jax.random.key(0)).hyper) <= may_vary(config)


@pytest.mark.parametrize(
  ("name", "values", "message"),
  [
    ("estimator.order", [1, 7], "order = 7: must be an integer from 1 to 6"),
    ("estimator.order", [2.5, 3], "order = 2.5: must be an integer"),
    ("estimator.order", [0, 1], "order = 0"),
    ("optimizer.learning_rate", [0.1, -1], "optimizer.learning_rate = -1"),
    ("optimizer.learning_rate", [0.0, 1], "optimizer.learning_rate = 0"),
    ("likelihood.scale", [-1.0, 1.0], "likelihood.scale = -1"),
  ],
)
def test_a_value_that_a_config_could_not_have_is_refused(name, values, message):
  config = _config(**(_TEACHER if name.startswith("lik") else _BANDIT))
  trainer = training.make_train(config, varying=[name])
  with pytest.raises(ValueError, match=message):
    next(training.chunks(trainer, config, [0, 1], {name: values}))


@pytest.mark.parametrize(
  ("fields", "name", "message"),
  [
    (
      _BANDIT | _POWER,
      "estimator.order",
      "order: cannot vary within one program",
    ),
    (
      _BANDIT | {"estimator.baseline": "none"},
      "estimator.baseline",
      "= 'none': must be",
    ),
    (_BANDIT, "task.snr", r"task\.snr: cannot vary within one program"),
    (
      _TEACHER
      | {"likelihood.per_prompt": True}
      | {"likelihood.smallest_scale": 0.1},
      "likelihood.scale",
      r"likelihood\.scale: cannot vary within one program",
    ),
  ],
)
def test_a_field_that_has_no_numbers_to_vary_is_named(fields, name, message):
  with pytest.raises(ValueError, match=message):
    training.make_train(_config(**fields), varying=[name])
