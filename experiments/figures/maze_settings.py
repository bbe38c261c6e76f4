"""What the figures of mazes share: methods, settings and configs."""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import maze, maze_paper
from maxrl_jax import plotting
from maxrl_jax.config.build import choice

KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # Of pass@k, from KS[-1] rollouts.

# Values of OPTIONS, by the label that figures give to a method.
METHODS: dict[str, dict[str, Any]] = {
  "MaxRL": {"name": "maxrl"},
  "GRPO": {"name": "grpo"},
  "RLOO": {"name": "rloo"},
  "GRPO + entropy": {"name": "grpo", "entropy_bonus": 0.1},
  "pass@16": {"name": "pass_at_k", "k": 16},
  "power ½": {"name": "power", "alpha": 0.5},
  "MaxRL T = 2": {"name": "maxrl", "order": 2},
  "MaxRL T = 8": {"name": "maxrl", "order": 8},
}
# Methods in drawings: more than six lines cannot be told apart.
DRAWN = ("MaxRL", "GRPO", "RLOO", "GRPO + entropy", "pass@16", "power ½")
OPTIONS = ("name", "entropy_bonus", "k", "alpha", "order")
COLOURS = {
  label: plotting.COLOURS[options["name"]] for label, options in METHODS.items()
} | {
  "GRPO + entropy": "#666666",
  "MaxRL T = 2": plotting.COLOURS["maxrl_paper"],
  "MaxRL T = 8": plotting.shade(0.75),
}


def look(method: str) -> dict[str, Any]:
  """Colour and label of a method's line."""
  return {"colour": COLOURS[method], "label": method}


class Settings(NamedTuple):
  """Choices of the figures; the config file has all other fields.

  After the warm-up of the defaults most mazes are solved less than once in N
  rollouts.
  """

  config: str = "maze"  # File in configs/: maze or maze_paper.
  size: int = 9  # Of a maze, walls included.
  max_length: int = 26  # Tokens of an answer.
  random_ends: bool = True  # Start and goal anywhere, or in the corners.
  layers: int = 2  # Of the transformer.
  width: int = 64  # Of the transformer.
  batch_size: int = 16  # Mazes per update of RL.
  rollouts: int = 32  # Per maze.
  warmup: int = 200  # Steps of supervised learning.
  warmup_batch_size: int = 64  # Mazes per update of supervised learning.
  steps: int = 600  # Of RL.
  evaluations: int = 3  # During a run, and one more at its start.
  mazes: int = 96  # Held out.
  seeds: int = 5  # Reported.
  others: tuple[str, ...] = ("GRPO", "RLOO")  # Compared with MaxRL.
  # Candidate learning rates. Whole runs with unreported seeds choose by
  # validation pass@1, unless `recorded` has a rate for each of METHODS.
  rates: tuple[float, ...] = (1e-4, 2e-4, 5e-4)
  tuning_seeds: int = 1
  recorded: tuple[float, ...] = (
    *(5e-4, 2e-4, 1e-4, 2e-4),
    *(2e-4, 2e-4, 2e-4, 2e-4),
  )
  rollout_numbers: tuple[int, ...] = (4, 8, 16, 32)  # Of maze_rollouts.
  rollout_steps: int = 600
  scarce: int = 256  # Training mazes of maze_scarce.
  scarce_steps: int = 600
  # Of maze_when, as `warmup`.
  warmups: tuple[int, ...] = (100, 150, 200, 400, 800)
  when_steps: int = 300
  when_seeds: int = 3
  wave: int = 16  # Of maze_sequential; batches are as above.
  caps: tuple[int, ...] = (128, 512)
  fixed: tuple[int, ...] = (32, 128)  # Compared with the waves.
  sequential_steps: int = 150
  sequential_seeds: int = 5
  # Of each of `fixed`, then of each of `caps`; chosen as above if empty.
  sequential_recorded: tuple[float, ...] = (2e-4, 1e-4, 1e-4, 2e-4)

  @property
  def compared(self) -> tuple[str, ...]:
    """MaxRL and the others."""
    for method in self.others:
      choice(METHODS, "others", method)
    return ("MaxRL", *self.others)


PRESETS = {
  "quick": Settings(),
  "full": Settings(
    size=13,
    max_length=50,
    layers=4,
    width=128,
    batch_size=32,
    rollouts=128,
    warmup=3000,
    warmup_batch_size=32,
    steps=4000,
    evaluations=20,
    mazes=256,
    rates=(5e-5, 1e-4, 2e-4, 5e-4, 1e-3),
    tuning_seeds=2,
    recorded=(),
    rollout_numbers=(4, 8, 16, 32, 64, 128),
    rollout_steps=4000,
    scarce_steps=4000,
    warmups=(500, 1000, 2000, 3000),
    when_steps=1000,
    sequential_steps=1000,
    sequential_recorded=(),
  ),
  "paper": Settings(
    config="maze_paper",
    size=17,
    max_length=180,
    random_ends=False,
    layers=4,
    width=256,
    batch_size=32,
    rollouts=128,
    warmup=1500,
    warmup_batch_size=32,
    steps=20_000,
    evaluations=40,
    mazes=256,
    seeds=3,
    rates=(1e-4,),  # The published rate.
    recorded=(1e-4,) * len(METHODS),
    rollout_numbers=(4, 8, 16, 32, 64, 128),
    rollout_steps=9000,
    scarce=1024,
    scarce_steps=20_000,
    warmups=(400, 800, 1500, 3000),
    when_steps=9000,
    sequential_steps=9000,
    sequential_seeds=3,
    sequential_recorded=(1e-4,) * 4,
  ),
}


def config_of(settings: Settings, stage: str) -> ConfigDict:
  """The config of a stage, 'warmup' or 'rl', without its steps."""
  files = {"maze": maze, "maze_paper": maze_paper}
  config = choice(files, "config", settings.config).get_config(stage)
  config.task.max_length = settings.max_length
  config.task.random_ends = settings.random_ends
  config.eval_rollouts = KS[-1]
  config.batch_size = settings.warmup_batch_size
  set_sizes(config, settings, stage)
  return config


def set_sizes(config: ConfigDict, settings: Any, stage: str) -> None:
  """Sets the sizes of mazes and transformer and, for 'rl', of batches."""
  config.task.size, config.task.eval_size = settings.size, settings.mazes
  config.policy.num_layers = settings.layers
  config.policy.hidden_size = settings.width
  config.policy.intermediate_size = 4 * settings.width
  if stage == "rl":
    config.batch_size, config.rollouts = settings.batch_size, settings.rollouts


def recorded(settings: Settings) -> dict[str, float]:
  """The recorded rate of each method; {} if there are none."""
  if len(settings.recorded) not in (0, len(METHODS)):
    raise ValueError(
      f"recorded = {settings.recorded}: must be empty, or a rate for each of"
      f" {', '.join(METHODS)}"
    )
  return dict(zip(METHODS, settings.recorded, strict=False))
