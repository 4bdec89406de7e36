"""The icon world: a small captioned world with diffusion pipelines, a reward model and probes of its own, all shipped here."""

from __future__ import annotations

from pathlib import Path

NAME = "icons"
WEIGHTS = Path(__file__).with_name("weights")
REWARD = WEIGHTS / "reward"

PIPELINE = WEIGHTS / "flux" / "pipeline"
PROBE = WEIGHTS / "flux" / "probe"

UNET_PIPELINE = WEIGHTS / "pipeline"
UNET_PROBE = WEIGHTS / "probe"
UNET_GUIDANCE = 3.0  # pictures meet their captions best from about 2.6 on

SMALL_VAE = UNET_PIPELINE / "vae"  # draws at 64 px
LARGE_VAE = PIPELINE / "vae"  # draws the same latents at 256 px
