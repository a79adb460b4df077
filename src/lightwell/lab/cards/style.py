"""How a page of cards looks: light or dark as the reader's system is, and without columns on a narrow screen."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #222; --grey: #666; --line: #e2e2e2; --page: #fff; --raised: #f6f6f4; --link: #00578a;
  --yes: #00694f; --no: #a84300; --both: #00578a; --open: #5a5a5a; --paper: none;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e4e0; --grey: #a3a39e; --line: #393936; --page: #191918; --raised: #232321; --link: #7db9e8;
    --yes: #00795b; --no: #b34a05; --both: #1a6ba6; --open: #666; --paper: brightness(.9);
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body {
  font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 62rem; margin: 0 auto; padding: 1.5rem; overflow-wrap: break-word;
}
a { color: var(--link); }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.4rem; margin: 0 0 .5rem; }
article { border-top: 1px solid var(--line); margin-top: 3rem; padding-top: 2rem; }
blockquote { margin: .5rem 0; padding: .25rem 1rem; border-left: 4px solid var(--line); font-style: italic; }
.verdict {
  display: inline-block; padding: .2rem .7rem; border-radius: .4rem; font-weight: 600; color: #fff;
  background: var(--open); flex: none; max-width: 100%;
}
.supported { background: var(--yes); }
.contradicted { background: var(--no); }
.conditional { background: var(--both); }
.judged { display: flex; gap: .5rem 1rem; align-items: baseline; margin: 1rem 0; }
.judged p { margin: 0; }
.judged .verdict { max-width: 40%; }
.notes { list-style: none; padding: 0; margin: 1.5rem 0 0; }
.notes li {
  display: grid; grid-template-columns: 15rem 1fr; gap: .1rem 1.5rem; padding: .9rem 0;
  border-top: 1px solid var(--line);
}
.notes a { font-weight: 600; }
.notes .verdict { font-size: .85rem; margin-top: .35rem; }
.notes p { margin: 0; }
.notes .said { font-style: italic; }
.grey, figcaption { color: var(--grey); font-size: .9rem; }
figure { margin: 1.25rem 0; }
figure svg, figure img {
  display: block; width: 100%; height: auto; background: #fff; border-radius: .3rem; filter: var(--paper);
}
figcaption { margin-top: .4rem; }
.narrow { display: none !important; }
details {
  margin: .75rem 0; border: 1px solid var(--line); border-radius: .4rem; padding: 0 1rem; background: var(--raised);
}
summary { cursor: pointer; padding: .5rem 0; font-weight: 600; }
table {
  border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; margin: 1rem 0;
}
th, td { text-align: left; padding: .4rem .6rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
pre { background: var(--raised); padding: .75rem; overflow-x: auto; }
.broken { color: var(--no); font-weight: 600; }
@media (max-width: 640px) {
  body { padding: 1rem; }
  .notes li { grid-template-columns: 1fr; gap: .35rem; }
  .judged { display: block; }
  .judged p { margin-top: .5rem; }
  .judged .verdict { max-width: 100%; }
  .narrow { display: block !important; }
  .narrow + .wide { display: none; }
  thead { display: none; }
  table, tbody, tr, td { display: block; }
  tr { padding: .5rem 0; border-bottom: 1px solid var(--line); }
  td { border: 0; padding: .1rem 0; }
  td:not(:first-child)::before { content: attr(data-head) ": "; color: var(--grey); }
  td:first-child { font-weight: 600; }
}
"""
