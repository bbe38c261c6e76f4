"""verl, for the tests of its adapter.

`recorded` imitates the registry of verl 0.9.1, so that these tests also run
where verl, with its pinned hundred packages, is not installed; `installed` is
verl itself.
"""

import importlib
import sys
import types
import warnings

import pytest

_ADAPTER = "maxrl_jax.integrations.verl"
_CORE = "verl.trainer.ppo.core_algos"
_BY_SESSION = "compute_advantage_for_multi_trajectories"


def _recorded():
  """The part of `_CORE` that estimators use: a registry without duplicates."""
  core = types.ModuleType(_CORE)
  core.registry = {}

  def register_adv_est(name):
    def decorate(function):
      if core.registry.setdefault(name, function) != function:
        raise ValueError(f"{name} has already been registered")
      return function

    return decorate

  core.register_adv_est = register_adv_est
  core.get_adv_estimator_fn = core.registry.__getitem__
  return core


def _recorded_trainer(core):
  """The function of the trainer that has the keys of rows, as for non-GRPO."""

  def compute(data, batch_keys, adv_estimator, config=None):
    del batch_keys
    data.batch["advantages"], _ = core.registry[adv_estimator](
      token_level_rewards=data.batch["token_level_rewards"],
      response_mask=data.batch["response_mask"],
      index=data.non_tensor_batch["uid"],
      config=config,
    )
    return data

  modules = {name: types.ModuleType(name) for name in ("trainer_base", "utils")}
  for module in modules.values():
    setattr(module, _BY_SESSION, compute)
  trainer = types.ModuleType("verl.trainer.ppo.v1")
  vars(trainer).update(modules)
  return trainer


@pytest.fixture(scope="session", params=["recorded", "installed"])
def verl(request):
  """(verl's core algorithms, the adapter imported on top of them)."""
  with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Warnings while importing verl.
    if request.param == "recorded":
      core = _recorded()
      parents = ("verl", "verl.trainer", "verl.trainer.ppo")
      for name in parents:
        patch.setitem(sys.modules, name, types.ModuleType(name))
      patch.setitem(sys.modules, _CORE, core)
      trainer = _recorded_trainer(core)
      patch.setitem(sys.modules, "verl.trainer.ppo.v1", trainer)
      sys.modules.pop(_ADAPTER, None)
    else:
      core = pytest.importorskip(
        _CORE, reason="verl is not installed", exc_type=ImportError
      )
    yield core, importlib.import_module(_ADAPTER)
    if request.param == "recorded":
      sys.modules.pop(_ADAPTER)
