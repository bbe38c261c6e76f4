"""The site of docs/: built strictly, complete, and opened in a browser."""

import inspect
import pathlib
import subprocess
import sys
import urllib.parse
import zlib

import bs4
import filelock
import pytest

from maxrl_jax import (
  estimators,
  evaluation,
  likelihoods,
  losses,
  objectives,
  plotting,
  policies,
  stats,
  symmetric,
  tasks,
)
from maxrl_jax.integrations import groups
from maxrl_jax.learning import rollouts, training
from maxrl_jax.policies import qwen2
from maxrl_jax.runs import grid, programs
from maxrl_jax.tasks import mazes, regression

pytestmark = pytest.mark.long

_ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory, worker_id):
  """The built site; processes that test side by side build it once."""
  base = tmp_path_factory.getbasetemp()
  folder = (base if worker_id == "master" else base.parent) / "site"
  command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
  folders = [_ROOT / "docs", folder, "-d", f"{folder}-doctrees"]
  with filelock.FileLock(f"{folder}.lock"):
    if not _warnings(folder).exists():
      done = subprocess.run(
        [*command, *folders], capture_output=True, text=True
      )
      _warnings(folder).write_text(done.stderr if done.returncode else "")
  return folder


def _warnings(site: pathlib.Path) -> pathlib.Path:
  """What a strict build complained of, if anything."""
  return pathlib.Path(f"{site}.log")


def test_builds_without_a_warning(site):
  assert not _warnings(site).read_text()


def _pages(site: pathlib.Path) -> list[pathlib.Path]:
  return sorted(site.rglob("*.html"))


def _inventory(site: pathlib.Path) -> set[str]:
  """Names of Python that the site has an entry for."""
  *_, packed = (site / "objects.inv").read_bytes().split(b"\n", 4)
  rows = [row.split() for row in zlib.decompress(packed).decode().splitlines()]
  return {row[0] for row in rows if row[1].startswith("py:")}


def _public(module) -> list[str]:
  """Functions and classes that a module has for others, of its own."""
  own = [
    name
    for name, value in vars(module).items()
    if (inspect.isfunction(value) or inspect.isclass(value))
    and value.__module__ == module.__name__
    and not name.startswith("_")
  ]
  return sorted({*own, *getattr(module, "__all__", ())})


@pytest.mark.parametrize(
  "module",
  [
    *(estimators, objectives, symmetric, likelihoods, losses, stats, plotting),
    *(training, rollouts, evaluation, grid, programs, mazes, regression),
    *(groups, qwen2),
  ],
  ids=lambda module: module.__name__,
)
def test_everything_public_has_an_entry(module, site):
  # Checks of arguments that the library's own modules share.
  internal = {"check_coefficients", "check_mask", "check_order"}
  internal |= {"compute_dtype", "group_size"}
  wanted = {f"{module.__name__}.{name}" for name in _public(module)}
  wanted -= {f"{symmetric.__name__}.{name}" for name in internal}
  assert wanted
  assert not wanted - _inventory(site)


def test_everything_with_a_name_in_configs_has_an_entry(site):
  tables = (
    {name: entry.function for name, entry in estimators.ESTIMATORS.items()},
    {
      name: entry.log_function
      for name, entry in estimators.ESTIMATORS.items()
      if entry.log_function
    },
    objectives.OBJECTIVES,
    likelihoods.LIKELIHOODS,
    policies.POLICIES,
    tasks.TASKS,
  )
  named = {value.__name__ for table in tables for value in table.values()}
  entries = {name.rpartition(".")[2] for name in _inventory(site)}
  assert not named - entries


def test_links_and_images_lead_somewhere(site):
  pages = {
    page: bs4.BeautifulSoup(page.read_text(), "html.parser")
    for page in _pages(site)
  }
  anchors = {
    page: {tag["id"] for tag in soup.find_all(id=True)}
    for page, soup in pages.items()
  }
  for page, soup in pages.items():
    urls = [tag.get("href") or tag.get("src") for tag in soup(["a", "img"])]
    for url in filter(None, urls):
      parts = urllib.parse.urlsplit(url)
      if parts.scheme:
        continue
      target = (page.parent / urllib.parse.unquote(parts.path)).resolve()
      target = target if parts.path else page
      assert target.is_file(), (page.name, url)
      # The explorer's fragments are settings: #p=0.02&N=16.
      fragment = urllib.parse.unquote(parts.fragment)
      if fragment and target in anchors and "=" not in fragment:
        assert fragment in anchors[target], (page.name, url)


def _watched(context, complaints: list[str]):
  """A page whose errors and whose requests to the outside are written down."""
  page = context.new_page()
  page.on("pageerror", lambda error: complaints.append(str(error)))
  page.on("requestfailed", lambda request: complaints.append(request.url))
  page.on(
    "console",
    lambda message: (
      complaints.append(message.text) if message.type == "error" else None
    ),
  )
  page.on(
    "request",
    lambda request: (
      None
      if request.url.startswith(("file:", "data:"))
      else complaints.append(request.url)
    ),
  )
  return page


@pytest.mark.parametrize("width", [400, 1400])
def test_pages_open_without_a_network(width, site, browser):
  complaints = []
  context = browser.new_context(
    viewport={"width": width, "height": 900}, offline=True
  )
  page = _watched(context, complaints)
  for path in _pages(site):
    page.goto(path.as_uri())
    # Furo would have the whole .content scroll sideways, not the page.
    beyond = page.evaluate(
      "Math.max(...[...document.querySelectorAll('html, .content')]"
      ".map(e => e.scrollWidth - e.clientWidth))"
    )
    assert beyond <= 0, f"{path.name} is {beyond} pixels too wide"
    images = page.evaluate(
      "[...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
    )
    assert not complaints + images, (path.name, complaints, images)
  context.close()


def test_formulas_are_drawn(site, browser):
  page = browser.new_page(offline=True)
  pages = [path for path in _pages(site) if "<math" in path.read_text()]
  assert site / "theory.html" in pages
  for path in pages:
    page.goto(path.as_uri())
    heights = page.evaluate(
      "[...document.querySelectorAll('math')]"
      ".map(m => m.getBoundingClientRect().height)"
    )
    assert min(heights) > 5, path.name
    # Fractions stand one above another: MathML was not only passed through.
    halves = page.evaluate(
      "[...document.querySelectorAll('mfrac')].map(f => [...f.children]"
      ".map(c => c.getBoundingClientRect().top))"
    )
    assert all(top < bottom for top, bottom in halves), path.name
    text = page.inner_text("article")
    assert "$$" not in text and "\\frac" not in text, path.name
  page.close()


def test_search_finds(site, browser):
  page = browser.new_page(offline=True)
  page.goto((site / "search.html").as_uri() + "?q=maxrl_paper")
  actual = page.locator("#search-results li")
  actual.first.wait_for(timeout=10_000)
  assert actual.count() > 1
  page.close()
