"""report.html: figures, captions, claims and tables in one offline file."""

import base64
import html
import re

from experiments.reports.results import Claim, Result, Table
from maxrl_jax import plotting

# Dark where the reader's screen is, never on paper; figures stay on white.
_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --page: #fff; --soft: #555;
  --line: #ddd; --code: #f3f3f3; --holds: #00684a; --fails: #b3261e; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e4e4e4;
  --page: #161616; --soft: #b0b0b0; --line: #444; --code: #2a2a2a;
  --holds: #6fd6b0; --fails: #ff9a90; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--page); margin: 0 auto; max-width: 72rem;
  padding: 1rem 1.2rem 4rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 3rem; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; background: #fff; }
figcaption { color: var(--soft); font-size: .9rem; text-align: left; }
p { overflow-wrap: anywhere; }
.made { color: var(--soft); font-size: .8rem; overflow-wrap: anywhere; }
/* A shadow lies at the end beyond which there is more, and goes there. */
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
  """The whole page of saved results, the claims first."""
  claims = [claim for result in results for claim in result.claims]
  held = sum(claim.holds for claim in claims)
  return page(
    "Maximum-likelihood reinforcement learning: reproduced figures",
    [f"{held} of {len(claims)} claims hold."],
    [Result("Claims", [], [], [_claims_table(claims)]), *results],
  )


def page(title: str, introduction: list[str], results: list[Result]) -> str:
  """One self-contained page; images are inside it."""
  parts = [
    "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
    "<meta name='viewport' content='width=device-width, initial-scale=1'>",
    "<link rel='icon' href='data:,'>",
    f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
    f"<h1>{html.escape(title)}</h1>",
  ]
  parts += [f"<p>{_words(text)}</p>" for text in introduction]
  for result in results:
    parts.append(f"<h2>{html.escape(result.title)}</h2>")
    parts += [_figure(drawing) for drawing in result.drawings]
    parts += [_table(table) for table in result.tables]
    if result.made_by:
      parts.append(f"<p class='made'>{html.escape(result.made_by)}</p>")
  return "\n".join(parts) + "\n</body></html>\n"


def _claims_table(claims: list[Claim]) -> Table:
  rows = [
    [
      "holds" if claim.holds else "fails",
      claim.statement,
      claim.measured,
      claim.threshold,
      claim.source,
    ]
    for claim in claims
  ]
  header = ["outcome", "claim", "measured", "threshold", "source"]
  return Table("", header, rows)


def _figure(drawing) -> str:
  content = drawing.figure.read_bytes()
  image = base64.b64encode(content).decode()
  # PNG has its width there, in pixels; on paper a figure is as it was drawn.
  inches = int.from_bytes(content[16:20]) / plotting.STYLE["savefig.dpi"]
  caption = _words(drawing.caption)
  # Wider than a phone at the size at which its letters can be read there.
  wide = " wide" if inches > 6 else ""
  return (
    f"<figure><div class='image{wide}'><img alt='{html.escape(drawing.name)}'"
    f" style='--width: {inches:.2f}in'"
    f" src='data:image/png;base64,{image}'></div>"
    f"<figcaption>{caption}</figcaption></figure>"
  )


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
  # No <caption>: it would be as narrow as its table.
  caption = f"<figcaption>{_words(table.caption)}</figcaption>"
  return (
    f"<figure>{caption if table.caption else ''}<div class='scroll'><table>"
    f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></figure>"
  )


def _words(text: str) -> str:
  """Text as HTML, with `code` in it."""
  return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text))
