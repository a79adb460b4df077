"""`lightwell bench`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from cyclopts import Parameter

from lightwell.bench import kept, table
from lightwell.bench.contenders.contender import OURS, Peers, choose
from lightwell.bench.contenders.shapes import SHAPES, Shape, shape
from lightwell.bench.turns.rounds import Watcher
from lightwell.bench.turns.suite import Suite, measure
from lightwell.cli import words
from lightwell.cli.flags import Json
from lightwell.cli.printer import show
from lightwell.cli.progress import counting, progress
from lightwell.errors import SettingError
from lightwell.plain_json import plain_json
from lightwell.training.hardware.host import describe_host

PICTURES = (".png", ".svg", ".pdf")

Shapes: TypeAlias = Annotated[
    str, Parameter(name="SHAPE", help=f"What to train: {', '.join(SHAPES)}; none: S.", show_default=False)
]
Python: TypeAlias = Annotated[
    str,
    Parameter(help="A Python that has the peers' packages; they take part then.", metavar="PYTHON", show_default=False),
]
Checkout: TypeAlias = Annotated[
    str, Parameter(help="A checkout of nanoGPT, which takes part then.", metavar="PATH", show_default=False)
]
Names: TypeAlias = Annotated[
    str,
    Parameter(
        help="Who takes part, separated by commas, the first compared with all others; none: all that can.",
        metavar="NAMES",
        show_default=False,
    ),
]
Turns: TypeAlias = Annotated[int, Parameter(help="How often everyone takes a turn.", metavar="N")]
Steps: TypeAlias = Annotated[int, Parameter(help="Training steps in a turn.", metavar="N")]
Peak: TypeAlias = Annotated[
    float,
    Parameter(help="GFLOP/s that the processor could do at best; 0: not known.", metavar="X", show_default=False),
]
Profile: TypeAlias = Annotated[
    Path | None,
    Parameter(help="Measure nothing else; draw where the time of Lightwell's step goes.", metavar="FILE.png"),
]
Out: TypeAlias = Annotated[
    Path | None,
    Parameter(
        help="Write the results as JSON into this file, after each shape; a stopped one goes on.", metavar="FILE"
    ),
]


def bench(
    *shapes: Shapes,
    peers: Python = "",
    nanogpt: Checkout = "",
    contenders: Names = "",
    rounds: Turns = 5,
    steps_per_round: Steps = 2,
    peak: Peak = 0.0,
    profile: Profile = None,
    out: Out = None,
    json: Json = False,
) -> None:
    """Measure how fast Lightwell trains on this machine, alone or against peers."""
    suite = Suite(
        shapes=shapes or ("S",),
        contenders=tuple(name.strip() for name in contenders.split(",") if name.strip()),
        peers=Peers(peers, nanogpt),
        rounds=rounds,
        steps=steps_per_round,
        peak_gflops=peak,
    )
    suite.check()
    _check_folder(out)
    if profile is not None:
        draw_profile(suite, profile, json)
        return
    watcher = Watcher(progress().say, counting)
    before = kept.begun(out, suite.asked(), describe_host()) if out is not None else []
    shown: list[str] = []
    results: dict[str, Any] = {}

    def on_shape(so_far: dict[str, Any]) -> None:
        results.update(so_far)
        if out is not None:
            kept.write(out, results)
        if not json:
            for result in results["shapes"][len(shown) :]:
                shown.append(report(result))
                show(shown[-1], end="\n\n")

    try:
        results = measure(suite, watcher, shlex.join(["lightwell", *sys.argv[1:]]), begun=before, on_shape=on_shape)
    except KeyboardInterrupt as stop:
        goes_on = f"Stopped; what was measured is in {out}, and the same command goes on from there."
        if json and results:
            print(plain_json(results))
        raise type(stop)(goes_on if out is not None and results else "") from None
    if json:
        print(plain_json(results))


def report(result: dict[str, Any]) -> str:
    """One shape's results for a person."""
    measured = Shape(**result["shape"])
    parts = [f"{measured.name}: {measured.sentence()}; {result['rounds']} rounds of {result['steps_per_round']} steps."]
    if rows := table.rows(result):
        parts.append(words.table([table.headings(result), *rows], right=range(1, len(rows[0]))))
    notes = [*table.failures(result), *table.remarks(result)]
    return "\n\n".join([*parts, "\n".join(notes)] if notes else parts)


def draw_profile(suite: Suite, path: Path, json: bool) -> None:
    """Draw one variant of Lightwell on one shape.

    Raises:
        SettingError: more than one shape or contender, or a contender that is not Lightwell.
    """
    chosen = suite.contenders or (choose((), Peers())[0],)
    if len(suite.shapes) > 1 or len(chosen) > 1 or chosen[0] not in OURS:
        raise SettingError(f"--profile draws one shape and one of {', '.join(OURS)}; give no more than these two.")
    _check_folder(path)
    if path.suffix not in PICTURES:
        raise SettingError(f"{path} must end in {', '.join(PICTURES[:-1])} or {PICTURES[-1]}.")
    from lightwell.bench.anatomy import dissect, draw, refuse_foreign

    refuse_foreign(path)
    anatomy = dissect(shape(suite.shapes[0]), chosen[0])
    draw(anatomy, path)
    if json:
        print(plain_json({**anatomy.to_dict(), "picture": str(path)}))
        return
    rows = [
        (kind, words.duration(seconds), f"{seconds / anatomy.step_seconds:.0%}")
        for kind, seconds in anatomy.seconds.items()
        if seconds
    ]
    show(f"{words.table(rows, right=(1, 2))}\n\nThe picture is {path}.")


def _check_folder(path: Path | None) -> None:
    """Raise before anything is measured where the result could not be written anyway."""
    if path is not None and not path.absolute().parent.is_dir():
        raise SettingError(f"There is no folder {path.parent} for {path.name}; make it first, or name another.")
