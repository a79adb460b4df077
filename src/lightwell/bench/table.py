"""Results as rows for people, and as Markdown for docs/performance.md.

`python -m lightwell.bench.table docs/performance.json docs/performance.md` writes the tables between the two comments
BEGIN and END of the page, and leaves the rest of it alone.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightwell.atomic import write_file
from lightwell.bench.contenders.shapes import Shape
from lightwell.bench.turns.results import FORMAT
from lightwell.errors import LightwellError

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What making a table out of something else may raise."""
COMMAND = "python -m lightwell.bench.table"


class TableError(LightwellError):
    """Results or a page that cannot be read or written."""


def headings(result: Mapping[str, Any]) -> list[str]:
    """Return the names of the columns."""
    peak = ["of peak"] if result["peak_gflops"] else []
    first = result["contenders"][0]["name"]
    return ["contender", "tokens/s", f"{first} is", "of the product", *peak, "peak memory", "warm after"]


def rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each contender that could be measured, the fastest first; columns as in `headings`."""
    measured = [contender for contender in result["contenders"] if "tokens_per_second" in contender]
    return [_row(contender, bool(result["peak_gflops"])) for contender in sorted(measured, key=_rank)]


def failures(result: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each contender that broke down."""
    return [
        f"{contender['name']} failed: {contender['error']}" for contender in result["contenders"] if contender["error"]
    ]


def remarks(result: Mapping[str, Any]) -> list[str]:
    """Return what else was measured on the shape, in sentences."""
    rates = " and ".join(f"{rate:,.0f} in {name}" for name, rate in result["product_gflops"].items())
    loaders = [contender["loader_share"] for contender in result["contenders"] if "loader_share" in contender]
    said = [f"The bare matrix product: {rates} GFLOP/s."] if rates else []
    if loaders:
        said.append(f"Making the batch takes {max(loaders):.2%} of a step of Lightwell.")
    return said


def markdown(results: Mapping[str, Any]) -> str:
    """Return the tables of all shapes as Markdown, below what they were measured on."""
    host = results["host"]
    memory = f", {host['memory_bytes'] / 1e9:.0f} GB of memory" if host["memory_bytes"] else ""
    parts = [
        f"Measured on {results['date']}: {host['processor']}, {host['cores']} cores{memory}, {host['system']}.",
        _versions(results),
        f"```sh\n{results['command']}\n```",
    ]
    for result in results["shapes"]:
        shape = Shape(**result["shape"])
        parts += [
            f"### {shape.name}",
            f"{shape.sentence()}; {result['rounds']} rounds of {result['steps_per_round']} steps.",
            _markdown_table([headings(result), *rows(result)]),
            *failures(result),
            *remarks(result),
        ]
    return "\n\n".join(part for part in parts if part)


def read_results(path: Path) -> dict[str, Any]:
    """Return what `lightwell bench --out` wrote.

    Raises:
        TableError: the file is missing or something else.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        if results["format"] == FORMAT:
            return dict(results)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise TableError(f"{path} is not what `lightwell bench --out` writes; run it again.")


def refresh(results: Path, page: Path) -> None:
    """Put the tables of the results into the page.

    Raises:
        TableError: one of them cannot be read, or the page has no place for them.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise TableError(f"{page} cannot be read ({error.strerror}).") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise TableError(f"{page} has no {BEGIN} followed by {END}; put both where the tables belong.")
    write_file(page, f"{before}{BEGIN}\n\n{_tables(results)}\n\n{END}{after}".encode())


def _tables(path: Path) -> str:
    results = read_results(path)
    try:
        return markdown(results)
    except DAMAGED:
        raise TableError(f"{path} is damaged; run `lightwell bench --out` again.") from None


def _rank(contender: Mapping[str, Any]) -> float:
    """Return what sorts the fastest first: the ratio within rounds, since speeds of groups at other times do not
    compare.
    """
    ratio = contender.get("baseline_is_times")
    return float(ratio["median"]) if ratio else math.inf


def _row(contender: Mapping[str, Any], with_peak: bool) -> list[str]:
    ratio, share = contender.get("baseline_is_times"), contender.get("share_of_product")
    peak = [f"{contender['share_of_peak']:.0%}" if "share_of_peak" in contender else ""] if with_peak else []
    return [
        contender["name"],
        f"{contender['tokens_per_second']:,.0f}",
        f"{ratio['median']:.2f} x ({ratio['min']:.2f} to {ratio['max']:.2f})" if ratio else "",
        f"{share['median']:.0%}" if share else "",
        *peak,
        f"{contender['peak_bytes'] / 1e9:.2f} GB",
        f"{contender['warm_up_seconds']:.0f} s",
    ]


def _versions(results: Mapping[str, Any]) -> str:
    """Return the versions of all packages that took part, those that differ between processes together."""
    versions_of: dict[str, dict[str, None]] = {}
    for result in results["shapes"]:
        for contender in result["contenders"]:
            versions = {"Python": contender["python"], **contender["versions"]} if "python" in contender else {}
            for name, version in versions.items():
                versions_of.setdefault(name, {})[version] = None
    said = ", ".join(f"{name} {' and '.join(versions)}" for name, versions in versions_of.items())
    return f"{said}." if said else ""


def _markdown_table(lines: list[list[str]]) -> str:
    head, *body = lines
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))


def main(arguments: list[str]) -> int:
    """Put the tables into the page, as the arguments say; 0 when done."""
    if len(arguments) != 2:
        print(f"Usage: {COMMAND} RESULTS.json PAGE.md", file=sys.stderr)
        return 2
    try:
        refresh(Path(arguments[0]), Path(arguments[1]))
    except TableError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
