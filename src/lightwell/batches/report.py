"""What a number of steps shows the model of its text, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WindowReport:
    """The windows of a text and how often training passes over them.

    An epoch is a pass over the windows; where they overlap, it shows each token several times. `effective_epochs` is
    how often each token is a target on average: the number by which overfitting is to be judged.
    """

    windows: int
    context_length: int
    stride: int
    random: bool
    batch_size: int
    steps: int
    epochs: float
    effective_epochs: float
    tokens: int
    tokens_skipped: int

    def sentences(self) -> list[str]:
        """Return the report for a person, one fact a line."""
        if self.random:
            where = f"starting anywhere, as many as a stride of {self.stride:,} gives"
        else:
            where = f"one every {self.stride:,} tokens"
        lines = [
            f"{self.windows:,} windows of {self.context_length:,} tokens, {where}, from {self.tokens:,} tokens.",
            f"{self.steps:,} steps of {self.batch_size:,} windows are {self.epochs:,.2f} epochs; "
            f"each token is seen {self.effective_epochs:,.2f} times on average.",
        ]
        if self.tokens_skipped:
            gap = self.stride - self.context_length
            why = f"the stride leaves out {gap:,} between windows" if gap > 0 else "the last ones fill no window"
            share = 100 * self.tokens_skipped / self.tokens
            lines.append(f"Never a target: {self.tokens_skipped:,} of the tokens ({share:.2g} %), as {why}.")
        return lines
