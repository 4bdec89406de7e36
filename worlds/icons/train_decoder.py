"""Train a decoder that draws the icon world's latents at 256 px, and the autoencoder folder that holds it.

    python -m worlds.icons.train_decoder --out checkpoints/icons-flux

Comes in: the 64-px autoencoder, whose latents stay as they are. Crowded boards are drawn at both sizes; the decoder sees
the small picture's latents with a little noise and must give the large picture. Its first levels start as those of the
64-px decoder. The encoder averages a large picture down to 64 px and is taught to give the latents of the 64-px one.
Goes out: `OUT/vae-256/`, an `AutoencoderTiny` of six levels.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import nn

from promptprobe import icons
from promptprobe.icons.large import draw_large
from promptprobe.icons.scenes import BACKGROUND_NAMES, COLOUR_NAMES, ICON_CELLS, OBJECTS, SLOTS, Icon, draw

from .fit import fit
from .train_autoencoder import LATENT_CHANNELS, WIDTH
from .train_flux import SCALE

log = logging.getLogger("promptprobe.icons")
DECODER_BLOCKS = (4, 3, 1, 1, 0, 0)  # at 8, 16, ... 256 px
ENCODER_BLOCKS = (0, 0, 0, 0, 1, 2)  # at 256, 128, ... 8 px
NOISE = 0.2


def build(small: AutoencoderTiny) -> AutoencoderTiny:
    """Six levels; the decoder starts with the small one's layers up to 32 px, the encoder with box averages."""
    large = AutoencoderTiny(
        latent_channels=LATENT_CHANNELS, encoder_block_out_channels=(WIDTH,) * 6,
        decoder_block_out_channels=(WIDTH,) * 6, num_encoder_blocks=ENCODER_BLOCKS, num_decoder_blocks=DECODER_BLOCKS,
    )  # fmt: skip
    shared = 2 + sum(small.config.num_decoder_blocks[:2]) + 2 * 2  # layers up to the second upsampling's convolution
    for mine, theirs in zip(large.decoder.layers[:shared], small.decoder.layers[:shared], strict=True):
        mine.load_state_dict(theirs.state_dict())
    _average_down(large.encoder.layers)
    return large


@torch.no_grad()
def _average_down(layers: Any) -> None:
    """Make the first three convolutions of an encoder hand on colours, averaged over boxes of 2x2 twice."""
    for i, layer in enumerate(layers[:3]):
        weight: Any = layer.weight
        weight.zero_()
        for channel in range(3):
            if i == 0:
                weight[channel, channel, 1, 1] = 1
            else:
                weight[channel, channel, 1:, 1:] = 0.25
        if layer.bias is not None:
            layer.bias.zero_()
        layer.requires_grad_(False)


def crowded(rng: np.random.Generator) -> tuple[str, list[Icon]]:
    """A background with any icon in about two of three slots of the board."""
    icons = [
        Icon(OBJECTS[rng.integers(16)], COLOUR_NAMES[rng.integers(8)], row * ICON_CELLS, column * ICON_CELLS)
        for row in range(SLOTS)
        for column in range(SLOTS)
        if rng.random() < 0.66
    ]
    return BACKGROUND_NAMES[rng.integers(len(BACKGROUND_NAMES))], icons


def _tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    """Pictures `[height, width, 3]` in 0..1 as a batch in -1..1, channels last in memory."""
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    return pixels * 2 - 1


def make_decoder_loss(decoder: nn.Module, small: AutoencoderTiny, size: int):
    """Pixels of the large picture, L1 and squared."""

    def loss(rng: np.random.Generator):
        boards = [crowded(rng) for _ in range(size)]
        with torch.no_grad():
            latents = small.encode(_tensor([draw(*b) for b in boards])).latents
        latents = latents + NOISE * torch.rand(size, 1, 1, 1) * torch.randn_like(latents)
        error = decoder(latents) - _tensor([draw_large(*b) for b in boards])
        squared = error.square().mean()
        return error.abs().mean() + 4 * squared, {"psnr": float(10 * torch.log10(4 / squared.detach()))}

    return loss


def make_encoder_loss(encoder: Any, small: AutoencoderTiny, size: int):
    """Squared difference of the latents; works on 64-px pictures, which is what the first three layers make."""
    upper: Any = encoder.layers[3:]

    def loss(rng: np.random.Generator):
        pictures = _tensor([draw(*crowded(rng)) for _ in range(size)])
        with torch.no_grad():
            wanted = small.encode(pictures).latents
        colours = nn.functional.pad((pictures + 1) / 2, (0, 0, 0, 0, 0, WIDTH - 3))
        colours = colours.contiguous(memory_format=torch.channels_last)
        squared = (upper(colours) - wanted).square().mean()
        return squared, {"latents": float(squared.detach())}

    return loss


def main() -> None:
    """Train (or continue) both halves and write `OUT/vae-256/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/icons-flux"))
    parser.add_argument("--vae", type=Path, default=icons.SMALL_VAE)
    parser.add_argument("--steps", type=int, default=500, help="of 6 boards, for the decoder")
    parser.add_argument("--encoder-steps", type=int, default=800, help="of 16 boards")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(args.seed)
    small = AutoencoderTiny.from_pretrained(args.vae).eval().requires_grad_(False)
    small.to(memory_format=torch.channels_last)
    large = build(small).to(memory_format=torch.channels_last)
    log.info("%.0f thousand parameters", sum(p.numel() for p in large.parameters()) / 1e3)
    fit(
        nn.ModuleDict({"decoder": large.decoder}), make_decoder_loss(large.decoder, small, 6), steps=args.steps,
        lr=3e-3, checkpoint=args.out / "decoder.ckpt.safetensors", seed=args.seed, warmup=50, average=0.98, muon=True,
    )  # fmt: skip
    fit(
        nn.ModuleDict({"encoder": large.encoder}), make_encoder_loss(large.encoder, small, 16),
        steps=args.encoder_steps, lr=3e-3, checkpoint=args.out / "encoder.ckpt.safetensors", seed=args.seed,
        warmup=50, average=0.98, muon=True,
    )  # fmt: skip
    large.register_to_config(scaling_factor=SCALE)
    large.to(torch.float16).save_pretrained(args.out / "vae-256")


if __name__ == "__main__":
    main()
