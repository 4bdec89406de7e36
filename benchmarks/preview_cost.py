"""What a preview costs against a denoising step: by calculation for SDXL, FLUX.1-dev and Qwen-Image at 1024 pixels, and
measured on the icon world.

    python benchmarks/preview_cost.py [--batch 8] [--repeats 9] [--no-measure]

A step is what guidance makes it (SDXL: a batch of two; Qwen-Image: two calls; FLUX.1-dev: one call, guidance distilled).
Nothing is loaded: modules are built on PyTorch's meta device from their published configurations and their FLOPs counted
by PyTorch (two for a multiplication and an addition). Denoisers: `tap_flops.py`. Full decoders: vae/config.json of
stabilityai/stable-diffusion-xl-base-1.0, black-forest-labs/FLUX.1-dev and Qwen/Qwen-Image (diffusers' defaults). Tiny:
config.json of madebyollin/taesdxl and taef1 (diffusers' defaults); for Qwen-Image's latents diffusers has none, an
`AutoencoderTiny` of 16 channels is counted to show what one would cost. Reward: ImageReward (BLIP, ViT-L/16 at 224 pixels).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from tap_flops import flux, qwen, sdxl
from torch.utils.flop_counter import FlopCounterMode

from promptprobe import load_pipeline, start
from promptprobe.decoders import decode, decoder_for
from promptprobe.pipelines import pipeline_settings
from promptprobe.rewards import load_reward, measure
from promptprobe.rewards.blip import MAX_TOKENS, SIZE, Blip
from promptprobe.trajectory import preview
from promptprobe.worlds import DEFAULT, world_of

PROMPT = "two red cars left of a green tree on a white background"
STEPS = 25
LATENT = 128  # cells of a side of the latents at 1024 pixels


def kl(channels: int, quant: bool) -> tuple[Any, torch.Tensor]:
    """Decoder of SDXL (4 channels) or FLUX.1 (16 channels), and latents for it."""
    from diffusers import AutoencoderKL

    model = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        use_quant_conv=quant, use_post_quant_conv=quant,
    )  # fmt: skip
    return model, torch.zeros(1, channels, LATENT, LATENT)


def qwen_vae() -> tuple[Any, torch.Tensor]:
    """Qwen-Image's decoder, made for video, of one frame."""
    from diffusers import AutoencoderKLQwenImage

    return AutoencoderKLQwenImage(), torch.zeros(1, 16, 1, LATENT, LATENT)


def tiny(channels: int) -> tuple[Any, torch.Tensor]:
    """A TAESD."""
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(latent_channels=channels), torch.zeros(1, channels, LATENT, LATENT)


def image_reward() -> tuple[Any, dict[str, torch.Tensor]]:
    """ImageReward, and one image with its prompt."""
    tokens = torch.zeros(1, MAX_TOKENS, dtype=torch.long)
    return Blip(), {"pixels": torch.zeros(1, 3, SIZE, SIZE), "tokens": tokens, "mask": torch.ones_like(tokens)}


def flops(build: Callable[[], tuple[Any, ...]]) -> float:
    """TFLOPs of one call: of a denoiser or reward with its arguments, of an autoencoder's decoding."""
    with torch.device("meta"):
        model, given = build()[:2]
    model = model.to("meta").eval()
    if isinstance(model, Blip):  # transformers looks into the attention mask: run on memory that nobody filled
        model = model.to_empty(device="cpu")
        for buffer in model.buffers():
            buffer.zero_()
        given = {name: torch.zeros_like(value, device="cpu") + 1 for name, value in given.items()}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        if isinstance(given, dict):
            model(**given)
        else:
            model.decode(given)
    return counter.get_total_flops() / 1e12


def calculated() -> Table:
    """The table of real models."""
    table = Table("model", "a step", "full decoding", "of a step", "tiny decoding", "of a step", "reward", "of a step")
    reward = flops(image_reward)
    rows = (
        ("SDXL", sdxl, 1, lambda: kl(4, True), 4), ("FLUX.1-dev", flux, 1, lambda: kl(16, False), 16),
        ("Qwen-Image", qwen, 2, qwen_vae, 16),
    )  # fmt: skip
    for name, denoiser, calls, vae, channels in rows:
        step, full, small = calls * flops(denoiser), flops(vae), flops(lambda c=channels: tiny(c))  # type: ignore[misc]
        parts = [f"{part:.3f} TFLOPs" if part < 1 else f"{part:.1f} TFLOPs" for part in (full, small, reward)]
        shares = [f"{part / step:.3f}" for part in (full, small, reward)]
        pairs = [cell for pair in zip(parts, shares, strict=True) for cell in pair]
        table.add_row(name, f"{step:.1f} TFLOPs", *pairs)
    return table


def measured(model: str, batch: int, repeats: int) -> Table:
    """Seconds an image on a built-in world: the median of `repeats`, each way in turn."""
    pipeline, reward = load_pipeline(model), load_reward("icons")
    prompts, seeds = [PROMPT] * batch, range(batch)
    settings: dict[str, Any] = {"steps": STEPS, **pipeline_settings(model)}
    held = start(pipeline, prompts, seeds, stop=5, watch=(5,), **settings)
    images = preview(pipeline, held)
    small, _ = decoder_for(pipeline, "auto", getattr(world_of(model), "tiny", None))
    small = small or pipeline.vae
    ways: dict[str, Callable[[], Any]] = {
        "five denoising steps": lambda: start(pipeline, prompts, seeds, stop=5, watch=(), **settings),
        "decoding through the pipeline": lambda: preview(pipeline, held),
        "decoding alone": lambda: decode(pipeline.vae, held.clean_latents[5]),
        "decoding by the small decoder": lambda: decode(small, held.clean_latents[5]),
        "reward": lambda: measure(reward, images, prompts),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats + 1):
        for way, work in ways.items():
            began = time.perf_counter()
            work()
            times[way].append((time.perf_counter() - began) / batch)
    took = {way: statistics.median(values[1:]) for way, values in times.items()}  # the first is a warm-up
    step = took["five denoising steps"] / 5
    table = Table(model, "ms an image", "of a step")
    table.add_row("one denoising step", f"{1000 * step:.2f}", "1")
    for way in list(ways)[1:]:
        table.add_row(way, f"{1000 * took[way]:.2f}", f"{took[way] / step:.3f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--model", default=DEFAULT, help="a built-in world")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--no-measure", action="store_true", help="only the calculation")
    args = parser.parse_args()
    console = Console(width=160)
    console.print(calculated())
    if not args.no_measure:
        console.print(
            measured(args.model, args.batch, args.repeats), f"batch of {args.batch}, {torch.get_num_threads()} threads"
        )


if __name__ == "__main__":
    main()
