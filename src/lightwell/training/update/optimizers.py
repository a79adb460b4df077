"""The optimizers: AdamW for everything, or Muon for the matrices of the blocks and AdamW for the rest.

Who gets what:
    matrices (2-D), embeddings included    weight decay
    gains and biases (1-D)                 no weight decay: their scale is their meaning
Embeddings decay as every matrix does, as in GPT-2 and GPT-3's recipes: a tied embedding is also the head, and undecayed
rows of rare tokens would only ever grow. Muon turns a matrix's momentum into the nearest orthogonal matrix, which makes
sense for a matrix that maps the residual stream, not for a table of vectors, a head, or a gain: those stay with AdamW.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from lightwell.errors import RunError
from lightwell.model.decoder import Decoder
from lightwell.training.hardware.device import compute_dtype
from lightwell.training.processes.sharded_tensors import local_rows, shard_like
from lightwell.training.settings.config import TrainConfig
from lightwell.training.update.muon import Muon

_PEAK = "peak_learning_rate"


class Optimizers:
    """One or two torch optimizers that step together, with their state by the names of the parameters."""

    def __init__(self, model: Decoder, config: TrainConfig) -> None:
        self._parameters: dict[str, nn.Parameter] = dict(model.named_parameters())  # a tied head occurs once
        self._config = model.config
        named = self._parameters.items()
        muon = [name for name, weight in named if config.optimizer == "muon" and is_block_matrix(name, weight)]
        rest = [name for name in self._parameters if name not in muon]
        self._optimizers: list[Optimizer] = [self._adamw(rest, config)]
        if muon:
            self._optimizers.append(self._muon(muon, config))
        for group in self._groups():
            group[_PEAK] = group["lr"]

    def set_factor(self, factor: float) -> None:
        """Set every learning rate to `factor` times its peak."""
        for group in self._groups():
            group["lr"] = factor * group[_PEAK]

    def step(self) -> None:
        """Update the parameters from their gradients."""
        for optimizer in self._optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the whole state as "parameter name.state name" -> tensor, e.g. "norm.weight.exp_avg"; empty before a
        step.

        The tensors are the live ones, not copies. The state names are torch's: step, exp_avg and exp_avg_sq for AdamW,
        momentum_buffer for Muon.
        """
        tensors: dict[str, Tensor] = {}
        for name, optimizer in self._owners().items():
            for key, value in optimizer.state.get(self._parameters[name], {}).items():
                tensors[f"{name}.{key}"] = value
        return tensors

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over a state that `state_tensors` gave, bit for bit; the next step is the one that would have followed.

        Raises:
            RunError: the tensors are not those of this model and optimizer.
        """
        owners = self._owners()
        states: dict[str, dict[str, Tensor]] = {name: {} for name in owners}
        for full_name, tensor in tensors.items():
            name, _, key = full_name.rpartition(".")
            if name not in owners or key not in _state_names(owners[name]):
                raise RunError(
                    f"The saved optimizer state has {full_name}, which this model and optimizer do not have."
                )
            parameter = self._parameters[name]
            if key != "step" and tensor.shape != parameter.shape:
                raise RunError(
                    f"The saved optimizer state of {full_name} has the shape {tuple(tensor.shape)}, "
                    f"but the parameter has {tuple(parameter.shape)}."
                )
            mine = (tensor if key == "step" else tensor[local_rows(parameter)]).to(parameter.device, copy=True)
            states[name][key] = mine if key == "step" else shard_like(mine, parameter)
        for name, state in states.items():
            missing = [key for key in _state_names(owners[name]) if tensors and key not in state]
            if missing:
                raise RunError(f"The saved optimizer state lacks {name}.{missing[0]}.")
        for name, state in states.items():
            owners[name].state[self._parameters[name]] = state

    def _adamw(self, names: list[str], config: TrainConfig) -> AdamW:
        parameters = [self._parameters[name] for name in names]
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        # fused: one kernel for all tensors, on every device that the configuration allows (cpu, cuda, mps).
        return AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True)

    def _muon(self, names: list[str], config: TrainConfig) -> Muon:
        return Muon(
            [self._parameters[name] for name in names],
            [self._parts(name) for name in names],
            lr=config.muon_learning_rate,
            weight_decay=config.weight_decay,
            momentum=config.muon_momentum,
            dtype=compute_dtype(config.precision),
        )

    def _parts(self, name: str) -> tuple[int, ...]:
        """Return the rows of each matrix that a weight holds: queries, keys and values share one."""
        if not name.endswith("attention.qkv.weight"):
            return (len(self._parameters[name]),)
        return self._config.n_heads * self._config.head_width, *2 * (self._config.kv_heads * self._config.head_width,)

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    def _owners(self) -> dict[str, Optimizer]:
        """Return the optimizer of each parameter, by the parameter's name, in the model's order."""
        owner = {
            id(parameter): optimizer
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        return {name: owner[id(parameter)] for name, parameter in self._parameters.items()}


def is_block_matrix(name: str, parameter: Tensor) -> bool:
    """Return whether a parameter is what Muon is for."""
    return name.startswith("layers.") and parameter.dim() == 2


def _state_names(optimizer: Optimizer) -> tuple[str, ...]:
    return ("momentum_buffer",) if isinstance(optimizer, Muon) else ("step", "exp_avg", "exp_avg_sq")
