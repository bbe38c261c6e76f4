"""docs/explorer in a browser: what it shows, what moves it, how it looks."""

import math
import re

import pytest

from maxrl_jax import plotting
from tests.docs.test_explorer_numbers import case, exact_moments, of_each

WIDTHS = [400, 800, 1400]
# Fewest and most, nothing and everything right, every kind of estimator.
SETTINGS = [
  {},
  {"p": 1e-4, "N": 1024, "T": 1023, "K": 0},
  {"p": 0.8, "N": 2, "T": 2, "K": 2, "baseline": "none"},
  {"p": 0.3, "N": 64, "T": 4, "K": 20, "estimator": "pass_at_k"},
  {"p": 0.5, "N": 256, "K": 128, "estimator": "grpo", "rho": 30},
  {"p": 1, "N": 100, "K": 100, "T": 10},
]


def address(explorer, **setting) -> str:
  parts = "&".join(f"{key}={value}" for key, value in setting.items())
  return f"{explorer.url.split('#')[0]}#{parts}"


def shown(explorer) -> dict:
  """Every number of the page as text, by its id."""
  return explorer.evaluate(
    "Object.fromEntries([...document.querySelectorAll('dd')]"
    ".map(x => [x.id, x.textContent]))"
  )


def test_first_setting_by_hand(explorer):
  text = shown(explorer)
  w = (1 - 0.98**15) / 0.02
  assert text["target"] == text["mean"] == f"{w:.2f}" == "13.07"
  assert text["weight-ml"] == "50"
  assert text["weight-rl"] == "1"
  assert text["objective-rl"] == "−0.98"
  assert text["objective-ml"] == f"{math.log(0.02):.3f}".replace("-", "−")
  assert text["bias"] == "0 to rounding"
  assert (text["right"], text["wrong"], text["sum"]) == ("15", "−1", "0")
  assert text["nothing"] == f"{0.98**16:.4f}"
  assert text["chance-K"] == f"{16 * 0.02 * 0.98**15:.4f}"
  assert text["this"] == f"{(1 - 1 / 16) / (0.02 * 0.98):.2f}"
  # Given K, ŵ is (1 − K/N) / (p (1−p)) but for K = 0.
  _, variance = exact_moments(case("maxrl", 16, 15, p=0.02))
  count = math.sqrt(variance) / w
  assert text["spread-count"] == f"{count:.3g}"
  # A right rollout has 16/K − 1, a wrong one −1: the mean square is 16/K − 1.
  square = sum(
    math.comb(16, K) * 0.02**K * 0.98 ** (16 - K) * (16 / K - 1)
    for K in range(1, 17)
  )
  scores = math.sqrt(square / 16) / (w * 0.02 * 0.98)
  assert text["spread-scores"] == f"{scores:.4g}"
  assert text["spread-total"] == f"{math.hypot(count, scores):.4g}"


def test_numbers_as_text(explorer):
  values = [0, 1, -0.98, 12345.678, 1e-4, 1.2342e-7, -1e7, 2e6]
  assert of_each(explorer, "x => charts.number(x)", values) == [
    *("0", "1", "−0.98", "12350", "0.0001"),
    *("1.234 × 10⁻⁷", "−1 × 10⁷", "2 × 10⁶"),
  ]


CHANGED = {  # By each slider: a number and a chart that must follow.
  "p": ("weight-ml", "weight"),
  "N": ("nothing", "group"),
  "T": ("weight-maxrl", "objective"),
  "K": ("this", "chance"),
  "rho": ("spread-scores", "spread"),
}


@pytest.mark.parametrize("key", CHANGED)
def test_arrow_keys_move_numbers_and_charts(explorer, key):
  number, chart = CHANGED[key]
  before = shown(explorer)[number], explorer.inner_html(f"#{chart}")
  value = float(explorer.input_value(f"#{key}"))
  explorer.focus(f"#{key}-slider")
  explorer.keyboard.press("ArrowRight")
  assert float(explorer.input_value(f"#{key}")) > value
  after = shown(explorer)[number], explorer.inner_html(f"#{chart}")
  assert after[0] != before[0]
  assert after[1] != before[1]
  explorer.keyboard.press("ArrowLeft")
  assert (shown(explorer)[number], explorer.inner_html(f"#{chart}")) == before


def test_typed_values_are_taken_or_brought_into_range(explorer):
  for key, typed, taken in [
    ("N", "37", "37"),
    ("T", "36", "36"),
    ("p", "0.0123", "0.0123"),
    ("K", "99", "37"),
    ("N", "1", "2"),
  ]:
    explorer.fill(f"#{key}", typed)
    explorer.keyboard.press("Enter")
    assert explorer.input_value(f"#{key}") == taken
  # The order comes back when there is room for it again.
  assert explorer.input_value("#T") == "2"
  explorer.fill("#N", "40")
  explorer.keyboard.press("Enter")
  assert explorer.input_value("#T") == "36"


def test_choices_groups_and_likelihoods(explorer):
  explorer.select_option("#estimator", "grpo")
  assert explorer.is_disabled("#baseline")
  assert shown(explorer)["bias"].startswith("−3.54 (−49.6 %)")
  explorer.select_option("#estimator", "maxrl_paper")
  assert explorer.is_disabled("#T") and explorer.input_value("#T") == "15"
  explorer.select_option("#estimator", "maxrl")
  explorer.select_option("#baseline", "none")
  assert (shown(explorer)["right"], shown(explorer)["wrong"]) == ("15", "0")
  explorer.evaluate("Math.random = () => 0")
  explorer.click("#draw")
  assert explorer.input_value("#K") == "16"
  explorer.click("#chance [data-count='2']")
  assert explorer.input_value("#K") == "2"
  explorer.select_option("#baseline", "centred")
  explorer.focus("#graded-rows tr:first-child input")
  before = explorer.inner_text("#graded-rows tr:first-child td:last-child")
  explorer.keyboard.press("ArrowLeft")
  after = explorer.inner_text("#graded-rows tr:first-child td:last-child")
  assert float(after) < float(before)


def test_nothing_to_estimate_where_all_are_right(explorer):
  explorer.goto(address(explorer, p=1))
  text = shown(explorer)
  for key in ("mean", "bias", "variance", "spread-total", "this"):
    assert text[key] == "—"
  assert text["weight-maxrl"] == "1"
  assert "nothing to estimate" in explorer.inner_text("#note")


def test_address_keeps_the_setting(explorer):
  wanted = dict(
    estimator="pass_at_k", baseline="loo_mean", p=0.3, N=9, T=4, K=5
  )
  explorer.goto(address(explorer, **wanted, l="1,0,0,0,0,0,0,0.5"))
  for key, value in wanted.items():
    assert explorer.input_value(f"#{key}") == str(value)
  explorer.focus("#K-slider")
  explorer.keyboard.press("ArrowRight")
  explorer.wait_for_url(re.compile("K=6"))
  before = shown(explorer)
  explorer.reload()
  assert shown(explorer) == before
  assert explorer.input_value("#graded-rows tr:last-child input") == "0.5"


def test_nonsense_in_the_address_is_the_first_setting(explorer):
  first = shown(explorer)
  nonsense = dict(estimator="toString", baseline="?", p="x", N="", T="NaN")
  explorer.goto(address(explorer, **nonsense, K="one", l="2,0", rho="-"))
  assert shown(explorer) == first


# What it looks like


def test_colours_are_those_of_the_figures(explorer):
  for name, colour in plotting.COLOURS.items():
    got = explorer.evaluate(
      "name => getComputedStyle(document.documentElement)"
      ".getPropertyValue(name)",
      f"--{name}",
    )
    if got:
      assert got.lower() == colour.lower()
  assert explorer.evaluate(
    "Object.keys(maths.ESTIMATORS)"
  ) == explorer.evaluate(
    "Object.keys(maths.ESTIMATORS).filter(x => getComputedStyle("
    "document.documentElement).getPropertyValue('--' + x))"
  )


OVERLAPS = """() => [...document.querySelectorAll('main svg[id]')].flatMap(
svg => {
  const box = (x) => x.getBoundingClientRect();
  const all = [...svg.querySelectorAll('text')];
  const outer = box(svg);
  const off = all.filter(x => box(x).left < outer.left - 0.5 ||
    box(x).right > outer.right + 0.5 || box(x).bottom > outer.bottom + 0.5 ||
    box(x).top < outer.top - 0.5);
  const meet = (a, b) => a.left < b.right && b.left < a.right &&
    a.top < b.bottom - 1 && b.top < a.bottom - 1;
  const over = all.filter((a, i) =>
    all.slice(i + 1).some(b => meet(box(a), box(b))));
  return [...off, ...over].map(x => `${svg.id}: ${x.textContent}`);
})"""


@pytest.mark.parametrize("width", WIDTHS)
def test_labels_fit_and_nothing_scrolls_sideways(explorer, width):
  explorer.set_viewport_size({"width": width, "height": 900})
  for setting in SETTINGS:
    explorer.goto(address(explorer, **setting))
    assert explorer.evaluate("document.documentElement.scrollWidth") == width
    assert explorer.evaluate(OVERLAPS) == []
    undrawn = explorer.evaluate(
      "[...document.querySelectorAll('main svg[id]')]"
      ".filter(x => x.querySelectorAll('text').length < 5 ||"
      " /NaN|Infinity|undefined/.test(x.innerHTML)).map(x => x.id)"
    )
    assert undrawn == []


def test_dark_where_dark_is_preferred(explorer):
  ground = "getComputedStyle(document.body).backgroundColor"
  explorer.emulate_media(color_scheme="light")
  assert explorer.evaluate(ground) == "rgb(255, 255, 255)"
  explorer.emulate_media(color_scheme="dark")
  dark = [int(x) for x in re.findall(r"\d+", explorer.evaluate(ground))]
  assert max(dark) < 50
  explorer.emulate_media(media="print")
  assert explorer.evaluate(ground) == "rgb(255, 255, 255)"
