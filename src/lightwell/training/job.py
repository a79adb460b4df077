"""What a training loop works on: the job, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lightwell.batches.loader import BatchLoader
from lightwell.corpus.corpus import Corpus
from lightwell.model.decoder import Decoder
from lightwell.training.checkpoints.writer import Writer
from lightwell.training.planning.deadline import Deadline
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.processes.sharding import is_sharded
from lightwell.training.runs.best import EvaluationTracker
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.run import Run
from lightwell.training.settings.config import RunConfig
from lightwell.training.update.loss_spikes import LossSpikeDetector
from lightwell.training.update.optimizers import Optimizers


@dataclass
class Progress:
    """Where a run stands; with the weights and the optimizer's state, all that a checkpoint holds."""

    step: int = 0
    """Finished optimizer steps."""
    tokens_seen: int = 0
    """Targets that the loss has counted."""
    seconds: float = 0.0
    """Time in training steps, without evaluating, sampling and saving."""
    skipped: int = 0
    """Updates in a row, up to this one, that were left out because they were not finite."""
    evaluations: EvaluationTracker = field(default_factory=EvaluationTracker)
    spikes: LossSpikeDetector = field(default_factory=LossSpikeDetector)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint, those of the two trackers among the others."""
        own = {name: value for name, value in vars(self).items() if name not in ("evaluations", "spikes")}
        return {**own, **vars(self.evaluations), **vars(self.spikes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the progress that `to_dict` gave, in this version or an earlier one."""
        own = dict(values)
        trackers = [
            {each.name: own.pop(each.name) for each in fields(tracker) if each.name in own}
            for tracker in (EvaluationTracker, LossSpikeDetector)
        ]
        return cls(**own, evaluations=EvaluationTracker(**trackers[0]), spikes=LossSpikeDetector(**trackers[1]))


@dataclass
class Job:
    """Everything that a training loop needs, made by build.py."""

    config: RunConfig
    corpus: Corpus
    model: Decoder
    loss_module: nn.Module
    """The model with its loss (loss.py), wrapped by torch where several processes train it."""
    loader: BatchLoader
    optimizers: Optimizers
    run: Run
    device: torch.device
    listener: Listener
    byte_lengths: NDArray[np.float64]
    """(V,) bytes of the held-out text that each token stands for."""
    progress: Progress = field(default_factory=Progress)
    group: ProcessGroup = field(default_factory=ProcessGroup)
    """The processes that train together."""
    writer: Writer = field(default_factory=Writer)
    """Writes checkpoints beside training."""
    deadline: Deadline | None = None
    """Where the run was asked for minutes: until its number of steps stands fast."""

    @property
    def is_sharded(self) -> bool:
        """Return whether each process holds a shard of the model only: all take part in every pass then."""
        return is_sharded(self.model)
