"""Packed latents of many scenes with what stands in each slot, computed once for the icon world's FLUX.

Comes in: an autoencoder and scenes. Goes out: `latents` `[scenes, 16, 64]` of unit deviation in half precision, one row
a slot of the board; `groups` `[scenes, 16]` (0 = empty, else whose icon stands there, counted from 1); `slots`
`[scenes, 16, 2]`, object and colour numbers (0 = none).
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from safetensors import safe_open
from safetensors.torch import save_file

from promptprobe.icons.scenes import COLOUR_NAMES, ICON_CELLS, OBJECTS, SLOTS, draw, place

log = logging.getLogger("promptprobe.icons")


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Latents `[batch, channels, 8, 8]` as FLUX packs them, `[batch, 16, 4 * channels]`."""
    cells = latents.unflatten(2, (-1, 2)).unflatten(4, (-1, 2))  # [batch, channels, 4, 2, 4, 2]
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


@torch.no_grad()
def latent_bank(
    autoencoder: AutoencoderTiny, path: Path, scenes: list, seed: int, scale: float
) -> dict[str, torch.Tensor]:
    """The three tensors named above, kept in `path`."""
    if path.exists():
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in ("latents", "groups", "slots")}
    autoencoder = autoencoder.eval().to(memory_format=torch.channels_last)
    latents = torch.empty(len(scenes), SLOTS**2, 64, dtype=torch.float16)
    groups = torch.zeros(len(scenes), SLOTS**2, dtype=torch.int8)
    slots = torch.zeros(len(scenes), SLOTS**2, 2, dtype=torch.int8)
    rng = np.random.default_rng([seed, 1])
    for i in range(0, len(scenes), 100):
        images = []
        for n, scene in enumerate(scenes[i : i + 100], i):
            icons = place(scene, rng)
            images.append(draw(scene.background, icons))
            names = [g.object for g in scene.groups]
            for icon in icons:
                slot = icon.row // ICON_CELLS * SLOTS + icon.column // ICON_CELLS
                groups[n, slot] = names.index(icon.object) + 1
                slots[n, slot, 0] = OBJECTS.index(icon.object) + 1
                slots[n, slot, 1] = COLOUR_NAMES.index(icon.colour) + 1
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        latents[i : i + 100] = pack(autoencoder.encode(pixels * 2 - 1).latents * scale)
        if i % 10_000 == 0:
            log.info("latents of %d/%d scenes", i, len(scenes))
    bank = {"latents": latents, "groups": groups, "slots": slots}
    part = path.with_suffix(".part")
    save_file(bank, part)
    os.replace(part, path)
    return bank
