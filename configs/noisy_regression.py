"""Regression from noisy pairs in the prompt, by a transformer, in digits.

python -m experiments.train --config=configs/noisy_regression.py \
    --workdir=runs/numbers
python -m experiments.train --config=configs/noisy_regression.py:small \
    --workdir=runs/few_numbers

The first has prompts of 90 tokens and 0.12 M parameters; `small` has prompts
of 62 tokens and 0.08 M parameters; `published` has prompts of 649 tokens and
1 M parameters; `published_noisy` has four inputs, 16 pairs and σ = 0.5.
"""

from ml_collections import ConfigDict

from maxrl_jax.config import default


def get_config(size: str = "tokens100") -> ConfigDict:
  config = default(task="noisy_regression", policy="digit_transformer")
  config.task.noise = config.likelihood.scale = 0.3
  config.policy.rope_theta = 100.0
  config.batch_size, config.rollouts = 32, 64
  config.steps, config.log_every, config.eval_every = 3000, 50, 250
  config.optimizer.name = "adamw"
  config.optimizer.learning_rate = 2e-3
  config.optimizer.warmup = 50
  config.optimizer.schedule = "constant"
  if size == "small":
    config.task.update(context=8, base=16, num_values=256)
    config.policy.intermediate_size, config.policy.num_kv_heads = 128, 4
    config.batch_size = 64
  elif size in ("published", "published_noisy"):
    config.task.update(dim=2, context=64, noise=0.001, limit=3.0)
    config.likelihood.scale = 0.05
    if size == "published_noisy":
      config.task.update(dim=4, context=16, noise=0.5, limit=5.0)
      config.likelihood.scale = 0.5
    config.task.update(base=16, num_values=256)
    config.policy.num_layers, config.policy.hidden_size = 4, 128
    config.policy.intermediate_size, config.policy.num_kv_heads = 448, 4
    config.policy.max_positions = 1024
    config.optimizer.learning_rate, config.optimizer.b2 = 1e-4, 0.95
  elif size != "tokens100":
    raise ValueError(
      f"configs/noisy_regression.py:{size}: choose from ['published',"
      " 'published_noisy', 'small', 'tokens100']"
    )
  return config
