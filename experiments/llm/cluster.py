"""Models, sampling engine and training of one run in Tunix.

Imports Tunix: the extra `tunix`.
"""

import json
import pathlib
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from transformers import AutoTokenizer
from tunix.models.qwen3 import model as qwen3
from tunix.models.qwen3 import params as qwen3_params
from tunix.rl import rl_cluster
from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner
from tunix.rl.rollout.base_rollout import RolloutConfig

from maxrl_jax.evaluation import pass_at_k
from maxrl_jax.integrations.tunix import MaxRLConfig
from maxrl_jax.runs.files import write_text

Batch = dict[str, np.ndarray]

# Fields of Hugging Face's config.json by their name in Tunix.
_FIELDS = {
  "num_layers": "num_hidden_layers",
  "vocab_size": "vocab_size",
  "embed_dim": "hidden_size",
  "hidden_dim": "intermediate_size",
  "num_heads": "num_attention_heads",
  "num_kv_heads": "num_key_value_heads",
  "head_dim": "head_dim",
  "norm_eps": "rms_norm_eps",
  "use_tied_embedding": "tie_word_embeddings",
}


class Rollout(RolloutConfig):
  """How the engine samples; every read of `seed` returns a new key.

  Otherwise Tunix would draw with the same key in all steps.
  """

  @property
  def seed(self) -> jax.Array:
    self._reads += 1
    return jax.random.fold_in(self._key, self._reads)

  @seed.setter
  def seed(self, key: jax.Array | None) -> None:
    self._key, self._reads = jax.random.PRNGKey(0) if key is None else key, 0


def algorithm(name: str, num: int, order: int | None = None) -> GRPOConfig:
  """One of our estimators, or Tunix's grpo or rloo with the same loss."""
  if name in ("grpo", "rloo"):
    return GRPOConfig(
      advantage_estimator=name,
      num_generations=num,
      beta=MaxRLConfig.beta,
      loss_agg_mode=MaxRLConfig.loss_agg_mode,
    )
  return MaxRLConfig(estimator=name, num_generations=num, order=order)


def cluster(
  model, tokenizer, rollout: Rollout, mesh, **training
) -> rl_cluster.RLCluster:
  """One model, trained and sampled from on the same devices."""
  roles = rl_cluster.Role
  return rl_cluster.RLCluster(
    actor=model,
    tokenizer=tokenizer,
    cluster_config=rl_cluster.ClusterConfig(
      role_to_mesh={
        role: mesh for role in (roles.ACTOR, roles.REFERENCE, roles.ROLLOUT)
      },
      rollout_engine="vanilla",
      training_config=rl_cluster.RLTrainingConfig(**training),
      rollout_config=rollout,
    ),
  )


def make_mesh(tensor_parallel: int = 1) -> jax.sharding.Mesh:
  """All devices; axes have Tunix's names, fsdp for data, tp for layers."""
  count = jax.device_count()
  if count % tensor_parallel:
    raise ValueError(
      f"tensor_parallel = {tensor_parallel}: must divide the {count} devices"
    )
  axes = (jax.sharding.AxisType.Auto,) * 2
  sizes = count // tensor_parallel, tensor_parallel
  return jax.make_mesh(sizes, ("fsdp", "tp"), axis_types=axes)


def with_keys(
  batches: Iterable[Batch], rollout: Rollout, seed: int
) -> Iterator[Batch]:
  """Yields the batches; sets a key for each, the same in a resumed run."""
  for step, batch in enumerate(batches):
    rollout.seed = jax.random.fold_in(jax.random.PRNGKey(seed), step)
    yield batch


def post_train(
  settings: dict,
  train: Iterable[Batch],
  test: Iterable[Batch],
  verify: Callable[..., list[float]],
  workdir: pathlib.Path,
) -> dict[str, float]:
  """Trains a checkpoint and writes metrics.jsonl; returns test pass@k.

  Args:
    settings: flags of `experiments.gsm8k`.
    train: batches of prompts and answers.
    test: one such batch.
    verify: (prompts, completions, answer) → rewards.
    workdir: an absolute path.
  """
  trained, rollout = _restore(settings, workdir)
  metrics = Metrics(
    workdir / "metrics.jsonl",
    trained.actor_trainer.train_steps,
    settings["prompts"] * settings["rollouts"],
  )

  def rewards(prompts, completions, answer, **_):
    verified = verify(prompts, completions, answer)
    metrics.add(prompts, verified)
    return verified

  config = algorithm(
    settings["estimator"], settings["rollouts"], settings["order"]
  )
  learner = GRPOLearner(
    rl_cluster=trained, algo_config=config, reward_fns=rewards
  )
  learner.train(with_keys(train, rollout, settings["seed"]))
  return _test(trained, test, verify, settings)


def _restore(
  settings: dict, workdir: pathlib.Path
) -> tuple[rl_cluster.RLCluster, Rollout]:
  """The cluster, from its newest checkpoint if any, and how it samples."""
  folder = pathlib.Path(settings["model"])
  mesh = make_mesh(settings["tensor_parallel"])
  tokenizer = AutoTokenizer.from_pretrained(folder)
  room, length = settings["prompt_tokens"], settings["answer_tokens"]
  rollout = Rollout(
    max_prompt_length=room,
    max_tokens_to_generate=length,
    kv_cache_size=room + length,
    temperature=1.0,
    top_p=1.0,
  )
  restored = cluster(
    load_qwen3(folder, mesh),
    tokenizer,
    rollout,
    mesh,
    actor_optimizer=optax.adamw(settings["learning_rate"], weight_decay=0.0),
    eval_every_n_steps=settings["steps"] + 1,
    max_steps=settings["steps"],
    mini_batch_size=settings["prompts"],
    train_micro_batch_size=settings["micro_batch"],
    checkpoint_root_directory=str(workdir / "checkpoints"),
  )
  return restored, rollout


def load_qwen3(folder: pathlib.Path, mesh) -> qwen3.Qwen3:
  """A checkpoint in Hugging Face format, in bfloat16.

  Raises:
    ValueError: the folder has none, or one of another architecture.
  """
  try:
    record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = record["model_type"]
    fields = {name: record[field] for name, field in _FIELDS.items()}
  except (OSError, KeyError, ValueError) as error:
    raise ValueError(
      f"model = '{folder}': its config.json cannot be used ({error!r})"
    ) from None
  if kind != "qwen3":
    raise ValueError(f"model = '{folder}': is a {kind!r}, must be a 'qwen3'")
  rope = record.get("rope_parameters") or record
  config = qwen3.ModelConfig(
    rope_theta=int(rope["rope_theta"]),
    dtype=jnp.bfloat16,
    param_dtype=jnp.bfloat16,
    **fields,
  )
  return qwen3_params.create_model_from_safe_tensors(
    str(folder), config, mesh, dtype=jnp.bfloat16
  )


class Metrics:
  """metrics.jsonl: one line per step, of all its micro-batches."""

  def __init__(self, path: pathlib.Path, step: int, answers: int):
    """Resumes after `step`; deletes lines of steps that will be repeated.

    Args:
      path: of the file.
      step: number of steps done.
      answers: number per step.
    """
    self._path, self._step, self._answers = path, step, answers
    self._groups: dict[str, list[float]] = {}
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    whole = [x for x in text.splitlines(keepends=True) if x.endswith("\n")]
    done = [line for line in whole if json.loads(line)["step"] <= step]
    write_text(path, "".join(done))

  def add(self, prompts: Iterable, rewards: Iterable[float]) -> None:
    """A micro-batch; the last one of a step writes its line."""
    for prompt, reward in zip(prompts, rewards, strict=True):
      self._groups.setdefault(str(prompt), []).append(reward)
    groups = list(self._groups.values())
    if sum(map(len, groups)) < self._answers:
      return
    self._step += 1
    line = {
      "step": self._step,
      "pass_rate": float(np.mean(np.concatenate(groups))),
      "solved": float(np.mean([max(group) > 0 for group in groups])),
    }
    with open(self._path, "a", encoding="utf-8") as file:
      file.write(json.dumps(line) + "\n")
    self._groups = {}


def _test(trained, test: Iterable[Batch], verify, settings) -> dict[str, float]:
  """pass@k for powers of two up to N, from N answers per problem."""
  num, correct = settings["rollouts"], []
  (batch,) = test
  for prompt, answer in zip(batch["prompts"], batch["answer"], strict=True):
    evaluate = rl_cluster.Mode.EVAL
    texts = trained.generate([str(prompt)] * num, mode=evaluate).text
    correct.append(int(sum(verify([prompt] * num, texts, [answer] * num))))
  counts = jnp.array(correct)
  ks = 2 ** np.arange(num.bit_length())
  return {
    f"test/pass@{k}": float(jnp.mean(pass_at_k(counts, num, int(k))))
    for k in ks
  }
