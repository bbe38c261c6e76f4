"""The scaling law on paper against arithmetic by hand."""

import pytest

from benchmarks import scaling

_MACHINE = scaling.Machine("m", 1e12, 1e11, 1e10, 1e9, 8)
_WORK = scaling.Work("w", 1e6, 2e6, 10, 20, 4, 5, 100)


def test_one_device_by_hand():
  # 10 · (20 + 4 · 5) = 400 tokens are read three times, 200 written once.
  flops = 2e6 * (3 * 400 + 200)
  # Weights 5 times in bfloat16; of the cache on average half of 5 tokens.
  bytes_read = 5 * 2e6 + 200 * 2.5 * 100
  actual = scaling.seconds(_WORK, _MACHINE, 1)
  assert actual == pytest.approx((flops / 4e11, bytes_read / 4e10, 0))
  for weak in (True, False):
    assert scaling.efficiency(_WORK, _MACHINE, 1, weak) == pytest.approx(1)


def test_sixteen_devices_by_hand():
  # Too many to be near: a ring of 16 over the slow links, and of each group's
  # 4 numbers those of 10 · 8 / 16 prompts.
  bytes_sent = 2 * 15 / 16 * 4e6 + 4 * 4 * 5
  *_, communication = scaling.seconds(_WORK, _MACHINE, 16)
  assert communication == pytest.approx(bytes_sent / 1e9)
  alone = sum(scaling.seconds(_WORK, _MACHINE, 1))
  together = sum(scaling.seconds(_WORK, _MACHINE, 16))
  actual = scaling.efficiency(_WORK, _MACHINE, 16, weak=False)
  assert actual == pytest.approx(alone / (16 * together))
  assert actual < scaling.efficiency(_WORK, _MACHINE, 16, weak=True) < 1
