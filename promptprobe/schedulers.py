"""The solvers that `--scheduler` names, a row each; every one can be paused.

Comes in: a short name as people know it. Goes out: the scheduler class of diffusers and what is changed in the
configuration of the pipeline's own. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Solver:
    """A row. `flow`: it is for flow-matching models, else for those that predict noise, velocity or the clean image.

    `own_levels`: it takes noise levels that the pipeline sets itself, as FLUX's does.
    """

    scheduler: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    flow: bool = False
    own_levels: bool = False


_DPM = {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": False}
_FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "use_karras_sigmas": False}
SOLVERS: dict[str, Solver] = {
    "euler": Solver("EulerDiscreteScheduler", {"use_karras_sigmas": False}),
    "euler-a": Solver("EulerAncestralDiscreteScheduler"),
    "dpm++2m": Solver("DPMSolverMultistepScheduler", _DPM),
    "dpm++2m-karras": Solver("DPMSolverMultistepScheduler", _DPM | {"use_karras_sigmas": True}),
    "dpm++2m-sde": Solver("DPMSolverMultistepScheduler", _DPM | {"algorithm_type": "sde-dpmsolver++"}),
    "ddim": Solver("DDIMScheduler"),
    "ddpm": Solver("DDPMScheduler"),
    "unipc": Solver("UniPCMultistepScheduler", {"use_karras_sigmas": False}),
    "heun": Solver("HeunDiscreteScheduler", {"use_karras_sigmas": False}),
    "lcm": Solver("LCMScheduler"),
    "flow-euler": Solver("FlowMatchEulerDiscreteScheduler", flow=True, own_levels=True),
    "flow-heun": Solver("FlowMatchHeunDiscreteScheduler", flow=True),
    "flow-dpm++2m": Solver("DPMSolverMultistepScheduler", _DPM | _FLOW, flow=True),
    "flow-unipc": Solver("UniPCMultistepScheduler", _FLOW, flow=True),
}  # fmt: skip
AUTO = "auto"


def stand_in(flow: bool) -> str:
    """What `auto` takes for a solver that can't be paused."""
    return "flow-euler" if flow else "dpm++2m"


def names_for(flow: bool) -> list[str]:
    """The solvers for a kind of model."""
    return [name for name, row in SOLVERS.items() if row.flow == flow]
