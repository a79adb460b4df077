"""The peers, each trained the way its own training loop does it: `python peers.py NAME SHAPE_JSON [NANOGPT]`.

This file runs by itself under a Python that has the peers installed, and imports nothing of Lightwell but pacer.py,
which lies beside it. Every peer gets batches of random ids of the same shape for nothing: their loaders are not timed.
Learning rates are constant, for they cost nothing. What is not said below is the peer's default.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightwell.bench.contenders.pacer import Pacer
else:
    from pacer import Pacer

    sys.path.pop(0)  # this folder: its modules must not stand in front of those of the peers

BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1
LEARNING_RATE = 6e-4
CLIP = 1.0


def batches(shape: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Random inputs and targets (B, T), each target the next input."""
    import torch

    size = (shape["batch_size"], shape["context_length"] + 1)
    generator = torch.Generator().manual_seed(1)
    while True:
        ids = torch.randint(shape["vocab_size"], size, generator=generator)
        yield ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def nanogpt(shape: dict[str, Any], pacer: Pacer) -> None:
    """Run nanoGPT's train.py as its README says for a CPU: --device=cpu --compile=False, in fp32, without autocast."""
    _nanogpt(shape, pacer, nullcontext())


def nanogpt_bf16(shape: dict[str, Any], pacer: Pacer) -> None:
    """Run nanoGPT with the autocast that its train.py has for GPUs."""
    import torch

    _nanogpt(shape, pacer, torch.autocast("cpu", dtype=torch.bfloat16))


def _nanogpt(shape: dict[str, Any], pacer: Pacer, context: AbstractContextManager[Any]) -> None:
    import torch

    pacer.versions["nanoGPT"] = commit(sys.argv[3])
    sys.path.insert(0, sys.argv[3])
    nanogpt_model = importlib.import_module("model")

    # 50304 is what train.py takes for GPT-2's 50257, "rounded up for efficiency"; bias=False is its default.
    vocab_size = 50304 if shape["vocab_size"] == 50257 else shape["vocab_size"]
    model = nanogpt_model.GPT(
        nanogpt_model.GPTConfig(
            block_size=shape["context_length"], vocab_size=vocab_size, n_layer=shape["n_layers"],
            n_head=shape["n_heads"], n_embd=shape["d_model"], dropout=shape["dropout"], bias=False,
        )
    )  # fmt: skip
    optimizer = model.configure_optimizers(WEIGHT_DECAY, LEARNING_RATE, BETAS, "cpu")
    model.train()
    for inputs, targets in batches(shape):
        with context:
            _, loss = model(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if not pacer.stepped(loss.item()):
            return


def commit(checkout: str) -> str:
    """Return the commit of a checkout; "unknown" where it is a mere copy."""
    command = ["git", "-C", checkout, "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def transformers_plain(shape: dict[str, Any], pacer: Pacer) -> None:
    """GPT2LMHeadModel in the loop that one writes by hand: fp32, eager, torch's AdamW."""
    import torch

    model = _gpt2(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY)
    _plain_loop(shape, pacer, model, model, optimizer, nullcontext())


def transformers_compiled_bf16(shape: dict[str, Any], pacer: Pacer) -> None:
    """Run transformers at its best: compiled, autocast to bf16, fused AdamW, and no cache of keys and values."""
    import torch

    model = _gpt2(shape, use_cache=False)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
    )
    autocast = torch.autocast("cpu", dtype=torch.bfloat16)
    _plain_loop(shape, pacer, model, torch.compile(model), optimizer, autocast)


def _plain_loop(
    shape: dict[str, Any], pacer: Pacer, model: Any, forward: Any, optimizer: Any, context: AbstractContextManager[Any]
) -> None:
    import torch

    for inputs, _ in batches(shape):
        with context:
            loss = forward(input_ids=inputs, labels=inputs).loss  # shifts the labels by one itself
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        if not pacer.stepped(loss.item()):
            return


def _gpt2(shape: dict[str, Any], **settings: Any) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=shape["vocab_size"], n_positions=shape["context_length"], n_embd=shape["d_model"],
        n_layer=shape["n_layers"], n_head=shape["n_heads"], resid_pdrop=shape["dropout"],
        embd_pdrop=shape["dropout"], attn_pdrop=shape["dropout"], bos_token_id=0, eos_token_id=0, **settings,
    )  # fmt: skip
    return GPT2LMHeadModel(config).train()


def transformers_trainer_bf16(shape: dict[str, Any], pacer: Pacer) -> None:
    """Trainer's own loop with bf16=True, its fused AdamW and its clipping to 1.0; timed from step end to step end."""
    import tempfile

    from torch.utils.data import IterableDataset
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Rows(IterableDataset):  # type: ignore[type-arg, misc, unused-ignore]
        def __iter__(self) -> Iterator[dict[str, Any]]:
            for inputs, _ in batches(shape):
                for row in inputs:
                    yield {"input_ids": row, "labels": row}

    class Watched(Trainer):
        last_loss: Any = None

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            self.last_loss = super().training_step(*args, **kwargs)
            return self.last_loss

    class Pace(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = not pacer.stepped(trainer.last_loss.item())

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, use_cpu=True, bf16=True, per_device_train_batch_size=shape["batch_size"],
            max_steps=1_000_000, learning_rate=LEARNING_RATE, adam_beta1=BETAS[0], adam_beta2=BETAS[1],
            weight_decay=WEIGHT_DECAY, max_grad_norm=CLIP, save_strategy="no", report_to=[], disable_tqdm=True,
            dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = Watched(model=_gpt2(shape), args=arguments, train_dataset=Rows(), callbacks=[Pace()])
        trainer.train()


def llms_from_scratch(shape: dict[str, Any], pacer: Pacer) -> None:
    """GPTModel of chapter 4 in the loop of chapter 5 (train_model_simple): fp32, no clipping, the head not tied."""
    import torch
    from llms_from_scratch.ch04 import GPTModel

    model = GPTModel(
        {
            "vocab_size": shape["vocab_size"], "context_length": shape["context_length"],
            "emb_dim": shape["d_model"], "n_heads": shape["n_heads"], "n_layers": shape["n_layers"],
            "drop_rate": shape["dropout"], "qkv_bias": False,
        }
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, weight_decay=WEIGHT_DECAY)  # the book's
    model.train()
    for inputs, targets in batches(shape):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if not pacer.stepped(loss.item()):
            return


def litgpt(shape: dict[str, Any], pacer: Pacer) -> None:
    """The loop of `litgpt pretrain` as it starts by itself on a CPU: bf16-mixed, compiled, AdamW that is not fused.

    It has no learned positions and no dropout: rope on a quarter of each head, its default, stands in for the former.
    """
    if shape["dropout"]:
        raise SystemExit("litgpt has no dropout.")
    import lightning
    import torch
    from litgpt.model import GPT, Config
    from litgpt.pretrain import initialize_weights
    from litgpt.utils import (
        chunked_cross_entropy,
        get_default_supported_precision,
        instantiate_torch_optimizer,
        parse_devices,
    )

    fabric = lightning.Fabric(
        devices=parse_devices("auto"), strategy="auto", precision=get_default_supported_precision(training=True)
    )
    config = Config(
        name=shape["name"], block_size=shape["context_length"], vocab_size=shape["vocab_size"], padding_multiple=64,
        n_layer=shape["n_layers"], n_head=shape["n_heads"], n_embd=shape["d_model"], parallel_residual=False,
        attn_bias=True, gelu_approximate="tanh",
    )  # fmt: skip
    with fabric.init_module(empty_init=True):
        model = GPT(config)
    initialize_weights(fabric, model, n_layer=config.n_layer, n_embd=config.n_embd)
    model.transformer.wte.weight = model.lm_head.weight  # its option tie_embeddings
    model = fabric.setup(torch.compile(model))
    optimizer = instantiate_torch_optimizer("AdamW", model.parameters(), fused=fabric.device.type == "cuda")
    optimizer = fabric.setup_optimizers(optimizer)
    model.train()
    for inputs, targets in batches(shape):
        loss = chunked_cross_entropy(model(inputs), targets)
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=CLIP)
        optimizer.step()
        optimizer.zero_grad()
        if not pacer.stepped(loss.item()):
            return


PEERS: dict[str, tuple[Callable[[dict[str, Any], Pacer], None], tuple[str, ...]]] = {
    "nanogpt": (nanogpt, ()),
    "nanogpt-bf16": (nanogpt_bf16, ()),
    "transformers": (transformers_plain, ("transformers",)),
    "transformers-compiled-bf16": (transformers_compiled_bf16, ("transformers",)),
    "transformers-trainer-bf16": (transformers_trainer_bf16, ("transformers", "accelerate")),
    "llms-from-scratch": (llms_from_scratch, ("llms-from-scratch",)),
    "litgpt": (litgpt, ("litgpt", "lightning")),
}
"""Each with the packages whose versions matter."""


def main() -> None:
    """Run one peer until its parent has had enough."""
    run, packages = PEERS[sys.argv[1]]
    if packages == () and not Path(sys.argv[3], "model.py").is_file():
        raise SystemExit(f"{sys.argv[3]} is no checkout of nanoGPT: it has no model.py.")
    run(json.loads(sys.argv[2]), Pacer(*packages))


if __name__ == "__main__":
    main()
