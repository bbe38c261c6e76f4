"""Checkpoints of runs: atomic, and verified when they are restored.

Orbax writes them in the background into folders that appear when they are
complete. Orbax cannot detect later corruption: each checkpoint has a digest of
its contents, which is compared when it is restored.
"""

import contextlib
import hashlib
import itertools
import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

from maxrl_jax.devices import processes
from maxrl_jax.learning.update import TrainState

_KEEP = ocp.training.preservation_policies
_OVERHEAD = 2**20  # Bytes; a bound for the small files of a checkpoint.


class Checkpoint(NamedTuple):
  """States and their metadata, as `Checkpoints.save` was given them."""

  step: int
  states: TrainState  # Of NumPy arrays, run axis first.
  about: dict[str, Any]
  score: float


def restore(
  folder: pathlib.Path, like: TrainState
) -> tuple[Checkpoint | None, list[str]]:
  """The newest intact checkpoint; damaged ones are renamed to `damaged-STEP`.

  Their steps can then be saved again.

  Args:
    folder: of one run's checkpoints; need not exist.
    like: shapes and types of the states.

  Returns:
    The checkpoint, None if there are none; a message for every damaged one.

  Raises:
    ValueError: as `read`.
  """
  newest, problem = None, None
  damage: dict[pathlib.Path, str] = {}
  try:
    newest, damage = read(folder, like)
  except ValueError as error:  # All processes must agree first.
    problem = error
  if not processes.all_same(newest.step if newest else 0):
    raise ValueError(
      f"processes see different checkpoints in {folder}: it must be a folder"
      " that all of them share"
    )
  if problem is not None:
    raise problem
  if processes.is_first():
    for place in damage:
      _set_aside(place)
  processes.wait("checkpoints set aside")
  return newest, list(damage.values())


def read(
  folder: pathlib.Path, like: TrainState, *, best: bool = False
) -> tuple[Checkpoint | None, dict[pathlib.Path, str]]:
  """The newest intact checkpoint, and what is wrong with damaged ones.

  Every checkpoint is read and compared with its digest. Nothing is written.

  Args:
    folder: of one run's checkpoints; need not exist.
    like: shapes and types of the states.
    best: the checkpoint with the highest score instead, of equal ones the
      newest.

  Returns:
    The checkpoint, None if there are none; messages by path.

  Raises:
    ValueError: there are checkpoints, but none is intact; or their states have
      other shapes.
  """
  like = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
  chosen, damage = None, {}
  for place in _places(folder):
    try:
      checkpoint = _read(place, like)
    # Orbax may raise anything at a damaged file.
    except Exception as error:
      damage[place] = f"{place} is damaged: {_reason(error)}"
      continue
    _check_shapes(checkpoint.states, like, place)
    if chosen is None or (best and checkpoint.score > chosen.score):
      chosen = checkpoint
  if damage and chosen is None:
    # States of another structure look damaged too.
    raise ValueError(
      f"no checkpoint is intact: {'; '.join(damage.values())}; unless"
      " they are of another config, start over in another folder, or delete"
      " this one"
    )
  return chosen, damage


def _reason(error: Exception) -> str:
  """An error of Orbax in a line."""
  text = " ".join(str(error).split())
  if "tree structures do not match" in text:  # It would print all arrays.
    return "its states are of another task, policy or optimizer"
  return text[:200] or type(error).__name__


def about(folder: pathlib.Path) -> dict[str, Any]:
  """`about` of the newest checkpoint whose metadata can be read, or {}."""
  for place in _places(folder):
    # Orbax may raise anything at a damaged file.
    with contextlib.suppress(Exception):
      metadata = ocp.metadata(place.absolute()).custom_metadata
      return json.loads(metadata["notes"])["about"]
  return {}


def _places(folder: pathlib.Path) -> list[pathlib.Path]:
  """Paths of checkpoints, the newest first."""
  places = [p for p in folder.glob("*") if p.name.isdigit()]
  return sorted(places, key=lambda p: int(p.name), reverse=True)


class Checkpoints(contextlib.AbstractContextManager):
  """Saves into a folder on which `restore` has been called."""

  def __init__(
    self, folder: pathlib.Path, keep_last: int = 2, keep_best: int = 1
  ) -> None:
    """Opens the folder, and creates it if it is missing.

    Args:
      folder: only for the checkpoints of these runs.
      keep_last: number of newest checkpoints to keep.
      keep_best: number of checkpoints with the highest scores to keep as well.
    """
    policies = [_KEEP.LatestN(keep_last)]
    if keep_best:
      score = lambda metrics: metrics["score"]  # noqa: E731
      policies.append(_KEEP.BestN(get_metric_fn=score, n=keep_best))
    context = ocp.Context()
    # A folder that cannot be created is an error at once; the background writer
    # would wait for it for minutes.
    context.asynchronous.create_directories_asynchronously = False
    context.asynchronous.timeout_secs = 300
    self._folder = folder
    self._saving: Any = None
    self._checkpointer = ocp.training.Checkpointer(
      folder.absolute(),
      preservation_policy=_KEEP.AnyPreservationPolicy(policies),
      context=context,
    )
    # Orbax would delete them in a thread, which crashes a process that ends
    # early.
    if processes.is_first():
      for unfinished in folder.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(unfinished)
    processes.wait("checkpoints opened")

  def save(self, states: TrainState, about: dict, score: float) -> None:
    """Starts to save; the states may be donated as soon as this returns.

    Args:
      states: run axis first.
      about: anything that JSON can hold.
      score: higher is better.

    Raises:
      OSError: this, or the save before it, could not be written.
    """
    self.wait()
    # The next chunk reuses the memory while this one is written.
    copies = processes.whole(states)
    notes = json.dumps({"about": about, "score": score})
    self._check_room(copies, notes)
    with self._named():
      self._saving = self._checkpointer.save_async(
        int(copies.step[0]),
        copies if jax.process_count() == 1 else jax.tree.map(jnp.copy, states),
        force=True,
        metrics={"score": score},
        custom_metadata={"notes": notes, "digest": _digest(copies, notes)},
      )

  def _check_room(self, states: TrainState, notes: str) -> None:
    """Raises OSError if the disk has no room for a checkpoint."""
    sizes = [leaf.nbytes for leaf in jax.tree.leaves(states)]
    needed = sum(sizes) + len(notes) + _OVERHEAD
    with self._named():
      free = shutil.disk_usage(self._folder).free
      if free < needed:
        raise OSError(
          f"{needed / 2**20:.1f} MiB are needed, {free / 2**20:.1f} are free"
        )

  def wait(self) -> None:
    """Waits until the last save is on disk."""
    saving, self._saving = self._saving, None
    if saving is not None:
      with self._named():
        saving.result()

  def __exit__(self, *_: Any) -> None:
    with self._named():
      self._checkpointer.close()

  @contextlib.contextmanager
  def _named(self) -> Iterator[None]:
    """Turns any error while writing into an OSError with the folder."""
    try:
      yield
    except Exception as error:
      raise OSError(
        f"cannot write a checkpoint to {self._folder}: {error}; earlier ones"
        " are intact"
      ) from error


def _read(place: pathlib.Path, like: TrainState) -> Checkpoint:
  place = place.absolute()
  metadata = ocp.metadata(place).custom_metadata or {}
  if not {"notes", "digest"} <= metadata.keys():
    raise ValueError("its metadata cannot be read")
  states = ocp.load(place, like)
  if _digest(states, metadata["notes"]) != metadata["digest"]:
    raise ValueError("its contents are not those that were saved")
  notes = json.loads(metadata["notes"])
  return Checkpoint(int(states.step[0]), states, **notes)


def _check_shapes(
  states: TrainState, like: TrainState, place: pathlib.Path
) -> None:
  """Raises ValueError at another shape: Orbax restores arrays of any."""
  wanted = jax.tree.leaves(like)
  for (path, leaf), want in zip(
    jax.tree.leaves_with_path(states), wanted, strict=True
  ):
    if leaf.shape != want.shape:
      raise ValueError(
        f"{place}: states{jax.tree_util.keystr(path)} has shape {leaf.shape}"
        f" there, {want.shape} with this config, task and policy; use those"
        " that it was trained with"
      )


def _digest(states: TrainState, notes: str) -> str:
  """SHA-256 of every name, shape, type and byte."""
  total = hashlib.sha256(notes.encode())
  for path, leaf in jax.tree.leaves_with_path(states):
    leaf = np.asarray(leaf)
    head = f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}"
    total.update(head.encode())
    total.update(np.ascontiguousarray(leaf).tobytes())
  return total.hexdigest()


def _set_aside(place: pathlib.Path) -> None:
  """Renames to `damaged-STEP`, with a number if that exists."""
  for count in itertools.count():
    aside = place.with_name(f"damaged-{place.name}" + f"-{count}" * (count > 0))
    if not aside.exists():
      place.rename(aside)
      return
