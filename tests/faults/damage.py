"""A damaged checkpoint is detected, wherever the damage is.

    python -m tests.faults.damage --places=64

Every file of the newest checkpoint of a run is harmed at places on a grid, by a
flipped bit, by a run of zeros, by being cut off there; and deleted. Reading
must then give the states that were saved, of this step or, naming the damage,
of the one before: never others, and never an end without a message.
"""

import argparse
import collections
import logging as standard_logging
import pathlib
import shutil
import sys
import tempfile

import jax
import numpy as np
from absl import logging
from tqdm import tqdm

from configs import bandit
from maxrl_jax.learning import training
from maxrl_jax.runs import checkpoints


def saved(folder: pathlib.Path) -> dict:
  """A run with two checkpoints; its states and notes by step."""
  config = bandit.get_config()
  config.steps, config.log_every, config.eval_every = 20, 10, 10
  config.optimizer.name, config.task.num_prompts = "adam", 8
  trainer, saved_states = training.make_train(config), {}
  with checkpoints.Checkpoints(folder) as store:
    for step, states, _ in training.chunks(trainer, config):
      about = {"log": f"step {step}\n" * 10}
      store.save(states, about, float(step))
      saved_states[step] = jax.tree.map(np.array, states), about
  return saved_states


def harms(data: bytes, places: int):
  """(what was done, the file's bytes or None where it is gone)."""
  yield "deleted", None
  yield "emptied", b""
  for at in sorted({int(x) for x in np.linspace(0, len(data) - 1, places)}):
    for bit in (0, 7):
      flipped = bytearray(data)
      flipped[at] ^= 1 << bit
      yield f"bit {bit} of byte {at} flipped", bytes(flipped)
    yield f"16 zeros at {at}", data[:at] + bytes(16) + data[at + 16 :]
    yield f"cut at {at}", data[:at]


def outcome(folder: pathlib.Path, saved_states: dict) -> str:
  """What reading a harmed folder gives: reported, harmless or the error."""
  newest = max(saved_states)
  try:
    restored, damage = checkpoints.restore(folder, saved_states[newest][0])
  except Exception as error:
    return f"WRONG: {type(error).__name__}: {error}"
  if restored is None or restored.step not in saved_states:
    return "WRONG: nothing restored"
  states, about = saved_states[restored.step]
  same = jax.tree.map(np.array_equal, restored.states, states)
  if restored.about != about or not all(jax.tree.leaves(same)):
    return "WRONG: other contents than were saved"
  if restored.step == newest:
    return "harmless" if not damage else "WRONG: reported, and used"
  return "reported" if damage else "WRONG: not reported"


def grid(places: int) -> list[tuple[str, str, str]]:
  """(file, what was done to it, outcome) for every harm."""
  records = []
  with tempfile.TemporaryDirectory() as base:
    whole, harmed = pathlib.Path(base) / "whole", pathlib.Path(base) / "harmed"
    saved_states = saved(whole)
    newest = str(max(saved_states))
    files = [p for p in sorted((whole / newest).rglob("*")) if p.is_file()]
    for file in tqdm(files, desc="files", file=sys.stderr):
      name = file.relative_to(whole)
      for what, data in harms(file.read_bytes(), places):
        shutil.copytree(whole, harmed)
        if data is None:
          (harmed / name).unlink()
        else:
          (harmed / name).write_bytes(data)
        records.append((str(name), what, outcome(harmed, saved_states)))
        shutil.rmtree(harmed)
  return records


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--places", type=int, default=64, help="in every file")
  # Orbax and its tasks tell of every damage too.
  logging.set_verbosity(logging.FATAL)
  standard_logging.getLogger("asyncio").setLevel(standard_logging.CRITICAL)
  records = grid(parser.parse_args().places)
  counts = collections.Counter(result.split(":")[0] for *_, result in records)
  for file, what, result in records:
    if result.startswith("WRONG"):
      print(f"{file}, {what}: {result}")
  print(f"{len(records)} harms: {dict(counts)}")
  sys.exit(counts["WRONG"] > 0)


if __name__ == "__main__":
  main()
