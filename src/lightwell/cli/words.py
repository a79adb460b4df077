"""Numbers and tables as people read them."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from lightwell.cli.printer import NARROWEST, fit, width_of

BLOCKS = "▁▂▃▄▅▆▇█"
REFERENCES = {
    "uniform": "ln V: knowing nothing, every token equally likely",
    "unigram_loss": "unigram: knowing how often each token occurs",
    "bigram_loss": "bigram: knowing the token before as well",
}
SHORT_NAMES = {"uniform": "ln V", "unigram_loss": "unigram", "bigram_loss": "bigram"}


def short(number: float) -> str:
    """12345678 -> "12.3 M"."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.3g}"


def in_bytes(number: float) -> str:
    """12345678 -> "12.3 MB"."""
    return f"{short(number)}B" if number >= 1000 else f"{number:.0f} B"


def duration(seconds: float) -> str:
    """290 -> "4 min 50 s", 0.0648 -> "64.8 ms"."""
    if seconds < 0.995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    hours, rest = divmod(rounded, 3600)
    return f"{hours:,} h {rest // 60} min"


def table(
    rows: Sequence[Sequence[str]], right: Sequence[int] = (), *, spare: Sequence[int] = (), width: int | None = None
) -> str:
    """Return rows with their columns aligned, two spaces apart; the columns `right` are aligned to the right.

    spare: columns that are left out, in this order, as far as the table is too wide; what was left out is said below,
    by the names in the first row. Where that does not suffice each row becomes a few lines. width: in cells; that of
    stdout by default, 0 for any.
    """
    width = width_of(sys.stdout) if width is None else width
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left_out: list[int] = []
    for column in spare:
        kept = [size for number, size in enumerate(widths) if number not in left_out]
        if not width or sum(kept) + 2 * (len(kept) - 1) <= width:
            break
        left_out.append(column)
    kept = [size for number, size in enumerate(widths) if number not in left_out]
    if spare and width and sum(kept) + 2 * (len(kept) - 1) > width:
        return "\n".join(_stacked(rows[0], row) for row in rows[1:])
    lines = [
        "  ".join(
            " " * (widths[column] - cell_len(cell)) + cell
            if column in right
            else cell + " " * (widths[column] - cell_len(cell))
            for column, cell in enumerate(row)
            if column not in left_out
        )
        for row in rows
    ]
    if left_out:
        lines.append(f"(Not shown, as the terminal is too narrow: {', '.join(rows[0][each] for each in left_out)}.)")
    return "\n".join(line.rstrip() for line in lines)


def _stacked(head: Sequence[str], row: Sequence[str]) -> str:
    """Return a row of a table as a line for each of its cells, the first one as a title."""
    return "\n".join(
        [row[0], table([(f"  {name}", cell) for name, cell in zip(head[1:], row[1:], strict=True)], width=0)]
    )


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """Return the course of the values as a row of blocks, each the mean of as many values."""
    width = min(width if width > 0 else 60, 60, len(values))
    edges = [position * len(values) // width for position in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((mean - low) * scale)] for mean in means)


def visible(text: str) -> str:
    """Return the text with Unicode's pictures in place of control characters, which could steer a terminal."""
    pictures = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"}
    return text.translate({**pictures, 0x7F: 0x2421, **dict.fromkeys(range(0x80, 0xA0), 0xFFFD)})


def indented(text: str, width: int = 96) -> str:
    """Return a text set off from what is around it, its long lines wrapped."""
    terminal = width_of(sys.stdout)
    width = min(width, max(NARROWEST, terminal - 4)) if terminal else width
    lines = fit("\n".join(" ".join(line.split()) for line in visible(text).strip("\n").splitlines()), width)
    return "\n".join(f"    {line}".rstrip() for line in lines.split("\n"))


def excerpt(text: str, lines: int = 5) -> str:
    """Return the first lines of a text, set off like `indented` and without empty ones."""
    shown = [line for line in indented(text).splitlines() if line]
    return "\n".join(shown[:lines] + ["    …"] * (len(shown) > lines))


def reference_lines(references: Mapping[str, float], text: str = "the held-out text") -> list[str]:
    """Return what the reference losses (`References.to_dict()`) mean, so that one can tell whether a loss is good."""
    if not references:
        return ["There are no reference lines: references.json is missing."]
    return [
        f"Reference lines for {text}, in nats per token and bits per byte:",
        *(
            f"  {references[name]:6.3f}  {bits_per_byte(references[name], references):6.3f}  {meaning}"
            for name, meaning in REFERENCES.items()
        ),
    ]


def standing(loss: float, references: Mapping[str, float]) -> str:
    """Return the lowest reference line that a loss is below, in words."""
    below = [short_name for name, short_name in SHORT_NAMES.items() if loss < references[name]]
    return f"below the {below[-1]} line" if below else "not below any reference line"


def bits_per_byte(nats_per_token: float, references: Mapping[str, float]) -> float:
    """Return a loss in bits per byte of the held-out text."""
    return nats_per_token / math.log(2) / references["bytes_per_token"]


def candidates(rows: Sequence[Mapping[str, float]], best: int) -> str:
    """Return the models that were considered for a time, and what speaks for each; the chosen one has an arrow."""
    head = ("", "layers", "d_model", "parameters", "context", "batch", "tokens/s", "memory", "steps", "passes", "loss")
    body = [
        (
            "→" if index == best else "",
            f"{row['n_layers']}",
            f"{row['d_model']}",
            short(row["parameters"]),
            f"{row['context_length']}",
            f"{row['batch_size']}",
            f"{row['tokens_per_second']:,.0f}",
            in_bytes(row["memory_bytes"]),
            f"{row['steps']:,}",
            f"{row['epochs']:.2g}",
            f"{row['predicted_loss']:.3f}",
        )
        for index, row in enumerate(rows)
    ]
    return table([head, *body], right=range(1, len(head)), spare=(7, 6, 3, 5)) + (
        "\npasses: over the text; loss: predicted, by a law fitted to another text, so only differences mean something"
    )
