"""Flow-GRPO with a judge as filter: `train` a LoRA adapter on a reward, or `keep` what a trainer of your own should finish.

Sources: Diffusion Probe, arXiv:2602.23783, §3.4; Flow-GRPO, arXiv:2505.05470.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attributes_of

if TYPE_CHECKING:
    from .keeping import Correction, keep
    from .run import Trained, train

__all__ = ["Correction", "Trained", "keep", "train"]

__getattr__ = attributes_of(__name__, {"Correction": "keeping", "keep": "keeping", "Trained": "run", "train": "run"})
