"""Where the time of one training step goes: the profiler's operators in a handful of kinds, and a picture of them."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightwell.bench.contenders.shapes import Shape
from lightwell.errors import LightwellError, SettingError

KINDS: tuple[tuple[str, str], ...] = (
    ("matrix products", r"\b(addmm|mm|bmm|baddbmm)$|mkldnn|onednn|micro_?gemm|packed_gemm|_linear_pointwise"),
    ("attention", r"scaled_?dot_?product|flash_?attention|(?<!_log)_softmax"),
    ("embedding and loss", r"embedding|index_select|nll_?loss|log_?softmax|logsumexp|cross_entropy"),
    ("norms", r"(layer|rms)_?norm"),
    ("gradient norm and clipping", r"_foreach_norm|vector_norm|_foreach_mul_|clip"),
    ("optimizer", r"adamw|muon|^optimizer|_foreach_"),
    ("copies and casts", r"aten::(copy_|_to_copy|to|contiguous|clone|cat|fill_|zero_)$|^ToCopyBackward"),
    (
        "elementwise, fused or not",
        r"cpp_fused|compiledfxgraph|aten::(add|sub|mul|div|neg|pow|tanh|gelu|relu|silu|sigmoid|erf|where|masked_fill"
        r"|bernoulli|native_dropout|sum|mean|square)",
    ),
)
"""Kinds of work, and the names of operators that belong to them; the first that matches (in any case) counts.

A compiled kernel is named after all the operators fused into it (cpp_fused_add_native_layer_norm_3), and counts as the
first kind of these: a norm. What has no name of a kind is the rest.
"""
TITLE = "Lightwell: one training step"
"""In the file of the picture: what it is known by."""
REST = "the rest: Python, autograd, views"

WARM_UP_STEPS, STEPS = 3, 5


class ProfileError(LightwellError):
    """A profile that could not be written."""


@dataclass(frozen=True)
class Anatomy:
    """The seconds of a step, by kind."""

    shape: str
    contender: str
    step_seconds: float
    """Seconds of a step under the profiler, which costs a little."""
    seconds: dict[str, float]
    """Seconds by kind, in the order of KINDS and then the rest; they add up to `step_seconds`."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def kind_of(operator: str) -> str:
    """Return the kind that an operator, by its name in the profiler, belongs to."""
    return next((kind for kind, pattern in KINDS if re.search(pattern, operator, re.IGNORECASE)), REST)


def by_kind(operators: Iterable[tuple[str, float]], step_seconds: float) -> dict[str, float]:
    """Return seconds by kind of (operator, its own seconds); what is missing to `step_seconds` goes to the rest."""
    seconds = dict.fromkeys([*(kind for kind, _ in KINDS), REST], 0.0)
    for name, own in operators:
        seconds[kind_of(name)] += own
    seconds[REST] += max(0.0, step_seconds - sum(seconds.values()))
    return seconds


def dissect(shape: Shape, variant: str) -> Anatomy:
    """Take a few real training steps of a variant of Lightwell under torch's profiler."""
    import torch._inductor.config
    from torch.profiler import ProfilerActivity, profile

    from lightwell.bench.contenders.worker import make_bench_job
    from lightwell.training.hardware.device import freed_memory_kept, random_state_kept
    from lightwell.training.loop import train_step

    with (
        tempfile.TemporaryDirectory() as folder,
        freed_memory_kept(),
        torch._inductor.config.patch({"cpp.enable_kernel_profile": True}),  # compiled kernels by name
    ):
        job, _ = make_bench_job(shape, variant, Path(folder))
        with random_state_kept(job.device):
            for _ in range(WARM_UP_STEPS):
                train_step(job)
            with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
                started = time.perf_counter()
                for _ in range(STEPS):
                    train_step(job)
                step_seconds = (time.perf_counter() - started) / STEPS
    operators = [(event.key, event.self_cpu_time_total / 1e6 / STEPS) for event in profiler.key_averages()]
    return Anatomy(shape.name, variant, step_seconds, by_kind(operators, step_seconds))


def in_ms(milliseconds: float) -> str:
    """1287.3 -> "1,287 ms", 3.0791 -> "3.1 ms": whole ones where there are many."""
    return f"{milliseconds:,.0f} ms" if milliseconds >= 100 else f"{milliseconds:.1f} ms"


def refuse_foreign(path: Path) -> None:
    """Raise where the picture would take the place of a file that is no such picture.

    Raises:
        SettingError: it would.
    """
    try:
        foreign = TITLE.encode() not in path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise SettingError(f"{path} cannot be used ({error.strerror}); name another file.") from None
    if foreign:
        raise SettingError(f"{path} is there already and is no picture of a step's time; name another file.")


def draw(anatomy: Anatomy, path: Path) -> None:
    """Draw it as one horizontal bar for each kind, the longest on top and the rest below, labelled in ms and percent.

    Raises:
        ProfileError: the file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from lightwell.training.runs.plot import GREY, STYLE, TRAINING

    kinds = sorted((kind for kind, _ in KINDS if anatomy.seconds[kind]), key=lambda kind: -anatomy.seconds[kind])
    kinds.append(REST)
    lengths = [anatomy.seconds[kind] * 1e3 for kind in kinds]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 1.2 + 0.36 * len(kinds)))
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        figure.subplots_adjust(left=0.27, right=0.87, top=1.0 - 0.8 / figure.get_figheight(), bottom=0.04)
        axes.barh(range(len(kinds)), lengths, color=[TRAINING] * (len(kinds) - 1) + [GREY], height=0.66)
        axes.set_yticks(range(len(kinds)), kinds)
        axes.invert_yaxis()
        axes.set_xticks([])
        axes.tick_params(length=0)
        for side in ("right", "bottom", "left"):
            axes.spines[side].set_visible(False)
        for row, length in enumerate(lengths):
            share = length / 1e3 / anatomy.step_seconds
            axes.annotate(
                f"{in_ms(length)}  {share:.0%}", (length, row), xytext=(5, 0), textcoords="offset points", va="center"
            )
        figure.text(0.03, 1.0 - 0.3 / figure.get_figheight(), "One training step", size=14, weight="bold", va="center")
        title = f"{anatomy.contender} on shape {anatomy.shape}, {in_ms(anatomy.step_seconds * 1e3)} under the profiler"
        figure.text(0.03, 1.0 - 0.58 / figure.get_figheight(), title, size=9.5, color=GREY, va="center")
        try:
            figure.savefig(path, dpi=170, metadata={"Title": TITLE})
        except OSError as error:
            raise ProfileError(f"The picture {path} could not be written ({error.strerror or error}).") from None
