"""What README and docs/ show runs, and what their commands name exists."""

import ast
import functools
import importlib.util
import pathlib
import re

import pytest

from experiments.figures import FIGURES
from maxrl_jax import config
from maxrl_jax.policies import POLICIES
from maxrl_jax.tasks import TASKS

_ROOT = pathlib.Path(__file__).parents[2]
_TEXTS = {
  str(page.relative_to(_ROOT)): page.read_text()
  for page in [_ROOT / "README.md", *sorted((_ROOT / "docs").rglob("*.md"))]
}

# By test_trl, which makes a model, and by test_verl.
_RUN_ELSEWHERE = ("integrations.trl", "from verl")
# test_guides runs these, and compares what they print with what they show;
# test_recipes runs the recipes, with stand-ins for the trainers.
_GUIDES = {
  f"docs/{name}.md"
  for name in ("choosing", "cookbook", "recipes", "tutorial", "your_own")
}


def _python_blocks(text: str) -> list[tuple[int, str]]:
  """Each with the number of lines before it."""
  actual = re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S)
  return [(text[: m.start(1)].count("\n"), m.group(1)) for m in actual]


@pytest.mark.parametrize(
  "name",
  [
    n for n, text in _TEXTS.items() if _python_blocks(text) and n not in _GUIDES
  ],
)
def test_python_blocks_run(name, tmp_path, monkeypatch):
  """In order, in one namespace, as a reader would type them."""
  monkeypatch.chdir(tmp_path)  # Some write to runs/.
  namespace, left_out = {"__name__": "page"}, False
  for line, block in _python_blocks(_TEXTS[name]):
    if any(module in block for module in _RUN_ELSEWHERE):
      continue
    if "integrations.tunix" in block and not importlib.util.find_spec("tunix"):
      left_out = True
      continue
    # Tracebacks then name the line of the page.
    exec(compile("\n" * line + block, name, "exec"), namespace)
  if left_out:
    pytest.skip("a block needs the extra tunix; the others ran")


def _commands(text: str) -> list[str]:
  """What follows `python -m`, from lines and from code within sentences."""
  text = re.sub(r"\\\n\s*", " ", text)
  spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
  lines = [*text.splitlines(), *(" ".join(span.split()) for span in spans)]
  actual = [re.search(r"python -m ([^`#]+)", line) for line in lines]
  ours = ("experiments.", "benchmarks.", "tests.")
  commands = [match.group(1) for match in actual if match]
  return [command for command in commands if command.startswith(ours)]


def _flags(module: str) -> set[str]:
  """Names that a module or what all share defines, read and not imported.

  Two entry points define --workdir, which one process cannot do.
  """
  names = {"help"}
  paths = [_ROOT / f"{module.replace('.', '/')}.py"]
  if module.startswith("experiments."):
    shell = _ROOT / "experiments/shell"
    paths += [shell / "devices.py", shell / "console.py"]
  for path in paths:
    for call in ast.walk(ast.parse(path.read_text())):
      if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        kind = call.func.attr
        if kind.startswith("DEFINE_") or kind == "add_argument":
          names.add(call.args[0].value.removeprefix("--"))
  return names


def _check_value(flag: str, value: str) -> None:
  if flag == "config":
    assert (_ROOT / value.split(":")[0]).exists(), value
  if flag == "figure":
    names = set(value.split(",")) - {"first", "more", "all", "all_mazes"}
    assert names <= set(FIGURES), value


@pytest.mark.parametrize(
  "name", [name for name, text in _TEXTS.items() if _commands(text)]
)
def test_commands_name_what_there_is(name):
  for command in _commands(_TEXTS[name]):
    module, _, rest = command.partition(" ")
    assert importlib.util.find_spec(module), command
    for flag, value in re.findall(r"--([\w.]+)=?(\S*)", rest):
      if not flag.startswith("config."):
        assert flag in _flags(module), f"--{flag} in: {command}"
        _check_value(flag, value.strip("'\""))


@functools.cache
def _fields() -> set[str]:
  """Dotted names of the blocks and options of any task and policy."""
  configs = [config.default(task) for task in TASKS]
  configs += [config.default("bandit", policy) for policy in POLICIES]
  names = {name for each in configs for name in config.flatten(each.to_dict())}
  blocks = {name.rpartition(".")[0] for name in names}
  return names | blocks


@pytest.mark.parametrize("name", _TEXTS)
def test_config_fields_and_make_targets_exist(name):
  text = _TEXTS[name]
  for dotted in re.findall(r"(?:`|--)config\.([a-z_.]+)", text):
    # The file that a run writes, and functions of maxrl_jax.config.
    if dotted != "json" and not hasattr(config, dotted):
      assert dotted.rstrip(".") in _fields(), f"config.{dotted}"
  targets = re.findall(r"^([a-z-]+):", (_ROOT / "Makefile").read_text(), re.M)
  bash = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S))
  for code in (bash, *re.findall(r"^    make .*$|`make [^`]*", text, re.M)):
    for target in re.findall(r"^[ `]*make ([a-z-]+)", code, re.M):
      assert target in targets, f"make {target}"
