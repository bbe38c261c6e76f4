"""report.html: figures, captions, claims and tables in one offline file.

It contains the images, and links to the files beside it.
"""

import base64
import html
import re
from collections.abc import Iterator

from experiments.reports.results import Claim, Result, Table
from maxrl_jax import plotting

# Dark if the reader's screen is, but not on paper; figures are on white.
_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --page: #fff; --soft: #555;
  --line: #ddd; --code: #f3f3f3; --holds: #00684a; --fails: #b3261e;
  --link: #0b57d0; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e4e4e4;
  --page: #161616; --soft: #b0b0b0; --line: #444; --code: #2a2a2a;
  --holds: #6fd6b0; --fails: #ff9a90; --link: #9ecbff; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--page); margin: 0 auto; max-width: 72rem;
  padding: 1rem 1.2rem 4rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 3rem; }
figure { margin: 1rem 0; }
/* Text in small figures is not larger than in wide ones. */
img { max-width: min(100%, 1.2 * var(--width)); height: auto;
  background: #fff; border-radius: 4px; }
figcaption { color: var(--soft); font-size: .9rem; text-align: left; }
p, li { overflow-wrap: anywhere; }
a { color: var(--link); }
.summary { font-size: 1.1rem; }
.claims { list-style: none; padding: 0; }
.claims li { border-left: 3px solid var(--line); margin: .7rem 0;
  padding-left: .8rem; }
.files { white-space: nowrap; }
.claims span { color: var(--soft); font-size: .9rem; display: block; }
.made { color: var(--soft); font-size: .8rem; overflow-wrap: anywhere; }
/* A shadow at each end beyond which the table can be scrolled. */
.scroll { overflow-x: auto; background:
  linear-gradient(to right, var(--page) 40%, transparent) 0 0 / 3rem 100%,
  linear-gradient(to left, var(--page) 40%, transparent) 100% 0 / 3rem 100%,
  radial-gradient(farthest-side at 0 50%, #8888, #8880) 0 0 / 1rem 100%,
  radial-gradient(farthest-side at 100% 50%, #8888, #8880) 100% 0 / 1rem 100%;
  background-attachment: local, local, scroll, scroll;
  background-repeat: no-repeat; }
table { border-collapse: collapse; margin: 1rem 0; font-size: .85rem; }
td { min-width: 3.5rem; }
th, td { text-align: left; padding: .3rem .7rem; vertical-align: top;
  border-bottom: 1px solid var(--line); }
.holds { color: var(--holds); font-weight: 600; }
.fails { color: var(--fails); font-weight: 600; }
code { background: var(--code); padding: .1rem .3rem; overflow-wrap: anywhere; }
@media screen and (max-width: 45rem) { .image { overflow-x: auto; }
  img { max-width: none; width: max(100%, calc(.65 * var(--width))); }
  .wide::before { content: "scroll sideways →"; color: var(--soft);
    font-size: .8rem; position: sticky; left: 0; } }
@page { size: A4 landscape; margin: 1cm; }
@media print { :root { color-scheme: light; }
  body { font-size: 10pt; max-width: none; padding: 0; }
  h2 { break-after: avoid; margin-top: 1.5rem; }
  figure:has(img), tr { break-inside: avoid; }
  img { width: var(--width); max-height: 15cm; object-fit: contain;
    object-position: left; }
  .scroll { overflow: visible; } }
"""


def render(results: list[Result]) -> str:
  """The page of saved results, led by the first one's summary and drawing."""
  claims = [claim for result in results for claim in result.claims]
  parts = [
    f"<p>{_how_many_hold(claims)}: <a href='#claims'>all claims</a>.</p>"
  ]
  for first in results[:1]:
    words = f"<p class='summary'>{_words(_summary(first))}</p>"
    parts = [words, *map(_figure, first.drawings[:1]), *parts]
    results = [first._replace(drawings=first.drawings[1:]), *results[1:]]
  return _document(
    "Maximum-likelihood reinforcement learning: reproduced figures",
    [*parts, _contents(results), *_sections(results), _claims_table(claims)],
  )


def page(title: str, introduction: list[str], results: list[Result]) -> str:
  """One self-contained page, which contains the images."""
  paragraphs = [f"<p>{_words(text)}</p>" for text in introduction]
  return _document(title, [*paragraphs, *_sections(results)])


def _document(title: str, parts: list[str]) -> str:
  head = [
    "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
    "<meta name='viewport' content='width=device-width, initial-scale=1'>",
    "<link rel='icon' href='data:,'>",
    f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
    f"<h1>{html.escape(title)}</h1>",
  ]
  return "\n".join([*head, *parts]) + "\n</body></html>\n"


def _summary(result: Result) -> str:
  """The summary of a figure, or its first claim if it has none."""
  measured = [
    f"{c.statement} This {_outcome(c)}: {c.measured}." for c in result.claims
  ]
  return result.summary or "".join(measured[:1]) or result.title


def _outcome(claim: Claim) -> str:
  return "holds" if claim.holds else "fails"


def _how_many_hold(claims: list[Claim]) -> str:
  holding = sum(claim.holds for claim in claims)
  return f"{holding} of {len(claims)} claims hold"


def _contents(results: list[Result]) -> str:
  items = [
    f"<li><a href='#figure-{i}'>{html.escape(result.title)}</a>"
    + f" – {_how_many_hold(result.claims)}" * bool(result.claims)
    for i, result in enumerate(results, 1)
  ]
  return f"<nav><h2>Contents</h2><ol>{'</li>'.join(items)}</li></ol></nav>"


def _sections(results: list[Result]) -> Iterator[str]:
  """For each result: heading, drawings, claims, tables."""
  for i, result in enumerate(results, 1):
    yield f"<h2 id='figure-{i}'>{html.escape(result.title)}</h2>"
    yield from map(_figure, result.drawings)
    if result.claims:
      yield f"<ul class='claims'>{''.join(map(_claim, result.claims))}</ul>"
    yield from map(_table, result.tables)
    if result.made_by:
      yield f"<p class='made'>{html.escape(result.made_by)}</p>"


def _claim(claim: Claim) -> str:
  outcome = _outcome(claim)
  facts = (
    f"Measured: {_measured(claim)}",
    f"Threshold: {claim.threshold} · Source: {claim.source}",
  )
  lines = "".join(f"<span>{_words(fact)}</span>" for fact in facts)
  return (
    f"<li><b class='{outcome}'>{outcome}</b> {_words(claim.statement)}{lines}"
    "</li>"
  )


def _measured(claim: Claim) -> str:
  """The measurement and, if the claim fails, the reason."""
  why = claim.why or "The reason is not known."
  return claim.measured if claim.holds else f"{claim.measured}. {why}"


def _claims_table(claims: list[Claim]) -> str:
  """All claims, at the end of the page."""
  header = ["outcome", "claim", "measured", "threshold", "source"]
  rows = [
    [_outcome(c), c.statement, _measured(c), c.threshold, c.source]
    for c in claims
  ]
  table = _table(Table("", header, rows, "claims.json"))
  return f"<h2 id='claims'>All claims</h2>{table}"


def _figure(drawing) -> str:
  content = drawing.figure.read_bytes()
  image = base64.b64encode(content).decode()
  # The width in pixels, from the PNG header: printed figures keep their size.
  inches = int.from_bytes(content[16:20]) / plotting.STYLE["savefig.dpi"]
  caption = _words(drawing.caption)
  path = f"figures/{drawing.name}"
  files = {k.upper(): f"{path}.{k}" for k in ("png", "svg", "csv")}
  # Too wide for a phone at a size at which its text can be read.
  wide = " wide" if inches > 6 else ""
  return (
    f"<figure><div class='image{wide}'><img alt='{html.escape(drawing.name)}'"
    f" style='--width: {inches:.2f}in'"
    f" src='data:image/png;base64,{image}'></div>"
    f"<figcaption>{caption} {_links(files)}</figcaption></figure>"
  )


def _links(files: dict[str, str]) -> str:
  links = [f"<a href='{html.escape(x)}'>{k}</a>" for k, x in files.items()]
  return f"<span class='files'>{' · '.join(links)}</span>"


def _table(table: Table) -> str:
  def cell(tag, value):
    text = html.escape(str(value))
    style = f" class='{text}'" if text in ("holds", "fails") else ""
    return f"<{tag}{style}>{text}</{tag}>"

  head = "".join(cell("th", name) for name in table.header)
  rows = "".join(
    "<tr>" + "".join(cell("td", value) for value in row) + "</tr>"
    for row in table.rows
  )
  # Not <caption>, which would be as narrow as the table.
  kind = table.file.rpartition(".")[2].upper()
  link = _links({kind: table.file}) if table.file else ""
  caption = f"<figcaption>{_words(table.caption)} {link}</figcaption>"
  return (
    f"<figure>{caption if table.caption or link else ''}<div class='scroll'>"
    f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    "</figure>"
  )


def _words(text: str) -> str:
  """Text with `code` and [links](FILE), as HTML."""
  text = re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text))
  return re.sub(r"\[([^]]+)\]\((\S+)\)", r"<a href='\2'>\1</a>", text)
