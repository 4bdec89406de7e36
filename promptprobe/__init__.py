"""promptprobe: know at step 5 how good the image will be, and rewrite the prompt before the GPU time is spent.

`optimize(prompt)` runs the whole loop and returns its record. Nothing here imports torch until it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import CaptureError, InputError, ModelError, ProbeMismatchError, PromptProbeError
from .lazy import attributes_of, listing_of
from .version import __version__

if TYPE_CHECKING:
    from .agents.optimize import optimize, optimize_async
    from .agents.results import read_results
    from .attention import AttentionTap
    from .card import ProbeCard
    from .judges import load_probe
    from .pipelines import load_pipeline
    from .probe import Probe
    from .replaying import replay
    from .rewards import load_reward
    from .runs import generate, make_scorer, score, search_seeds
    from .trajectory import Paused, advance, finish, start

_LAZY = {
    "AttentionTap": "attention", "load_pipeline": "pipelines", "load_probe": "judges", "generate": "runs",
    "optimize": "agents.optimize", "optimize_async": "agents.optimize", "read_results": "agents.results", "replay": "replaying", "score": "runs", "search_seeds": "runs", "Probe": "probe", "ProbeCard": "card", "load_reward": "rewards", "make_scorer": "runs",
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
    "__version__",
    "advance",
    "finish",
    "generate",
    "load_pipeline",
    "load_probe",
    "load_reward",
    "make_scorer",
    "optimize",
    "optimize_async",
    "read_results",
    "replay",
    "score",
    "search_seeds",
    "start",
]

__getattr__ = attributes_of(__name__, _LAZY)
__dir__ = listing_of(__all__)
