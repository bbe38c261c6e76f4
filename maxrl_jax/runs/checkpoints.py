"""Checkpoints of a run: whole or not at all, and checked when read back.

Orbax writes them, in the background, into folders that appear when they are
complete. What a disk does to them later it cannot know: a digest of everything
that was saved is kept with each, and compared before anything is trusted.
"""

import contextlib
import hashlib
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
_OVERHEAD = 2**20  # Bytes of a checkpoint's small files, generously.


class Checkpoint(NamedTuple):
  """What `Checkpoints.save` was given, and what `restore` gives back."""

  step: int
  states: TrainState  # Of NumPy arrays, run axis first.
  about: dict[str, Any]
  score: float


def restore(
  folder: pathlib.Path, like: TrainState, *, best: bool = False
) -> tuple[Checkpoint | None, list[str]]:
  """The newest checkpoint that is whole, and what is wrong with others.

  Every checkpoint is read and compared with its digest; a damaged one is moved
  to `damaged-STEP` in the same folder, so that the next can take its place.
  Where none is whole they all stay: states of another shape read the same.

  Args:
    folder: of one run's checkpoints; need not exist.
    like: shapes and types of the states.
    best: take the one with the highest score instead, of equals the newest.

  Returns:
    None where there are no checkpoints; a message for every damaged one.

  Raises:
    ValueError: there are checkpoints, and none is whole.
  """
  like = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
  taken, damage = None, {}
  places = [p for p in folder.glob("*") if p.name.isdigit()]
  for place in sorted(places, key=lambda p: int(p.name), reverse=True):
    try:
      found = _read(place, like)
      if taken is None or (best and found.score > taken.score):
        taken = found
    # A damaged file can make its reader fail in any way there is.
    except Exception as error:
      reason = " ".join(str(error).split())[:200] or type(error).__name__
      damage[place] = f"{place} is damaged: {reason}"
  if not processes.all_same(taken.step if taken else 0):
    raise ValueError(
      f"processes find different checkpoints in {folder}: it must be one folder"
      " that all of them see"
    )
  if processes.is_first() and taken is not None:
    for place in damage:
      _set_aside(place)
  processes.wait("checkpoints set aside")
  if damage and taken is None:
    raise ValueError(
      f"no checkpoint is whole: {'; '.join(damage.values())}; if they are"
      " not of another config, start over in another folder, or delete this one"
    )
  return taken, list(damage.values())


class Checkpoints(contextlib.AbstractContextManager):
  """Saves into a folder whose damaged checkpoints `restore` has set aside."""

  def __init__(
    self, folder: pathlib.Path, keep_last: int = 2, keep_best: int = 1
  ) -> None:
    """Opens the folder, making it if need be.

    Args:
      folder: for one run's checkpoints alone.
      keep_last: how many of the newest stay.
      keep_best: how many of those with the highest score stay besides.
    """
    kept = [_KEEP.LatestN(keep_last)]
    if keep_best:
      score = lambda metrics: metrics["score"]  # noqa: E731
      kept.append(_KEEP.BestN(get_metric_fn=score, n=keep_best))
    context = ocp.Context()
    # Where a folder cannot be made, that is an error at once; the background
    # writer would wait for it for minutes.
    context.asynchronous.create_directories_asynchronously = False
    context.asynchronous.timeout_secs = 300
    self._folder = folder
    self._saving: Any = None
    self._checkpointer = ocp.training.Checkpointer(
      folder.absolute(),
      preservation_policy=_KEEP.AnyPreservationPolicy(kept),
      context=context,
    )
    # Orbax would do so in a thread, which a process that ends at once trips.
    if processes.is_first():
      for unfinished in folder.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(unfinished)
    processes.wait("checkpoints opened")

  def save(self, states: TrainState, about: dict, score: float) -> None:
    """Begins to save; the states may be donated as soon as this returns.

    Args:
      states: run axis first.
      about: anything that JSON can hold.
      score: higher is better.

    Raises:
      OSError: this, or the save before it, could not be written.
    """
    self.wait()
    # Copies: what the next chunk takes over must not change under a writer.
    own = processes.whole(states)
    notes = json.dumps({"about": about, "score": score})
    self._check_room(own, notes)
    with self._named():
      self._saving = self._checkpointer.save_async(
        int(own.step[0]),
        own if jax.process_count() == 1 else jax.tree.map(jnp.copy, states),
        force=True,
        metrics={"score": score},
        custom_metadata={"notes": notes, "digest": _digest(own, notes)},
      )

  def _check_room(self, states: TrainState, notes: str) -> None:
    """Better no checkpoint begun than half of one on a full disk."""
    sizes = [leaf.nbytes for leaf in jax.tree.leaves(states)]
    needed = sum(sizes) + len(notes) + _OVERHEAD
    with self._named():
      free = shutil.disk_usage(self._folder).free
      if free < needed:
        raise OSError(
          f"{needed / 2**20:.1f} MiB are needed, {free / 2**20:.1f} are free"
        )

  def wait(self) -> None:
    """Until the save that has begun, if any, is on disk."""
    saving, self._saving = self._saving, None
    if saving is not None:
      with self._named():
        saving.result()

  def __exit__(self, *_: Any) -> None:
    with self._named():
      self._checkpointer.close()

  @contextlib.contextmanager
  def _named(self) -> Iterator[None]:
    """What goes wrong while writing, as one kind of error with the folder."""
    try:
      yield
    except Exception as error:
      raise OSError(
        f"cannot write a checkpoint to {self._folder}: {error}; those before it"
        " are whole"
      ) from error


def _read(place: pathlib.Path, like: TrainState) -> Checkpoint:
  place = place.absolute()
  kept = ocp.metadata(place).custom_metadata or {}
  if not {"notes", "digest"} <= kept.keys():
    raise ValueError("its notes cannot be read")
  states = ocp.load(place, like)
  if _digest(states, kept["notes"]) != kept["digest"]:
    raise ValueError("its contents are not those that were saved")
  return Checkpoint(int(states.step[0]), states, **json.loads(kept["notes"]))


def _digest(states: TrainState, notes: str) -> str:
  """Of every name, shape, type and byte."""
  found = hashlib.sha256(notes.encode())
  for path, leaf in jax.tree.leaves_with_path(states):
    leaf = np.asarray(leaf)
    head = f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}"
    found.update(head.encode())
    found.update(np.ascontiguousarray(leaf).tobytes())
  return found.hexdigest()


def _set_aside(place: pathlib.Path) -> None:
  """Renames, with a number where an earlier one has the name already."""
  for count in range(10**6):
    aside = place.with_name(f"damaged-{place.name}" + f"-{count}" * (count > 0))
    if not aside.exists():
      place.rename(aside)
      return
