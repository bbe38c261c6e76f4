"""What every test runs under, and the fixtures they share."""

import ctypes
import gc
import os
import shutil
import signal
from pathlib import Path

import jax
import psutil
import pytest
from jax._src import compiler

from tests.support.compilation import FLAGS, QUICK

EXPLORER = Path(__file__).parent.parent / "docs" / "explorer"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
OPTIONS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
]

jax.config.update("jax_numpy_rank_promotion", "raise")

# Tracing leaves many objects; to look through them for garbage took a fifth of
# the time.
gc.set_threshold(50_000, 20, 100)

# Compiled as users have it; all else quickly.
_AS_USERS_HAVE_IT = {"ahead", "estimators", "symmetric"}
jax.devices()  # Reads XLA_FLAGS: from here on they are of child processes.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"


# A shell's background jobs ignore Ctrl-C, and what they start does too; what
# is tested here does not.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session):
  """What imports leave is no garbage: it need not be looked through again."""
  del session
  gc.collect()
  gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def quick_compilation(request):
  """Most programs are compiled quickly."""
  usual = compiler.get_compile_options
  folder = request.path.relative_to(Path(__file__).parent).parts[0]

  def quick(*args, **kwargs):
    options = usual(*args, **kwargs)
    options.env_option_overrides = [
      *options.env_option_overrides,
      *QUICK.items(),
    ]
    return options

  if folder in _AS_USERS_HAVE_IT:
    _free_programs()  # That were compiled quickly.
    yield
    _free_programs()
    return
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(compiler, "get_compile_options", quick)
    yield


@pytest.fixture(scope="module", autouse=True)
def programs_end_with_their_module():
  """Once they are many; another module reads one back from the disk's cache."""
  yield
  _bound_memory(1.0)


@pytest.fixture(autouse=True)
def memory_is_bounded():
  """In modules with many programs it is freed before their end."""
  yield
  _bound_memory(1.3)


def _bound_memory(gib):
  if psutil.Process().memory_info().rss > gib * 2**30:
    _free_programs()


def _free_programs() -> None:
  jax.clear_caches()
  gc.collect()
  # glibc keeps freed memory that lies between blocks in use.
  trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
  if trim is not None:
    trim(0)


@pytest.fixture
def x64():
  """Double precision for the length of one test."""
  with jax.enable_x64(True):
    yield


@pytest.fixture(scope="session")
def tfds():
  """tensorflow-datasets, where image streams can be read."""
  pytest.importorskip("grain")
  return pytest.importorskip("tensorflow_datasets")


# Not of the session: while it runs, its event loop is every other test's too.
@pytest.fixture(scope="module")
def browser():
  reason = "pip install -e '.[browser]'"
  playwright = pytest.importorskip("playwright.sync_api", reason=reason)
  if CHROMIUM is None:
    pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
  with playwright.sync_playwright() as running:
    started = running.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
    yield started
    started.close()


@pytest.fixture
def explorer(browser):
  """The explorer with its first setting, alone in the world, free of errors."""
  page = browser.new_page(viewport={"width": 1400, "height": 900})
  complaints = []
  page.on("console", lambda message: complaints.append(message.text))
  page.on("pageerror", lambda error: complaints.append(str(error)))
  page.on("request", lambda request: complaints.append(request.url))
  page.goto((EXPLORER / "index.html").as_uri())
  yield page
  page.close()
  here = EXPLORER.as_uri()
  wrong = [x for x in complaints if not x.startswith((here, "data:,"))]
  assert not wrong
