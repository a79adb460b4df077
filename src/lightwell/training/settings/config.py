"""How a model is trained, and the one configuration that repeats a run."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w

from lightwell.arguments import check
from lightwell.batches.config import BatchConfig
from lightwell.errors import SettingError
from lightwell.generation.config import SamplingConfig
from lightwell.model.config import ModelConfig
from lightwell.settings import Field, Meta, Settings, nearest
from lightwell.text.config import TextConfig


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Length, optimizer, schedule, and what is recorded along the way."""

    steps: Annotated[int, Meta(ge=0)] = 0
    """Optimizer steps in all; 0 takes them from epochs or minutes."""
    epochs: Annotated[float, Meta(ge=0.0)] = 0.0
    """Passes over the windows; 0 takes the length from steps or minutes."""
    minutes: Annotated[float, Meta(ge=0.0)] = 0.0
    """Time from start to end, all included; the pace says how many steps. 0 takes the length from the others."""
    size: Literal["given", "auto"] = "given"
    """auto, with minutes, chooses n_layers, n_heads, d_model and context_length for the time; batch_size is 16."""
    seed: Annotated[int, Meta(ge=0)] = 1
    """Seeds the initialisation, the data order, the dropout and the samples, each a stream of its own."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """adamw for all weights, or muon for the matrices of the blocks and adamw for the rest."""
    learning_rate: Annotated[float, Meta(gt=0.0)] = 3e-3
    """Peak learning rate of adamw."""
    muon_learning_rate: Annotated[float, Meta(gt=0.0)] = 0.02
    """Peak learning rate of muon (muon only)."""
    muon_momentum: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.95
    """Muon's memory of the mean gradient (muon only)."""
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    """The learning rate after warm-up: a falling cosine, stable then a linear decay (wsd), or constant."""
    warmup_steps: Annotated[int, Meta(ge=0)] = 50
    """Steps over which the learning rate rises from 0 to its peak."""
    decay_fraction: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.3
    """Share of the steps, at the end, over which wsd decays."""
    final_learning_rate: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.05
    """The learning rate at the end, as a share of the peak."""
    beta1: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.9
    """adamw's memory of the mean gradient."""
    beta2: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.95
    """adamw's memory of the squared gradient."""
    weight_decay: Annotated[float, Meta(ge=0.0)] = 0.1
    """Pulls the matrices, never gains and biases, towards 0 at each step, times the learning rate."""
    grad_clip: Annotated[float, Meta(ge=0.0)] = 1.0
    """Largest norm of the gradient; longer ones are scaled down to it. 0 never clips."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes a GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """fp32, or products and residual stream in bf16; auto takes bf16 where the machine has it in hardware."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """What each of several processes holds: all weights, gradients and moments (ddp), or its part of each (fsdp)."""
    reproducible: bool = False
    """Gradients summed in one fixed order, to the same bits on 1, 2, 4 or 8 processes; each uses one thread."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether torch.compile translates the model first: up to half a minute's wait, then faster; auto for long runs."""
    eval_every: Annotated[int, Meta(ge=0)] = 100
    """Steps between evaluations on the held-out tokens. 0 evaluates only at the start and the end."""
    eval_tokens: Annotated[int, Meta(ge=1)] = 32768
    """Held-out tokens that each evaluation scores, always the same ones."""
    patience: Annotated[int, Meta(ge=0)] = 0
    """Stops after this many evaluations without a new best. 0 never stops early."""
    sample_every: Annotated[int, Meta(ge=0)] = 200
    """Steps between samples of what the model writes. 0 samples only at the end."""
    sample_prompt: str = ""
    """What the samples begin with; empty begins a new document."""
    checkpoint_every: Annotated[int, Meta(ge=0)] = 200
    """Steps between checkpoints. 0 saves only at each new best, at the end, and when stopped."""
    keep_checkpoints: Annotated[int, Meta(ge=1)] = 2
    """How many of the newest checkpoints are kept, beside the best one."""
    keep_every: Annotated[int, Meta(ge=0)] = 0
    """Checkpoints of steps that are multiples of this are kept for good. 0 keeps none so."""
    non_finite: Literal["stop", "skip"] = "stop"
    """What an update with a loss or gradient that is not finite does: stop the run, or leave that update out."""
    log_every: Annotated[int, Meta(ge=1)] = 1
    """Steps between lines of metrics.jsonl."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that repeats a run, one section for each folder of the way of a text through the house."""

    text: TextConfig = field(default_factory=TextConfig)
    batches: BatchConfig = field(default_factory=BatchConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        for name, section in self.sections().items():
            check(name, getattr(self, name), section)

    @classmethod
    def sections(cls) -> dict[str, type[Settings]]:
        """Return each section's name and class. No field's name occurs in two of them, so that each is a flag by
        itself.
        """
        return {
            "text": TextConfig,
            "batches": BatchConfig,
            "model": ModelConfig,
            "training": TrainConfig,
            "sampling": SamplingConfig,
        }

    @classmethod
    def all_fields(cls) -> dict[str, tuple[str, Field]]:
        """Return every field by name, with the section that it belongs to."""
        return {item.name: (name, item) for name, section in cls.sections().items() for item in section.fields()}

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """Return a copy with fields replaced by name, whatever their section, e.g. {"n_layers": 6, "learning_rate":
        1e-3}.

        Raises:
            SettingError: an unknown name (the nearest valid one is offered) or a value that is not allowed.
        """
        fields = self.all_fields()
        changed: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            if name not in fields:
                raise SettingError(f"There is no setting named {name}.{nearest(name, fields)}")
            changed.setdefault(fields[name][0], {})[name] = value
        sections = {name: dataclasses.replace(getattr(self, name), **change) for name, change in changed.items()}
        return dataclasses.replace(self, **sections)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return plain values by section."""
        return {name: getattr(self, name).to_dict() for name in self.sections()}

    def to_toml(self) -> str:
        """Return the text of a config.toml that repeats this run."""
        return tomli_w.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from sections of plain values.

        Raises:
            SettingError: an unknown section or field, or a value that is not allowed.
        """
        sections = cls.sections()
        for name, section in values.items():
            if name not in sections:
                hint = nearest(name, sections)
                raise SettingError(f"There is no section [{name}]; there are {', '.join(sections)}.{hint}")
            if not isinstance(section, Mapping):
                raise SettingError(f"{name} must be a section of settings, [{name}].")
        made: dict[str, Any] = {name: sections[name].from_dict(_renewed(section)) for name, section in values.items()}
        return cls(**made)

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read a config.toml; what it leaves out has its default.

        Raises:
            SettingError: the file is missing, not TOML, or says something that is not allowed.
        """
        return cls.from_dict(cls.read_sections(path))

    @classmethod
    def read_sections(cls, path: Path) -> dict[str, dict[str, Any]]:
        """Only what a config.toml itself says, by section, checked as in `from_toml`; of a run's folder, its own."""
        path = path / "config.toml" if path.is_dir() else path
        try:
            sections = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin with a byte order mark
        except FileNotFoundError:
            raise SettingError(f"There is no configuration file {path}.") from None
        except OSError as error:
            raise SettingError(f"The configuration file {path} cannot be read ({error.strerror or error}).") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingError(f"{path} is not valid TOML: {error}.") from None
        except ValueError as error:  # a name with a zero byte, which is none for the system
            raise SettingError(f"The configuration file {str(path)!r} cannot be read ({error}).") from None
        cls.from_dict(sections)
        return {name: dict(_renewed(section)) for name, section in sections.items()}


def _renewed(section: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a section as an older version wrote it, in today's values.

    compile was true or false, and beta1 was muon's momentum as well.
    """
    compiled = section.get("compile")
    if isinstance(compiled, bool):
        section = {**section, "compile": "on" if compiled else "off"}
    if section.get("optimizer") == "muon" and "beta1" in section:
        section = {"muon_momentum": section["beta1"], **section}
    return section
