"""Data of different models in one layout, so that a probe trained on one can be read on another.

Comes in: a data set, and how much noise its timesteps mean. Goes out: the same with three planes of maps by depth, latents
as the autoencoder has them, and noise levels for timesteps. Only models that share an autoencoder and a text encoder agree
in more than the maps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .dataset import Items
from .errors import InputError

PLANES = ("early", "middle", "late")
SIDE = 8  # cells of a map


def noise_level(scheduler: Any) -> Callable[[float], float]:
    """The share of noise, 0 (none) to 1, that a timestep of a pipeline's scheduler means: `sigma` of `(1 - sigma) x + sigma e`
    up to a factor, so that diffusion and flow matching compare.

    Raises `InputError` for a scheduler with neither flow matching nor `alphas_cumprod`.
    """
    if scheduler.config.get("prediction_type") == "flow_prediction" or "FlowMatch" in type(scheduler).__name__:
        return lambda t: t / 1000
    kept = getattr(scheduler, "alphas_cumprod", None)
    if kept is None:
        raise InputError(f"{type(scheduler).__name__} doesn't say how much noise its timesteps mean")
    signal = kept.sqrt().double()
    share = (1 - kept.double()).sqrt() / (signal + (1 - kept.double()).sqrt())
    return lambda t: float(share[min(max(round(t), 0), len(share) - 1)])


def canonical(data: Items, noise: Callable[[float], float], channels: int) -> Items:
    """The data set with maps `[items, tokens, 3, 8, 8]`, latents of `channels` and noise levels times 1000 as timesteps.

    A map says which of the prompt's words a place looks at: over the words it sums to one. Blocks are averaged by thirds
    of the denoiser's depth. Packed latents (2 by 2 patches, as FLUX has them) are unpacked.
    """
    order = sorted(range(len(data.settings["blocks"])), key=lambda i: _depth(data.settings["blocks"][i]))
    thirds = np.array_split(order, len(PLANES))
    if not all(map(len, thirds)):
        raise InputError(f"{len(order)} blocks were collected; collect with --blocks all, at least {len(PLANES)}")
    made = {**data.settings, "denoiser": "canonical", "blocks": list(PLANES), "settings": {}, "scheduler": ""}
    return replace(
        data, settings=made,
        maps={k: _planes(m, thirds) for k, m in data.maps.items()},
        timesteps={k: torch.tensor([1000 * noise(float(v)) for v in t]) for k, t in data.timesteps.items()},
        latents={k: _unpacked(x, channels) for k, x in data.latents.items()},
    )  # fmt: skip


def _depth(block: str) -> int:
    return 2 if block.startswith("up") else 1 if block.startswith(("mid", "single")) else 0


def _planes(maps: torch.Tensor, thirds: list[np.ndarray]) -> torch.Tensor:
    values = maps.float()
    values = values / values.sum(1, keepdim=True).clamp_min(1e-6)
    planes = torch.stack([values[:, :, list(part)].mean(2) for part in thirds], 2)
    flat = planes.flatten(0, 1)
    if min(flat.shape[-2:]) < SIDE:
        flat = F.interpolate(flat, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return F.adaptive_avg_pool2d(flat, SIDE).unflatten(0, planes.shape[:2]).half()


def _unpacked(latents: torch.Tensor, channels: int) -> torch.Tensor:
    if latents.shape[1] == 4 * channels:
        return F.pixel_shuffle(latents.float(), 2).half()
    if latents.shape[1] != channels:
        raise InputError(f"latents have {latents.shape[1]} channels; the autoencoder has {channels}")
    return latents
