"""Checkpoints: what is kept, what is read back, and what damage does."""

import shutil

import jax
import numpy as np
import pytest

from configs import bandit
from maxrl_jax.learning import training
from maxrl_jax.runs import checkpoints


def _small():
  config = bandit.get_config()
  config.steps, config.log_every, config.eval_every = 50, 10, 10
  config.optimizer.name, config.runs = "adam", 2
  return config


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A folder of checkpoints, and the states and notes that went into it."""
  config, folder = _small(), tmp_path_factory.mktemp("run") / "checkpoints"
  trainer, saved_states = training.make_train(config), {}
  # Step 20 is the best of all, 40 and 50 are the last.
  scores = {10: 0.1, 20: 0.9, 30: 0.2, 40: 0.3, 50: 0.4}
  with checkpoints.Checkpoints(folder, keep_last=2, keep_best=1) as store:
    for step, states, _ in training.chunks(trainer, config):
      about = {"log": f"π after {step}", "seconds": step / 3}
      store.save(states, about, scores[step])
      saved_states[step] = jax.tree.map(np.array, states), about
  return folder, saved_states


@pytest.fixture
def folder(saved, tmp_path):
  """A copy that a test may damage."""
  return shutil.copytree(saved[0], tmp_path / "checkpoints")


def _same(actual: checkpoints.Checkpoint, saved_states) -> None:
  states, about = saved_states[actual.step]
  assert actual.about == about
  jax.tree.map(np.testing.assert_array_equal, actual.states, states)
  assert jax.tree.structure(actual.states) == jax.tree.structure(states)


def _names(folder) -> list[str]:
  return sorted(place.name for place in folder.iterdir())


def test_the_last_and_the_best_are_kept(saved):
  assert _names(saved[0]) == ["20", "40", "50"]


def test_what_is_read_is_what_was_saved(saved):
  folder, saved_states = saved
  actual, damage = checkpoints.restore(folder, saved_states[50][0])
  assert (actual.step, damage) == (50, [])
  _same(actual, saved_states)


def test_the_best_is_found(saved):
  folder, saved_states = saved
  actual, _ = checkpoints.read(folder, saved_states[50][0], best=True)
  assert (actual.step, actual.score) == (20, 0.9)
  _same(actual, saved_states)


def test_nothing_saved_is_nothing_found(saved, tmp_path):
  assert checkpoints.restore(tmp_path / "none", saved[1][50][0]) == (None, [])


def _largest(place):
  files = [path for path in place.rglob("*") if path.is_file()]
  return max(files, key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete"])
def test_damage_is_named_and_the_one_before_is_taken(saved, folder, harm):
  path = _largest(folder / "50" / "state")
  data = bytearray(path.read_bytes())
  if harm == "delete":
    path.unlink()
  else:
    data[len(data) // 2] ^= 4
    path.write_bytes(data if harm == "flip" else data[: len(data) // 2])
  actual, damage = checkpoints.restore(folder, saved[1][50][0])
  assert actual.step == 40
  _same(actual, saved[1])
  (message,) = damage
  assert message.startswith(f"{folder / '50'} is damaged: ")
  assert _names(folder) == ["20", "40", "damaged-50"]


def test_other_notes_than_were_saved_are_damage(saved, folder):
  path = folder / "50" / "_CHECKPOINT_METADATA"
  text = path.read_text()
  assert "after 50" in text
  path.write_text(text.replace("after 50", "after 51"))
  actual, damage = checkpoints.restore(folder, saved[1][50][0])
  assert actual.step == 40
  assert "contents are not those that were saved" in damage[0]


def test_a_place_is_taken_again_after_damage(saved, folder):
  saved_states = saved[1]
  for round_ in range(2):
    (folder / "50" / "_CHECKPOINT_METADATA").write_text("{")
    actual, damage = checkpoints.restore(folder, saved_states[50][0])
    assert actual.step == 40 and len(damage) == 1
    with checkpoints.Checkpoints(folder) as store:
      store.save(*saved_states[50], 0.4)
    _same(checkpoints.restore(folder, saved_states[50][0])[0], saved_states)
    assert f"damaged-50{'-1' * round_}" in _names(folder)


def test_nothing_whole_is_an_error(saved, folder):
  for place in folder.iterdir():
    shutil.rmtree(place / "state")
  with pytest.raises(
    ValueError, match=r"no checkpoint is intact: .*50.*40.*20"
  ):
    checkpoints.restore(folder, saved[1][50][0])


def test_states_of_another_config_do_no_harm(saved, folder):
  """They read as if damaged; the run that has them still goes on."""
  states = saved[1][50][0]
  with pytest.raises(
    ValueError, match=r"intact: .* are of another task, policy"
  ):
    checkpoints.restore(folder, states.replace(opt_state=()))
  assert _names(folder) == ["20", "40", "50"]
  _same(checkpoints.restore(folder, states)[0], saved[1])


def test_a_save_cut_short_is_nothing(saved, folder):
  """What a process leaves that is killed while it writes."""
  (folder / "50").rename(folder / "50.orbax-checkpoint-tmp")
  actual, damage = checkpoints.restore(folder, saved[1][50][0])
  assert (actual.step, damage) == (40, [])
  with checkpoints.Checkpoints(folder) as store:
    store.save(*saved[1][50], 0.4)
  assert _names(folder) == ["20", "40", "50"]


def test_what_cannot_be_written_is_one_error(saved, folder):
  """The folder is gone, as on a disk that was taken away."""
  states, about = saved[1][50]
  with (
    pytest.raises(OSError, match=f"cannot write a checkpoint to {folder}"),
    checkpoints.Checkpoints(folder) as store,
  ):
    shutil.rmtree(folder)
    folder.write_text("not a folder")
    store.save(states.replace(step=states.step + 1), about, 0.4)
    store.wait()
