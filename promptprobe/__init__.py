"""promptprobe: know at step 5 how good the image will be, and rewrite the prompt before the GPU time is spent.

`optimize(prompt)` runs the whole loop and returns its record. Nothing here imports torch until it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import CaptureError, InputError, ModelError, ProbeMismatchError, PromptProbeError
from .lazy import attributes_of

if TYPE_CHECKING:
    from .attention import AttentionTap
    from .models import load_pipeline, load_probe
    from .probe import Probe, ProbeCard
    from .rewards import load_reward
    from .runs import generate, optimize, optimize_async, replay, score, search_seeds
    from .trajectory import Paused, advance, finish, start

__version__ = "0.1.0"

_LAZY = {
    "AttentionTap": "attention", "load_pipeline": "models", "load_probe": "models", "generate": "runs",
    "optimize": "runs", "optimize_async": "runs", "replay": "runs", "score": "runs", "search_seeds": "runs", "Probe": "probe", "ProbeCard": "probe", "load_reward": "rewards",
    "Paused": "trajectory", "advance": "trajectory", "finish": "trajectory", "start": "trajectory",
}  # fmt: skip

__all__ = [
    "AttentionTap",
    "CaptureError",
    "InputError",
    "ModelError",
    "Paused",
    "Probe",
    "ProbeCard",
    "ProbeMismatchError",
    "PromptProbeError",
    "advance",
    "finish",
    "generate",
    "load_pipeline",
    "load_probe",
    "load_reward",
    "optimize",
    "optimize_async",
    "replay",
    "score",
    "search_seeds",
    "start",
]

__getattr__ = attributes_of(__name__, _LAZY)
