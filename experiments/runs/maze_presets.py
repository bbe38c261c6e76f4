"""Maze experiments: methods, and how large everything is.

All that is set here ends in a config, or is a seed or a rate: `store` takes no
notice of these sources, so that a rate can be recorded, and none trained anew.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import config_dict

from configs import maze, maze_paper
from maxrl_jax import plotting

# Ways to learn, by the label that figures give them.
METHODS: dict[str, dict[str, Any]] = {
  "MaxRL": {"name": "maxrl"},
  "GRPO": {"name": "grpo"},
  "RLOO": {"name": "rloo"},
  "GRPO + entropy": {"name": "grpo", "entropy_bonus": 0.1},
  "pass@16": {"name": "pass_at_k", "k": 16},
  "power ½": {"name": "power", "alpha": 0.5},
  "TailRL": {"name": "tail_rl"},
  "MaxRL T = 2": {"name": "maxrl", "order": 2},
  "MaxRL T = 8": {"name": "maxrl", "order": 8},
}
COLOURS = {
  "MaxRL": plotting.COLOURS["maxrl"],
  "GRPO": plotting.COLOURS["grpo"],
  "RLOO": plotting.COLOURS["rloo"],
  "GRPO + entropy": "#666666",
  "pass@16": plotting.COLOURS["pass_at_k"],
  "power ½": plotting.COLOURS["power"],
  "TailRL": plotting.COLOURS["tail_rl"],
  "MaxRL T = 2": plotting.COLOURS["maxrl_paper"],
  "MaxRL T = 8": plotting.shade(0.75),
}


class Preset(NamedTuple):
  """A size of everything; fields are set in configs/maze.py or maze_paper.py.

  Attributes:
    config: stage ('warmup' or 'rl') → config.
    warmup: steps of supervised learning.
    steps: of RL, but for scarce data and the study of rollouts.
    rates: learning rates to choose from, for every method.
    chosen: {method: rate}, as `--figure=maze_rates` found; empty where that
      has not been run, and every figure then chooses first.
    tuning_seeds: of the runs that choose, never reported.
    seeds: reported.
    rollouts: N of the study of rollouts.
    rollout_steps: of that study.
    scarce: mazes of the fixed training set.
    scarce_steps: of RL on them.
    mazes: held-out, to evaluate on.
    evaluations: while a run lasts.
    changes: config fields by dotted name, for all runs.
  """

  config: Callable
  warmup: int
  steps: int
  rates: tuple[float, ...]
  chosen: dict[str, float]
  tuning_seeds: tuple[int, ...]
  seeds: tuple[int, ...]
  rollouts: tuple[int, ...]
  rollout_steps: int
  scarce: int
  scarce_steps: int
  mazes: int
  evaluations: int
  changes: dict


PRESETS = {
  "quick": Preset(
    config=maze.get_config,
    warmup=700,
    steps=180,
    rates=(5e-5, 1e-4, 2e-4, 5e-4),
    chosen=dict.fromkeys(METHODS, 1e-4)
    | dict.fromkeys(("GRPO", "pass@16", "MaxRL T = 2"), 5e-5),
    tuning_seeds=(1001, 1002),
    seeds=(1, 2, 3),
    rollouts=(4, 8, 16, 32),
    rollout_steps=180,
    scarce=32,
    scarce_steps=180,
    mazes=96,
    evaluations=3,
    changes={},
  ),
  "full": Preset(
    config=maze.get_config,
    warmup=3000,
    steps=4000,
    rates=(5e-5, 1e-4, 2e-4, 5e-4),
    chosen={},
    tuning_seeds=(1001, 1002),
    seeds=(1, 2, 3, 4, 5),
    rollouts=(4, 8, 16, 32, 64, 128),
    rollout_steps=4000,
    scarce=256,
    scarce_steps=4000,
    mazes=256,
    evaluations=20,
    changes={
      "task.size": 13,
      "task.max_length": 50,
      "policy.num_layers": 4,
      "policy.hidden_size": 128,
      "policy.intermediate_size": 512,
      "batch_size": 32,
      "rollouts": 128,
    },
  ),
  "paper": Preset(
    config=maze_paper.get_config,
    warmup=1500,
    steps=20_000,
    rates=(1e-4,),
    chosen=dict.fromkeys(METHODS, 1e-4),  # The published rate.
    tuning_seeds=(),
    seeds=(1, 2, 3),
    rollouts=(4, 8, 16, 32, 64, 128),
    rollout_steps=9000,
    scarce=1024,
    scarce_steps=20_000,
    mazes=256,
    evaluations=40,
    changes={},
  ),
}
# Whether what quick shows stays so, at five times its steps.
PRESETS["long"] = PRESETS["quick"]._replace(steps=900, evaluations=15)


def config_of(preset: Preset, stage: str, **changes) -> config_dict.ConfigDict:
  """The config of a stage; `changes` go by dotted name, after the preset's."""
  config = preset.config(stage)
  config.task.eval_size = preset.mazes
  config.update_from_flattened_dict(preset.changes | changes)
  return config
