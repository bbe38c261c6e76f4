"""Training that goes on where it was interrupted, to the same numbers."""

import base64
import contextlib
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
from maxrl_jax.runs import checkpoints
from maxrl_jax.runs.checkpoints import Checkpoints

Record = dict[str, np.ndarray]


class Resumable:
  """Runs of one program, from the newest whole checkpoint of a folder on.

      run = Resumable(made, config, folder)
      for step in run.chunks(measure):
        print(step, run.records[-1])

  Attributes:
    step: steps done.
    states: after them, as in `training.chunks`; None before the first chunk.
    records: what was measured of each chunk, those before an interruption too.
    saved: the step of the newest checkpoint; 0 where there is none.
    seconds: of training, in all processes that had a part in it.
    about: what the checkpoint it goes on from says of its origin; None without.
  """

  def __init__(
    self,
    train: Train,
    config: ConfigDict,
    folder: pathlib.Path,
    seeds: Sequence[int] | np.ndarray | None = None,
    varied: dict[str, Any] | None = None,
  ) -> None:
    """Reads what the folder has.

    Args:
      train: from `make_train(config)`.
      config: the same; `config.checkpoint` says when to save and what to keep.
      folder: for these runs alone; need not exist.
      seeds: as in `training.chunks`.
      varied: as there.

    Warns of every damaged checkpoint.

    Raises:
      ValueError: there are checkpoints, and none is whole, or they are of runs
        with other seeds.
    """
    if seeds is None:
      seeds = config.seed + np.arange(config.runs)
    self._train, self._config, self._folder = train, config, folder
    self._seeds, self._varied = np.asarray(seeds).tolist(), varied
    self._like = _like(train, len(self._seeds), varied or {})
    found, damage = checkpoints.restore(folder, self._like)
    for message in damage:
      warnings.warn(message, stacklevel=2)
    self.step = self.saved = found.step if found else 0
    self.states: TrainState | None = found.states if found else None
    about: dict[str, Any] = {"records": [], "seconds": 0.0}
    if found:
      about = found.about
      _check_seeds(self._seeds, about["seeds"], folder)
    self.about: dict[str, Any] | None = about.get("origin")
    self._packed: list = about["records"]
    self.records = [_unpacked(record) for record in self._packed]
    self._begun = time.time() - about["seconds"]
    self._kept: Checkpoints | None = None

  @property
  def seconds(self) -> float:
    return time.time() - self._begun

  def best(self) -> TrainState:
    """States of the checkpoint with the highest validation pass@1.

    Raises:
      ValueError: there is none.
    """
    found, _ = checkpoints.restore(self._folder, self._like, best=True)
    if found is None:
      raise ValueError(f"'{self._folder}' has no checkpoint")
    return found.states

  def chunks(
    self,
    measure: Callable[[int, TrainState, Record], Record],
    *,
    origin: dict | None = None,
    patience: float = 0.0,
    check: bool | None = None,
  ) -> Generator[int, None, None]:
    """Trains what is left; closed early, it saves what is done.

    Args:
      measure: (step, states, metrics of the chunk) → what to keep of a chunk,
        arrays by name. "validation/pass@1", where it is among them, tells
        which checkpoint is the best.
      origin: kept in every checkpoint; anything that JSON can hold.
      patience: seconds between checkpoints at least, where config.checkpoint
        does not say how many steps.
      check: as in `training.chunks`.

    Yields:
      steps done.

    Raises:
      FloatingPointError: as `training.chunks`, with the last good checkpoint.
      OSError: a checkpoint cannot be written.
    """
    chunks = training.chunks(
      self._train,
      self._config,
      self._seeds,
      self._varied,
      states=self.states,
      check=check,
    )
    last = time.time()
    with contextlib.ExitStack() as stack:
      for step, states, metrics in self._telling(chunks):
        self.step, self.states = step, states
        record = measure(step, states, metrics)
        self.records.append(record)
        self._packed.append(_packed(record))
        if self._due(time.time() - last >= patience):
          self._save(stack, origin)
          last = time.time()
        try:
          yield step
        except GeneratorExit:
          if self.saved < step:
            self._save(stack, origin)
          raise

  def _due(self, patient: bool) -> bool:
    config = self._config
    if self.step != config.steps and (
      self.step % (config.checkpoint.every or config.eval_every)
    ):
      return False
    return config.checkpoint.every is not None or processes.any_of(patient)

  def _save(self, stack: contextlib.ExitStack, origin: dict | None) -> None:
    assert self.states is not None
    if self._kept is None:  # Short runs may have no checkpoint at all.
      block = self._config.checkpoint
      self._kept = stack.enter_context(
        Checkpoints(self._folder, block.keep_last, block.keep_best)
      )
    about = {
      "origin": origin,
      "seeds": self._seeds,
      "records": self._packed,
      "seconds": self.seconds,
    }
    # Below all scores, where the policies were not evaluated.
    score = self.records[-1].get("validation/pass@1", np.array(-1.0)).mean()
    score = float(score) if np.isfinite(score) else -1.0
    self._kept.save(self.states, about, score)
    self.saved = self.step

  def _telling(self, chunks: Iterator[Any]) -> Iterator[Any]:
    """The same chunks; an impossible number is told with what there is."""
    try:
      yield from chunks
    except FloatingPointError as error:
      last = f"step {self.saved} in {self._folder}" if self.saved else "none"
      raise FloatingPointError(
        f"{error}; last good checkpoint: {last}"
      ) from None


def _check_seeds(
  asked: list[int], found: list[int], folder: pathlib.Path
) -> None:
  if asked != found:
    raise ValueError(
      f"seeds = {asked}: '{folder}' has runs with seeds {found}; choose another"
      " folder"
    )


def _like(train: Train, count: int, varied: dict) -> TrainState:
  """Shapes and types of the states of so many runs."""
  varied = {name: jnp.asarray(x, jnp.float32) for name, x in varied.items()}

  def start(seeds: jax.Array) -> TrainState:
    return jax.vmap(train.init)(jax.vmap(jax.random.key)(seeds), varied)

  return jax.eval_shape(start, jnp.zeros(count, jnp.uint32))


def _packed(record: Record) -> dict[str, list]:
  """Arrays as JSON can hold them, to the bit and NaN too."""
  return {
    name: [x.dtype.str, x.shape, base64.b64encode(x.tobytes()).decode()]
    for name, x in ((name, np.asarray(x)) for name, x in record.items())
  }


def _unpacked(record: dict[str, list]) -> Record:
  return {
    name: np.frombuffer(base64.b64decode(data), dtype).reshape(shape)
    for name, (dtype, shape, data) in record.items()
  }
