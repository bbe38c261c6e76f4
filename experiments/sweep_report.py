def write(data, axes, workdir):
  (workdir / "report.html").write_text("x")
