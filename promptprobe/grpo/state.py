"""A run's memory between two iterations: one file, written whole or not at all.

Comes in: a learner. Goes out: `state.safetensors` (adapter, optimizer, what corrects the judge, counters), and the same
learner again. All chance comes from the seed and the iteration's number, so nothing else is needed for the same next step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..errors import InputError, ModelError
from ..files import write_together
from .learning import Learner

STATE_FILE = "state.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class State:
    """Everything that an iteration begins from. `settings` are what the run may not change when it goes on."""

    tensors: dict[str, torch.Tensor]
    told: dict[str, Any]

    @classmethod
    def of(cls, learner: Learner, settings: dict[str, Any]) -> State:
        tensors: dict[str, torch.Tensor] = {}
        for name, parameter in learner.policy.parameters.items():
            tensors[f"adapter.{name}"] = parameter.detach()
            for moment in _MOMENTS:
                known: dict[str, torch.Tensor] = learner.optimizer.state.get(parameter, {})
                tensors[f"{moment}.{name}"] = known[moment] if moment in known else torch.zeros_like(parameter)
        tensors |= {"views": learner.correction.views, "rewards": learner.correction.rewards}
        told = {
            "iteration": learner.iteration, "updates": learner.updates, "calls": learner.calls,
            "seconds": learner.seconds, "range": list(learner.range), "settings": settings,
        }  # fmt: skip
        return cls({n: t.detach().cpu().clone().contiguous() for n, t in tensors.items()}, told)

    def write(self, folder: Path, more: dict[Path, bytes] | None = None) -> None:
        """Write it in a folder, with other files or not at all."""
        data = save(self.tensors, metadata={"state": json.dumps(self.told)})
        write_together({folder / STATE_FILE: data, **(more or {})})

    def put_back(self, learner: Learner) -> None:
        """Make a learner what it was; raises `ModelError` where the adapter is another's."""
        parameters = learner.policy.parameters
        if {f"adapter.{n}" for n in parameters} != {n for n in self.tensors if n.startswith("adapter.")} or any(
            self.tensors[f"adapter.{n}"].shape != p.shape for n, p in parameters.items()
        ):
            raise ModelError(f"{STATE_FILE} holds the adapter of another model; choose another --out")
        updates = self.told["updates"]
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(self.tensors[f"adapter.{name}"])
                if updates:
                    moments = {m: self.tensors[f"{m}.{name}"].to(parameter.device, copy=True) for m in _MOMENTS}
                    learner.optimizer.state[parameter] = {"step": torch.tensor(float(updates)), **moments}
                else:
                    learner.optimizer.state.pop(parameter, None)
        learner.correction.views = self.tensors["views"].clone()
        learner.correction.rewards = self.tensors["rewards"].clone()
        for name in ("iteration", "updates", "calls", "seconds"):
            setattr(learner, name, self.told[name])
        learner.range = tuple(self.told["range"])


def read_state(folder: Path, settings: dict[str, Any]) -> State | None:
    """What a run left in a folder, or None; raises `InputError` when it ran with other settings, `ModelError` for a damaged file."""
    path = folder / STATE_FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            told = json.loads(file.metadata()["state"])
            state = State({n: file.get_tensor(n) for n in file.keys()}, told)  # noqa: SIM118 - a safetensors file is no dict
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is damaged ({error}); take it away, or choose another --out") from error
    for name, value in json.loads(json.dumps(settings)).items():
        before = told["settings"].get(name)
        if before != value:
            raise InputError(
                f"{str(folder)!r} has a run with {name} {before!r}, now it is {value!r}; choose another --out or the same settings"
            )
    return state
