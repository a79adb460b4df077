"""What a run is built of: its batches, its model with the loss, and the job that the training loop works on."""

from __future__ import annotations

import warnings

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lightwell.batches.loader import BatchLoader
from lightwell.corpus.corpus import Corpus
from lightwell.model.decoder import Decoder
from lightwell.training.hardware.device import resolve_device
from lightwell.training.job import Job
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.processes.sharding import shard
from lightwell.training.runs.evaluation import true_byte_lengths
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.run import Run
from lightwell.training.settings.config import RunConfig
from lightwell.training.update.compilation import compile_for_training
from lightwell.training.update.loss import TrainedLoss, head_loss
from lightwell.training.update.optimizers import Optimizers
from lightwell.training.update.streams import stream_seed


def make_job(
    config: RunConfig,
    corpus: Corpus,
    loader: BatchLoader,
    run: Run,
    listener: Listener,
    group: ProcessGroup | None = None,
) -> Job:
    """Build the model and the optimizers at step 0."""
    group = group or ProcessGroup(device=resolve_device(config.training.device))
    model, loss_module = make_loss_module(config, group)
    optimizers = Optimizers(model, config.training)
    byte_lengths = true_byte_lengths(corpus.held_out, corpus.tokenizer.byte_lengths)
    return Job(
        config, corpus, model, loss_module, loader, optimizers, run, group.device, listener, byte_lengths, group=group
    )


def make_loss_module(config: RunConfig, group: ProcessGroup) -> tuple[Decoder, nn.Module]:
    """Return the model at step 0, and what is called to learn: the model with its loss, as the processes share it."""
    training, seed = config.training, stream_seed(config.training.seed, "initialisation")
    several = group.size > 1 and not training.reproducible
    model = shard(config.model, seed, group) if several and training.parallel == "fsdp" else Decoder(config.model, seed)
    model = model.to(group.device)
    loss = compile_for_training(model) if training.compile == "on" else head_loss
    loss_module: nn.Module = TrainedLoss(model, loss, training.precision)
    if several and training.parallel == "ddp":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)  # its new name: not in torch 2.10
            # Every process starts from the same weights, and the mask is the same for all.
            loss_module = DistributedDataParallel(loss_module, broadcast_buffers=False, gradient_as_bucket_view=True)
    return model, loss_module
