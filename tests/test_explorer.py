"""docs/explorer in a browser: what it shows, what moves it, how it looks."""

import math
import re

import pytest
from test_explorer_numbers import case, exact_moments, of_each

from maxrl_jax import plotting

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


def address(page, **setting) -> str:
  parts = "&".join(f"{key}={value}" for key, value in setting.items())
  return f"{page.url.split('#')[0]}#{parts}"


def shown(page) -> dict:
  """Every number of the page as text, by its id."""
  return page.evaluate(
    "Object.fromEntries([...document.querySelectorAll('dd')]"
    ".map(x => [x.id, x.textContent]))"
  )


def test_first_setting_by_hand(page):
  text = shown(page)
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


def test_numbers_as_text(page):
  values = [0, 1, -0.98, 12345.678, 1e-4, 1.2342e-7, -1e7, 2e6]
  assert of_each(page, "x => charts.number(x)", values) == [
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
def test_arrow_keys_move_numbers_and_charts(page, key):
  number, chart = CHANGED[key]
  before = shown(page)[number], page.inner_html(f"#{chart}")
  value = float(page.input_value(f"#{key}"))
  page.focus(f"#{key}-slider")
  page.keyboard.press("ArrowRight")
  assert float(page.input_value(f"#{key}")) > value
  after = shown(page)[number], page.inner_html(f"#{chart}")
  assert after[0] != before[0]
  assert after[1] != before[1]
  page.keyboard.press("ArrowLeft")
  assert (shown(page)[number], page.inner_html(f"#{chart}")) == before


def test_typed_values_are_taken_or_brought_into_range(page):
  for key, typed, taken in [
    ("N", "37", "37"),
    ("T", "36", "36"),
    ("p", "0.0123", "0.0123"),
    ("K", "99", "37"),
    ("N", "1", "2"),
  ]:
    page.fill(f"#{key}", typed)
    page.keyboard.press("Enter")
    assert page.input_value(f"#{key}") == taken
  # The order comes back when there is room for it again.
  assert page.input_value("#T") == "2"
  page.fill("#N", "40")
  page.keyboard.press("Enter")
  assert page.input_value("#T") == "36"


def test_choices_groups_and_likelihoods(page):
  page.select_option("#estimator", "grpo")
  assert page.is_disabled("#baseline")
  assert shown(page)["bias"].startswith("−3.54 (−49.6 %)")
  page.select_option("#estimator", "maxrl_paper")
  assert page.is_disabled("#T") and page.input_value("#T") == "15"
  page.select_option("#estimator", "maxrl")
  page.select_option("#baseline", "none")
  assert (shown(page)["right"], shown(page)["wrong"]) == ("15", "0")
  page.evaluate("Math.random = () => 0")
  page.click("#draw")
  assert page.input_value("#K") == "16"
  page.click("#chance [data-count='2']")
  assert page.input_value("#K") == "2"
  page.select_option("#baseline", "centred")
  page.focus("#graded-rows tr:first-child input")
  before = page.inner_text("#graded-rows tr:first-child td:last-child")
  page.keyboard.press("ArrowLeft")
  after = page.inner_text("#graded-rows tr:first-child td:last-child")
  assert float(after) < float(before)


def test_nothing_to_estimate_where_all_are_right(page):
  page.goto(address(page, p=1))
  text = shown(page)
  for key in ("mean", "bias", "variance", "spread-total", "this"):
    assert text[key] == "—"
  assert text["weight-maxrl"] == "1"
  assert "nothing to estimate" in page.inner_text("#note")


def test_address_keeps_the_setting(page):
  wanted = dict(
    estimator="pass_at_k", baseline="loo_mean", p=0.3, N=9, T=4, K=5
  )
  page.goto(address(page, **wanted, l="1,0,0,0,0,0,0,0.5"))
  for key, value in wanted.items():
    assert page.input_value(f"#{key}") == str(value)
  page.focus("#K-slider")
  page.keyboard.press("ArrowRight")
  page.wait_for_url(re.compile("K=6"))
  before = shown(page)
  page.reload()
  assert shown(page) == before
  assert page.input_value("#graded-rows tr:last-child input") == "0.5"


def test_nonsense_in_the_address_is_the_first_setting(page):
  first = shown(page)
  nonsense = dict(estimator="toString", baseline="?", p="x", N="", T="NaN")
  page.goto(address(page, **nonsense, K="one", l="2,0", rho="-"))
  assert shown(page) == first


# What it looks like


def test_colours_are_those_of_the_figures(page):
  for name, colour in plotting.COLOURS.items():
    got = page.evaluate(
      "name => getComputedStyle(document.documentElement)"
      ".getPropertyValue(name)",
      f"--{name}",
    )
    if got:
      assert got.lower() == colour.lower()
  assert page.evaluate("Object.keys(maths.ESTIMATORS)") == page.evaluate(
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
def test_labels_fit_and_nothing_scrolls_sideways(page, width):
  page.set_viewport_size({"width": width, "height": 900})
  for setting in SETTINGS:
    page.goto(address(page, **setting))
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(OVERLAPS) == []
    undrawn = page.evaluate(
      "[...document.querySelectorAll('main svg[id]')]"
      ".filter(x => x.querySelectorAll('text').length < 5 ||"
      " /NaN|Infinity|undefined/.test(x.innerHTML)).map(x => x.id)"
    )
    assert undrawn == []


def test_dark_where_dark_is_preferred(page):
  ground = "getComputedStyle(document.body).backgroundColor"
  page.emulate_media(color_scheme="light")
  assert page.evaluate(ground) == "rgb(255, 255, 255)"
  page.emulate_media(color_scheme="dark")
  dark = [int(x) for x in re.findall(r"\d+", page.evaluate(ground))]
  assert max(dark) < 50
  page.emulate_media(media="print")
  assert page.evaluate(ground) == "rgb(255, 255, 255)"
