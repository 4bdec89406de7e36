"""One table: for each denoiser class, which attention blocks to probe and where the text tokens lie.

A new backbone is a new row. Comes in: a diffusers pipeline. Goes out: its `Backbone` row and block names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from .errors import CaptureError, ModelError

MAX_BLOCKS = 10  # Diffusion Probe, arXiv:2602.23783, §4.1: ten blocks


@dataclass(frozen=True)
class Backbone:
    """A row of the table.

    `find_blocks` lists the attention modules of a denoiser that are probed by default, by name and in order, `find_all`
    every one that looks at text; `text_keys` says which keys
    are text ("all" in cross-attention); `conditional` says which half of a guided batch carries the prompt.
    """

    family: str
    denoiser: str
    find_blocks: Callable[[nn.Module], list[str]]
    find_all: Callable[[nn.Module], list[str]]
    text_keys: str
    conditional: str


def unet_encoder_blocks(denoiser: nn.Module) -> list[str]:
    """The last ten cross-attention modules (`attn2`) of the down blocks (paper §4.1: encoder side)."""
    names = [n for n, _ in denoiser.named_modules() if n.startswith("down_blocks.") and n.endswith(".attn2")]
    return names[-MAX_BLOCKS:]


def unet_all_blocks(denoiser: nn.Module) -> list[str]:
    """Every cross-attention module (`attn2`)."""
    return [n for n, _ in denoiser.named_modules() if n.endswith(".attn2")]


BACKBONES: dict[str, Backbone] = {
    row.denoiser: row
    for row in (
        Backbone(
            family="Stable Diffusion 1.x/2.x, SDXL and other UNets",
            denoiser="UNet2DConditionModel",
            find_blocks=unet_encoder_blocks,
            find_all=unet_all_blocks,
            text_keys="all",
            conditional="last half",
        ),
    )
}


def denoiser_of(pipeline) -> nn.Module:
    """The pipeline's `unet` or `transformer`.

    Raises `ModelError` when there is neither.
    """
    for name in ("unet", "transformer"):
        module = getattr(pipeline, name, None)
        if module is not None:  # a compiled module has no truth value
            return module
    raise ModelError(f"{type(pipeline).__name__} has no unet and no transformer: it is no text-to-image pipeline")


def backbone_of(pipeline) -> Backbone:
    """The row for a pipeline's denoiser.

    Raises `ModelError` that lists the supported classes when there is no row.
    """
    name = type(denoiser_of(pipeline)).__name__
    if name not in BACKBONES:
        raise ModelError(
            f"denoiser {name} of {type(pipeline).__name__} is not supported; supported are: {', '.join(BACKBONES)}"
        )
    return BACKBONES[name]


def probed_blocks(pipeline, which: str = "encoder") -> list[str]:
    """Names of attention modules to probe: `encoder`, the backbone's default after the paper; `all`, every one that
    looks at text; or names, comma-separated.

    Raises `CaptureError` when the denoiser has no attention to text.
    """
    if which not in ("encoder", "all"):
        return [name.strip() for name in which.split(",")]
    row, denoiser = backbone_of(pipeline), denoiser_of(pipeline)
    blocks = row.find_blocks(denoiser) if which == "encoder" else row.find_all(denoiser)
    if not blocks:
        raise CaptureError(f"{type(denoiser_of(pipeline)).__name__} has no text cross-attention in its encoder blocks")
    return blocks
