"""Train the icon world's autoencoder: 64-px scenes <-> 8x8x16 latents.

    python -m worlds.icons.train_autoencoder --out checkpoints/icons

The latents are kept white (unit variance, no correlation) and let a linear head tell which icon part lies where,
so that the denoiser learns shapes as easily as colours. Crowded random scenes, not captions, are what it sees.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import nn

from promptprobe.icons.scenes import BACKGROUND_NAMES, CELLS, COLOUR_NAMES, OBJECTS, Icon, cell_labels, draw

from .fit import fit

LATENT_CHANNELS = 16
WIDTH = 32
LABEL_SIZES = (len(OBJECTS) + 1, len(COLOUR_NAMES) + 1, 4, len(BACKGROUND_NAMES))


def build() -> AutoencoderTiny:
    """A small TAESD-shaped autoencoder: 8x downsampling, most of its depth at low resolution, where it is cheap."""
    return AutoencoderTiny(
        latent_channels=LATENT_CHANNELS,
        encoder_block_out_channels=(WIDTH,) * 4,
        decoder_block_out_channels=(WIDTH,) * 4,
        num_encoder_blocks=(0, 0, 2, 3),
        num_decoder_blocks=(4, 3, 0, 0),
    )


def crowded(rng: np.random.Generator) -> tuple[str, list[Icon]]:
    """A background with up to a dozen icons of any kind anywhere on the lattice."""
    taken = np.zeros((CELLS, CELLS), bool)
    icons = []
    for _ in range(int(rng.integers(2, 24))):
        row, column = (int(v) for v in rng.integers(0, CELLS - 1, 2))
        if not taken[row : row + 2, column : column + 2].any():
            taken[row : row + 2, column : column + 2] = True
            icons.append(Icon(OBJECTS[rng.integers(16)], COLOUR_NAMES[rng.integers(8)], row, column))
    return BACKGROUND_NAMES[rng.integers(len(BACKGROUND_NAMES))], icons


def batch(rng: np.random.Generator, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images `[size, 3, 64, 64]` in -1..1 and cell labels `[size, 8, 8, 4]`."""
    scenes = [crowded(rng) for _ in range(size)]
    images = torch.from_numpy(np.stack([draw(*s) for s in scenes])).permute(0, 3, 1, 2)
    return images * 2 - 1, torch.from_numpy(np.stack([cell_labels(*s) for s in scenes]))


def make_loss(modules: nn.ModuleDict, size: int = 32):
    """Pixels (L1 + squared), linear readability of the labels, and whiteness of the latents."""
    autoencoder: Any = modules["autoencoder"]
    head = modules["head"]

    def loss(rng: np.random.Generator):
        images, labels = batch(rng, size)
        images = images.contiguous(memory_format=torch.channels_last)
        latents = autoencoder.encode(images).latents  # [size, 16, 8, 8]
        noise = torch.rand(size, 1, 1, 1) * 0.3
        noised = latents + noise * torch.randn_like(latents)
        decoded = autoencoder.decode(noised).sample
        error = decoded - images
        pixels = error.abs().mean() + 4 * error.square().mean()
        logits = head(noised).permute(0, 2, 3, 1).split(LABEL_SIZES, -1)
        icon = labels[..., 0] > 0
        labelled = sum(
            F.cross_entropy(
                (x if i != 2 else x[icon]).flatten(0, -2), (labels[..., i] if i != 2 else labels[icon][:, 2]).flatten()
            )
            for i, x in enumerate(logits)
        )
        flat = latents.permute(0, 2, 3, 1).flatten(0, 2)
        mean = flat.mean(0)
        covariance = (flat - mean).T @ (flat - mean) / len(flat)
        white = (covariance - torch.eye(LATENT_CHANNELS)).square().sum() / LATENT_CHANNELS + mean.square().mean()
        with torch.no_grad():
            figures = {
                "psnr": float(10 * torch.log10(4 / error.square().mean())),
                "labels": float(labelled),
                "objects": float((logits[0].argmax(-1) == labels[..., 0])[icon].float().mean()),
                "white": float(white),
            }
        return pixels + 0.05 * labelled + 0.05 * white, figures

    return loss


def main() -> None:
    """Train (or continue) and write `OUT/autoencoder/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/icons"))
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(args.seed)
    modules = nn.ModuleDict({"autoencoder": build(), "head": nn.Conv2d(LATENT_CHANNELS, sum(LABEL_SIZES), 1)})
    checkpoint = args.out / "autoencoder.ckpt.safetensors"
    fit(modules, make_loss(modules), steps=args.steps, lr=3e-3, checkpoint=checkpoint, seed=args.seed, muon=True)
    trained: Any = modules["autoencoder"]
    trained.save_pretrained(args.out / "autoencoder")


if __name__ == "__main__":
    main()
