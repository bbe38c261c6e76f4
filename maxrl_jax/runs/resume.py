"""Training that resumes after interruptions, with bit-identical results."""

import base64
import contextlib
import json
import pathlib
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from maxrl_jax.devices import processes
from maxrl_jax.learning import training
from maxrl_jax.learning.training import Train, TrainState
from maxrl_jax.runs import checkpoints, folders
from maxrl_jax.runs.checkpoints import Checkpoints

Record = dict[str, np.ndarray]
# Fields that may change when a run resumes; `_check_seeds` compares the seeds.
_MAY_DIFFER = (
  *("seed", "runs", "steps", "log_every", "eval_every", "eval_rollouts"),
  *("checkpoint", "mesh", "on_nonfinite"),
  *("task.data_dir", "policy.checkpoint"),  # Paths.
)


class Resumable:
  """Runs of one program, resumed from the newest intact checkpoint.

      run = Resumable(trainer, config, folder)
      for step in run.chunks(measure):
        print(step, run.records[-1])

  Attributes:
    step: steps done.
    states: after that step, as in `training.chunks`; None before the first
      chunk.
    records: measurements of all chunks, also those before an interruption.
    saved: the step of the newest checkpoint; 0 without one.
    seconds: of training, also those before an interruption.
    origin: metadata of the restored checkpoint; None without one.
  """

  def __init__(
    self,
    train: Train,
    config: ConfigDict,
    folder: str | pathlib.Path,
    seeds: Sequence[int] | np.ndarray | None = None,
    hyper: dict[str, Any] | None = None,
  ) -> None:
    """Restores the newest intact checkpoint of the folder, if there is one.

    Args:
      train: from `make_train(config)`.
      config: the same config; `config.checkpoint` says when to save.
      folder: only for these runs; need not exist.
      seeds: as in `training.chunks`.
      hyper: as in `training.chunks`.

    Warns of every damaged checkpoint.

    Raises:
      ValueError: there are checkpoints, but none is intact, or they are of
        another config or of other seeds.
    """
    if seeds is None:
      seeds = config.seed + np.arange(config.runs)
    self._train, self._config = train, config
    self._folder = folder = pathlib.Path(folder)
    self._seeds, self._hyper = np.asarray(seeds).tolist(), hyper
    _check_config(config, folder)
    self._like = like(train, len(self._seeds), hyper or {})
    newest, damage = checkpoints.restore(folder, self._like)
    for message in damage:
      warnings.warn(message, stacklevel=2)
    self.step = self.saved = newest.step if newest else 0
    self.states: TrainState | None = newest.states if newest else None
    about: dict[str, Any] = {"records": [], "seconds": 0.0}
    if newest:
      about = newest.about
      _check_seeds(self._seeds, about["seeds"], folder)
    self.origin: dict[str, Any] | None = about.get("origin")
    self._packed: list = about["records"]
    self.records = [unpacked(record) for record in self._packed]
    self._start = time.time() - about["seconds"]
    self._checkpoints: Checkpoints | None = None

  @property
  def seconds(self) -> float:
    return time.time() - self._start

  def revise(self, change: Callable[[Record], Record]) -> None:
    """Replaces every record, also in later checkpoints."""
    self.records = list(map(change, self.records))
    self._packed = list(map(_packed, self.records))

  def best(self) -> TrainState:
    """States of the checkpoint with the highest validation pass@1.

    Raises:
      ValueError: there is no checkpoint.
    """
    best, _ = checkpoints.read(self._folder, self._like, best=True)
    if best is None:
      raise ValueError(f"'{self._folder}' has no checkpoint")
    return best.states

  def chunks(
    self,
    measure: Callable[[int, TrainState, Record], Record],
    *,
    origin: dict | None = None,
    patience: float = 0.0,
    check: bool | None = None,
    at_start: bool = False,
  ) -> Generator[int, None, None]:
    """Trains the steps left; if closed early, saves the finished ones.

    Args:
      measure: (step, states, metrics of the chunk) → the chunk's record, arrays
        by name. "validation/pass@1", if a record has it, ranks checkpoints.
      origin: metadata of every checkpoint; anything that JSON can hold.
      patience: minimum seconds between checkpoints, if config.checkpoint.every
        is None.
      check: as in `training.chunks`.
      at_start: measure before the first step too, with no metrics.

    Yields:
      steps done.

    Raises:
      FloatingPointError: as `training.chunks`, with the last good checkpoint.
      OSError: a checkpoint cannot be written.
    """
    if at_start and not self.records:
      self.states = self._initial()
      self._add(measure(0, self.states, {}))
    chunks = training.chunks(
      self._train,
      self._config,
      self._seeds,
      self._hyper,
      states=self.states,
      check=check,
    )
    last = time.time()
    with contextlib.ExitStack() as stack:
      for step, states, metrics in self._with_checkpoint_hint(chunks):
        self.step, self.states = step, states
        self._add(measure(step, states, metrics))
        if self._due(time.time() - last >= patience):
          self._save(stack, origin)
          last = time.time()
        try:
          yield step
        except GeneratorExit:
          if self.saved < step:
            self._save(stack, origin)
          raise

  def _initial(self) -> TrainState:
    """States before the first step."""
    start_keys, _ = self._train.keys(np.asarray(self._seeds, np.uint32))
    hyper = {
      k: np.asarray(v, np.float32) for k, v in (self._hyper or {}).items()
    }
    return self._train.start(start_keys, jax.tree.map(jnp.asarray, hyper))

  def _add(self, record: Record) -> None:
    self.records.append(record)
    self._packed.append(_packed(record))

  def _due(self, waited: bool) -> bool:
    """Whether to save now; `waited`: `patience` is over."""
    config = self._config
    if self.step != config.steps and (
      self.step % (config.checkpoint.every or config.eval_every)
    ):
      return False
    return config.checkpoint.every is not None or processes.any_of(waited)

  def _save(self, stack: contextlib.ExitStack, origin: dict | None) -> None:
    assert self.states is not None
    if self._checkpoints is None:  # Short runs may have no checkpoint.
      block = self._config.checkpoint
      self._checkpoints = stack.enter_context(
        Checkpoints(self._folder, block.keep_last, block.keep_best)
      )
    about = {
      "origin": origin,
      "seeds": self._seeds,
      "records": self._packed,
      "seconds": self.seconds,
    }
    # Without an evaluation, below every score.
    score = self.records[-1].get("validation/pass@1", np.array(-1.0)).mean()
    score = float(score) if np.isfinite(score) else -1.0
    self._checkpoints.save(self.states, about, score)
    self.saved = self.step

  def _with_checkpoint_hint(self, chunks: Iterator[Any]) -> Iterator[Any]:
    """The same chunks; errors name the last good checkpoint."""
    try:
      yield from chunks
    except FloatingPointError as error:
      last = f"step {self.saved} in {self._folder}" if self.saved else "none"
      raise FloatingPointError(
        f"{error}; last good checkpoint: {last}"
      ) from None


def _check_config(config: ConfigDict, folder: pathlib.Path) -> None:
  """Raises ValueError if the folder has runs of another config."""
  origin = checkpoints.about(folder).get("origin")
  saved = origin.get("config") if isinstance(origin, dict) else None
  if isinstance(saved, dict):  # Custom loops may save anything as origin.
    asked = json.loads(config.to_json())
    may_differ = set(_MAY_DIFFER)
    if config.optimizer.schedule != "constant":  # It depends on the steps.
      may_differ.remove("steps")
    folders.check_same(saved, asked, f"'{folder}'", may_differ=may_differ)


def _check_seeds(
  asked: list[int], saved: list[int], folder: pathlib.Path
) -> None:
  """Raises ValueError if the folder has runs with other seeds."""
  if asked != saved:
    raise ValueError(
      f"seeds = {asked}: '{folder}' has runs with seeds {saved}; choose another"
      " folder"
    )


def like(train: Train, count: int, hyper: dict) -> TrainState:
  """Shapes and types of the states of this many runs."""
  hyper = {name: jnp.asarray(x, jnp.float32) for name, x in hyper.items()}

  def start(seeds: jax.Array) -> TrainState:
    return jax.vmap(train.init)(jax.vmap(jax.random.key)(seeds), hyper)

  return jax.eval_shape(start, jnp.zeros(count, jnp.uint32))


def _packed(record: Record) -> dict[str, list]:
  """Arrays as JSON, which `unpacked` restores bit-identical, also NaN."""
  return {
    name: [x.dtype.str, x.shape, base64.b64encode(x.tobytes()).decode()]
    for name, x in ((name, np.asarray(x)) for name, x in record.items())
  }


def unpacked(record: dict[str, list]) -> Record:
  """The arrays that `_packed` was given."""
  return {
    name: np.frombuffer(base64.b64decode(data), dtype).reshape(shape)
    for name, (dtype, shape, data) in record.items()
  }
