"""Any reward as a function of the shape that trainers call: `fn(images, prompts, metadata) -> (scores, info)`.

flow_grpo calls it with a tensor or array of images, TRL's DDPO trainer with a tensor and a tuple of prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import InputError
from . import RewardFunction, load_reward, measure, reward_name

FAR = 0.5  # floats that lie this far outside of 0..1 are of another scale, such as -1..1, and no rounding
TrainerReward = Callable[..., tuple[np.ndarray, dict[str, Any]]]


def trainer_reward(reward: str | RewardFunction, device: str = "cpu") -> TrainerReward:
    """`fn(images, prompts, metadata=None)`: rewards `[batch]`, float32, and `{"reward": name}`.

    `images` are PIL images, a tensor `[batch, 3, height, width]` in 0..1, or an array `[batch, height, width, 3]` in 0..255 (or
    0..1, of floats). The metadata is not read. Raises as `load_reward`; the function raises `InputError` for other images.
    """
    function = load_reward(reward, device)
    name = reward_name(reward)

    def score(
        images: Any, prompts: Sequence[str], metadata: Sequence[Mapping[str, Any]] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        pictures = pil_images(images)
        texts = prompts if isinstance(prompts, str) else list(prompts)
        return measure(function, pictures, texts).numpy(), {"reward": name}

    return score


def pil_images(images: Any) -> list[Image.Image]:
    """Images of any of the shapes of `trainer_reward` as PIL images; raises `InputError` for anything else."""
    if isinstance(images, torch.Tensor):
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"images are a tensor {list(images.shape)}; give [batch, 3, height, width] in 0..1")
        images = images.detach().float().cpu().permute(0, 2, 3, 1).numpy()
    if isinstance(images, np.ndarray):
        if images.ndim != 4 or images.shape[-1] != 3:
            raise InputError(f"images are an array {list(images.shape)}; give [batch, height, width, 3]")
        if not np.isfinite(images).all():
            raise InputError("images have values that are no numbers")
        if images.dtype.kind == "f" and images.size and not (images.min() >= -FAR and images.max() <= 1 + FAR):
            raise InputError(f"images have values from {images.min():.3g} to {images.max():.3g}; give floats in 0..1")
        scaled = images * 255 if images.dtype.kind == "f" else images
        return [Image.fromarray(i) for i in np.clip(np.rint(scaled), 0, 255).astype(np.uint8)]
    if not isinstance(images, Sequence) or not all(isinstance(i, Image.Image) for i in images):
        raise InputError("images are of another kind; give a list of PIL images, a tensor or an array")
    return list(images)
