"""The published maze setting (arXiv 2602.02710): 17 × 17, 3.9 M parameters.

Warm-up of 1500 steps, then 20 000 of RL with 32 mazes × 128 rollouts; one GPU.

python -m experiments.train --config=configs/maze_paper.py:warmup \
    --workdir=runs/warmup17
python -m experiments.train --config=configs/maze_paper.py \
    --config.policy.checkpoint=runs/warmup17/model --workdir=runs/maze17

The published warm-up checkpoint, a folder in Hugging Face format, can be named
instead. `--config.batch_size=256 --config.rollouts=4 --config.steps=9000` is a
run of the scaling study, for rollouts of 4, 8, …, 128.
"""

from ml_collections import ConfigDict

from configs import maze


def get_config(stage: str = "rl") -> ConfigDict:
  config = maze.get_config(stage)
  config.task.size = 17
  config.task.max_length = 180
  config.policy.num_layers = 4
  config.policy.hidden_size = 256
  config.policy.intermediate_size = 1024
  config.policy.num_heads = 4
  config.policy.num_kv_heads = 2
  config.policy.max_positions = 512
  config.policy.dtype = "bfloat16"
  config.optimizer.name = "adamw"
  config.optimizer.warmup = 0
  config.batch_size = 32
  config.log_every = 50
  config.eval_every = 500
  config.eval_rollouts = 2048
  if stage == "warmup":
    config.steps = 1500
    config.optimizer.learning_rate = 5e-4
  else:
    config.steps = 20_000
    config.rollouts = 128
    config.optimizer.learning_rate = 1e-4
  return config
