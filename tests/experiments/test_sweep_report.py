"""What a sweep's report chooses, compares and draws, on made-up runs."""

import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest

from configs import bandit, bimodal
from experiments.reports import sweep_figures, sweep_report
from experiments.reports.sweep_analysis import RATE, analyse
from maxrl_jax.runs import grid
from tests.support.sweep_cases import data_of


def _axes(text, config=None):
  return grid.parse(text, config or bandit.get_config())


def test_rates_are_chosen_on_seeds_that_are_not_reported():
  """Seed 0 likes 0.1, all others 0.3: what is chosen is 0.1."""
  axes = _axes("estimator.order=1,2;optimizer.learning_rate=0.1,0.3")

  def score(point, seed, split):
    better = 0.1 if seed == 0 else 0.3
    return 0.9 if point[RATE] == better else 0.2

  sweep = analyse(data_of(axes, 4, score, bandit.get_config()), axes)
  assert sweep.tuning.tolist() == [0]
  for method in sweep.methods:
    assert method.choice == (0.1, True)
    np.testing.assert_allclose(sweep.test(method), 0.2)
    assert sweep.data["seed"].values[method.runs].tolist() == [1, 2, 3]


def test_the_test_split_does_not_choose():
  axes = _axes("optimizer.learning_rate=0.1,0.2,0.3")

  def score(point, seed, split):
    best = 0.2 if split == "validation" else 0.3
    return float(point[RATE] == best)

  sweep = analyse(data_of(axes, 8, score, bandit.get_config()), axes)
  (method,) = sweep.methods
  assert method.label == "the config"
  assert method.choice == (0.2, False)
  np.testing.assert_allclose(sweep.test(method), 0.0)
  assert len(method.runs) == 6


def test_a_rate_that_changes_with_other_fields_is_chosen_all_the_same():
  axes = _axes(
    "estimator.name+optimizer.learning_rate=maxrl+0.1,maxrl+0.3,grpo+0.1"
  )
  config = bandit.get_config()
  sweep = analyse(data_of(axes, 4, lambda p, s, _: p[RATE], config), axes)
  assert sweep.tuning.tolist() == [0]
  choices = [method.choice for method in sweep.methods]
  assert choices == [(0.3, True), (0.1, False)]
  assert all(len(m.runs) == 3 for m in sweep.methods)


def test_one_method_that_diverged_spoils_no_figure(tmp_path):
  axes = _axes("estimator.name=grpo,maxrl;estimator.order=8,1;rollouts=16,32")

  def score(point, seed, split):
    lost = point["estimator.name"] == "grpo"
    more = 0.1 * (point["rollouts"] == 32)
    return np.nan if lost else 0.5 + 0.01 * seed + more

  sweep = analyse(data_of(axes, 4, score, bandit.get_config()), axes)
  profile = sweep_figures._profiles(sweep).figure.axes[0]
  assert np.isfinite(profile.get_xlim()).all()
  assert all(np.isfinite(line.get_xdata()).all() for line in profile.lines)
  panel = sweep_figures._map(sweep, "estimator.order", "rollouts").figure
  assert panel.axes[0].images[0].get_clim() == pytest.approx((0.515, 0.615))
  curve = sweep_figures._order_curve(sweep).figure.axes[0]
  assert curve.lines[0].get_xdata().tolist() == [1, 8]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_learning_curves_are_of_the_split_that_is_evaluated(split):
  """Studies of mazes evaluate the test split, and validation at the end."""
  axes = _axes("estimator.order=1,8")

  def score(point, seed, of):
    return 0.2 * seed if of == "validation" else 0.1

  data = data_of(axes, 3, score, bandit.get_config())
  if split == "test":
    names = {"validation_pass@1": "test_pass@1"}
    data = data.rename(names | {v: k for k, v in names.items()})
  sweep = analyse(data, axes)
  ax = sweep_figures._learning_curves(sweep).figure.axes[0]
  assert ax.get_ylabel() == f"{split} pass@1"
  np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.1, 0.2])
  sweep = sweep._replace(data=data.isel(eval_step=-1))
  assert sweep_figures._learning_curves(sweep) is None


def test_nll_is_better_when_smaller_and_divergence_is_never_chosen():
  config = bimodal.get_config()
  axes = _axes("optimizer.learning_rate=0.1,0.2,0.3", config)

  def score(point, seed, split):
    return {0.1: 3.0, 0.2: 2.0, 0.3: np.nan}[point[RATE]] + 0 * seed

  sweep = analyse(data_of(axes, 4, score, config, "nll"), axes)
  assert (sweep.score, sweep.larger) == ("nll", False)
  assert sweep.methods[0].choice.rate == 0.2


def test_a_method_that_diverged_at_every_rate_spoils_no_report():
  axes = _axes("estimator.order=1,2;optimizer.learning_rate=0.1,0.2,0.3")

  def score(point, seed, split):
    return np.nan if point["estimator.order"] == 1 else point[RATE] + 0 * seed

  lost, kept = analyse(
    data_of(axes, 4, score, bandit.get_config()), axes
  ).methods
  assert (lost.choice, kept.choice) == ((0.1, False), (0.3, True))


def test_methods_are_compared_with_the_first_seed_by_seed():
  axes = _axes("estimator.order=1,2,4")

  def score(point, seed, split):
    order = point["estimator.order"]
    return 0.1 * seed + 0.01 * order + 1e-4 * ((seed * order) % 5)

  sweep = analyse(data_of(axes, 6, score, bandit.get_config()), axes)
  (table,) = sweep_report._comparisons(sweep)
  assert [row[0] for row in table.rows] == ["T = 2", "T = 4"]
  assert table.rows[1][1] == "+0.030 [+0.030, +0.030]"
  assert table.rows[1][2] == "0.58"  # 21 of 36 pairs: seeds differ by more.


def _page(tmp_path):
  """A report with every figure there is."""
  axes = _axes(
    "estimator.order=1,4,8;rollouts=16,32;optimizer.learning_rate=0.1,0.3,1.0"
  )
  rng = np.random.default_rng(0)

  def score(point, seed, split):
    order = np.log2(point["estimator.order"])
    return 0.3 + 0.1 * order + 0.05 * point[RATE] + 0.02 * rng.normal()

  data = data_of(axes, 8, score, bandit.get_config())
  sweep_report.write(data, axes, tmp_path, "Is <b> escaped?")
  return tmp_path / "report.html"


def test_every_figure_is_drawn_and_the_page_needs_nothing_else(tmp_path):
  page = _page(tmp_path).read_text()
  drawn = {path.stem for path in (tmp_path / "figures").glob("*.png")}
  assert drawn == {
    "order",
    "learning",
    "learning_rate",
    "profile",
    "map_estimator_order_optimizer_learning_rate",
    "map_estimator_order_rollouts",
  }
  assert page.count("data:image/png;base64,") == len(drawn)
  assert "Is &lt;b&gt; escaped?" in page
  assert not re.search(r"src=.(?!data:)", page)
  beside = set(re.findall("href='([^#][^:']*)'", page))
  assert beside == {"runs.nc", "summary.csv"} | {
    f"figures/{name}.{ending}"
    for name in drawn
    for ending in ("png", "svg", "csv")
  }


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_errors_or_sideways_scrolling(
  tmp_path, width
):
  page = _page(tmp_path)
  # A frame of that width: a window of its own is never narrower than 500.
  frame = tmp_path / "frame.html"
  frame.write_text(
    f"<iframe id='f' src='{page.name}' style='width:{width}px;height:800px'>"
    "</iframe><script>f.onload = () => {"
    " const root = f.contentDocument.documentElement;"
    " document.title = root.scrollWidth + ' of ' + root.clientWidth; }</script>"
  )
  done = subprocess.run(
    [
      shutil.which("chromium"),
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--allow-file-access-from-files",
      "--enable-logging=stderr",
      f"--user-data-dir={pathlib.Path(tmp_path) / 'profile'}",
      "--virtual-time-budget=5000",
      "--dump-dom",
      frame.as_uri(),
    ],
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
  )
  assert "CONSOLE" not in done.stderr
  wide, allowed = re.search(r"<title>(\d+) of (\d+)", done.stdout).groups()
  assert int(wide) <= int(allowed)
