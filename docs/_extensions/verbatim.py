"""Folders that become part of the site as they are: the explorer."""

import pathlib
import shutil

_FOLDERS = ("explorer",)


def _copy(app, error):
  for name in _FOLDERS:
    source = pathlib.Path(app.srcdir) / name
    if error is None and source.exists():
      shutil.copytree(source, app.outdir / name, dirs_exist_ok=True)


def setup(app):
  app.connect("build-finished", _copy)
  return {"parallel_read_safe": True}
