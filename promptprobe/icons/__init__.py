"""The icon world: a small captioned world with its own diffusion pipeline, reward model and probe, all shipped here."""

from __future__ import annotations

from pathlib import Path

NAME = "icons"
WEIGHTS = Path(__file__).with_name("weights")
PIPELINE = WEIGHTS / "pipeline"
REWARD = WEIGHTS / "reward"
PROBE = WEIGHTS / "probe"
GUIDANCE = 3.0  # pictures meet their captions best from about 2.6 on
