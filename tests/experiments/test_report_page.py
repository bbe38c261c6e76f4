"""The report: its order and its links; on screens and paper, in a browser."""

import csv
import re

import numpy as np
import pytest

from experiments.reports import report, results
from experiments.reports.results import Claim, Drawing, Result, Table
from maxrl_jax import plotting

_WIDEST = 13.4  # Inches, of all figures (family).
_PAPER = (29.7 - 2) / 2.54  # A4 on its side, less margins of a centimetre.


@pytest.fixture
def page(tmp_path):
  """A report with the widest figure there may be."""
  figure, _ = plotting.axes(columns=4, width=_WIDEST / 4, height=3.0)
  claims = [Claim("a", "s", f"claim {i}", "1", "2", i % 2) for i in range(30)]
  drawing = Drawing("wide", figure, "a caption")
  results.save(Result("Title", [drawing] * 2, claims, []), "wide", tmp_path)
  text = report.render([results.load("wide", tmp_path)])
  (tmp_path / "report.html").write_text(text)
  return (tmp_path / "report.html").as_uri()


def _saved(tmp_path, name, holds, why=""):
  """A figure of two drawings with a claim, as `load` gives it."""
  drawing, ax = plotting.axes()
  ax.plot([1, 2], [3, 4], label="a line")
  claims = [Claim(name, "s", f"statement of {name}", "1", "2", holds, why)]
  drawings = [Drawing(f"{name}{i}", drawing, "a caption") for i in (1, 2)]
  tables = [Table("a table", ["h", "i"], [["x, y", 1]])]
  summary = "what came out of it"
  made = Result(f"Title {name}", drawings, claims, tables, summary=summary)
  results.save(made, name, tmp_path)
  return results.load(name, tmp_path)


def test_the_result_leads_and_claims_are_below_their_figure(tmp_path):
  made = [_saved(tmp_path, "one", True), _saved(tmp_path, "two", False)]
  page = report.render(made)
  order = [
    *("what came out of it", "alt='one1'", "1 of 2 claims hold", "Contents"),
    *("<h2 id='figure-1'>Title one", "alt='one2'", "statement of one"),
    *("a table", "<h2 id='figure-2'>Title two", "alt='two1'", "alt='two2'"),
    *("statement of two", "a table", "<h2 id='claims'>", "statement of one"),
    "statement of two",
  ]
  place = 0
  for words in order:
    place = page.index(words, place) + len(words)
  assert page.count("alt='one1'") == 1 and "href='#figure-2'" in page


@pytest.mark.parametrize("why", ["", "Ten seeds do not establish it."])
def test_a_claim_that_fails_says_why(tmp_path, why):
  page = report.render([_saved(tmp_path, "one", False, why)])
  assert page.count(f"1. {why or 'The reason is not known.'}") == 2
  page = report.render([_saved(tmp_path, "one", True, why)])
  assert "known" not in page and "establish" not in page


def test_links_lead_to_files_with_the_numbers(tmp_path):
  page = report.render([_saved(tmp_path, "one", True)])
  (tmp_path / "claims.json").touch()  # The command's, with the page.
  links = set(re.findall("href='([^'#:]+)'", page))
  assert links and all((tmp_path / link).is_file() for link in links)
  endings = {link.rpartition(".")[2] for link in links}
  assert endings == {"png", "svg", "csv", "json"}
  rows = csv.reader((tmp_path / "results/one_1.csv").read_text().splitlines())
  assert list(rows) == [["h", "i"], ["x, y", "1"]]
  rows = csv.reader((tmp_path / "figures/one1.csv").read_text().splitlines())
  assert list(rows) == [
    ["panel", "title", "line", "x", "y"],
    ["1", "", "a line", "1", "3"],
    ["1", "", "a line", "2", "4"],
  ]


def _contrast(one, other):
  """WCAG's, of two colours 'rgb(r, g, b)'."""
  high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
  return (high + 0.05) / (low + 0.05)


def _luminance(colour):
  c = np.array(re.findall(r"\d+", colour)[:3], float) / 255
  linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
  return linear @ [0.2126, 0.7152, 0.0722]


def _colour(page, selector, what="color"):
  return page.eval_on_selector(selector, f"e => getComputedStyle(e).{what}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read_on_any_screen(page, browser, scheme):
  shown = browser.new_context(color_scheme=scheme).new_page()
  shown.goto(page)
  ground = _colour(shown, "body", "backgroundColor")
  assert (_luminance(ground) < 0.05) == (scheme == "dark")
  for selector in ("p", "h1", "td", "figcaption", ".holds", ".fails", "a"):
    assert _contrast(_colour(shown, selector), ground) >= 4.5, selector
  assert _colour(shown, "img", "backgroundColor") == "rgb(255, 255, 255)"


def test_paper_is_white_and_no_figure_is_cut(page, browser):
  shown = browser.new_context(color_scheme="dark").new_page()
  shown.emulate_media(media="print", color_scheme="dark")
  shown.goto(page)
  assert _colour(shown, "body", "backgroundColor") == "rgb(255, 255, 255)"
  assert _luminance(_colour(shown, "p")) < 0.05
  for selector in ("figure:has(img)", "tr"):
    assert _colour(shown, selector, "breakInside") == "avoid"
  pdf = shown.pdf(prefer_css_page_size=True)
  width, height = map(
    float, re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf).groups()
  )
  assert width / 72 * 2.54 == pytest.approx(29.7, abs=0.1) and width > height


def test_what_is_cut_on_a_phone_says_that_there_is_more(page, browser):
  cues = []
  for width in (400, 1200):
    shown = browser.new_page(viewport={"width": width, "height": 800})
    shown.goto(page)
    box = "e => [getComputedStyle(e, '::before').content, e.scrollWidth]"
    said, length = shown.eval_on_selector(".image", box)
    cues.append(("scroll" in said, length > width))
    # Tables have a shadow wherever they are cut.
    shadow = _colour(shown, ".scroll", "backgroundAttachment")
    assert shadow == "local, local, scroll, scroll"
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
  assert cues == [(True, True), (False, False)]


def test_a_caption_is_as_wide_as_the_page_and_shows_code(browser, tmp_path):
  words = (
    "More to say than two columns are wide, with `--figure=weights` in it."
  )
  made = Result("Title", [], [], [Table(words, ["a", "b"], [[1, 2]])])
  (tmp_path / "page.html").write_text(report.page("A page", [], [made]))
  shown = browser.new_page(viewport={"width": 900, "height": 600})
  shown.goto((tmp_path / "page.html").as_uri())
  caption = shown.locator("figcaption").bounding_box()
  assert caption["width"] > 4 * shown.locator("table").bounding_box()["width"]
  assert caption["height"] < 30  # One line.
  assert shown.locator("figcaption code").inner_text() == "--figure=weights"


def test_letters_on_paper_are_seven_points_at_least():
  sizes = ("font.size", "legend.fontsize", "axes.titlesize")
  least = min(plotting.STYLE[size] for size in sizes)
  assert least * _PAPER / _WIDEST >= 7
