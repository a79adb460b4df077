"""For nanoGPT, under any Python with torch and numpy, in a copy of its checkout: prepare a text, or score its model.

python nanogpt_data.py prepare TEXT      as data/shakespeare_char/prepare.py does, without its download
python nanogpt_data.py score             over the whole of val.bin, in windows side by side; prints JSON

Pickles are nanoGPT's own file formats: it reads meta.pkl and writes ckpt.pt. This script scores the checkpoint that
nanoGPT has just written beside it, and lets torch load nothing but tensors and plain values.
"""

from __future__ import annotations

import importlib
import json
import pickle
import sys
from pathlib import Path

import numpy as np

DATA = Path("data/shakespeare_char")


def prepare(text: Path) -> None:
    """Write train.bin and val.bin, and meta.pkl with the size of the vocabulary, which train.py reads."""
    characters = text.read_text(encoding="utf-8")
    alphabet = sorted(set(characters))
    numbers = {character: number for number, character in enumerate(alphabet)}
    ids = np.array([numbers[character] for character in characters], dtype=np.uint16)
    cut = int(0.9 * len(ids))
    DATA.mkdir(parents=True, exist_ok=True)
    ids[:cut].tofile(DATA / "train.bin")
    ids[cut:].tofile(DATA / "val.bin")
    (DATA / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": len(alphabet)}))


def score() -> None:
    """Print nats per character over all of val.bin, and the number of parameters, of the newest checkpoint."""
    import torch

    sys.path.insert(0, ".")
    nanogpt = importlib.import_module("model")

    saved = torch.load(Path("out-shakespeare-char/ckpt.pt"), weights_only=True)
    model = nanogpt.GPT(nanogpt.GPTConfig(**saved["model_args"]))
    model.load_state_dict(saved["model"])
    model.eval()
    ids = torch.from_numpy(np.fromfile(DATA / "val.bin", dtype=np.uint16).astype(np.int64))
    length = saved["model_args"]["block_size"]
    nats = 0.0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, length):
            inputs = ids[start : start + length + 1]
            nats += model(inputs[None, :-1], inputs[None, 1:])[1].item() * (len(inputs) - 1)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(json.dumps({"loss": nats / (len(ids) - 1), "parameters": parameters}))


if __name__ == "__main__":
    prepare(Path(sys.argv[2])) if sys.argv[1] == "prepare" else score()
