"""Folders that go into the site as they are, with a way back to it."""

import pathlib
import shutil

_FOLDERS = ("explorer",)
_BACK = '<header>\n<p><a href="../index.html">← Documentation</a></p>'


def _copy(app, error):
  for name in _FOLDERS:
    source = pathlib.Path(app.srcdir) / name
    if error is None and source.exists():
      shutil.copytree(source, app.outdir / name, dirs_exist_ok=True)
      page = app.outdir / name / "index.html"
      page.write_text(page.read_text().replace("<header>", _BACK, 1))


def setup(app):
  app.connect("build-finished", _copy)
  return {"parallel_read_safe": True}
