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

    `find_blocks` lists the probed attention modules of a denoiser by name, in order; `text_keys` says which keys
    are text ("all" in cross-attention); `conditional` says which half of a guided batch carries the prompt.
    """

    family: str
    denoiser: str
    find_blocks: Callable[[nn.Module], list[str]]
    text_keys: str
    conditional: str


def unet_encoder_blocks(denoiser: nn.Module) -> list[str]:
    """The last ten cross-attention modules (`attn2`) of the down blocks (paper §4.1: encoder side)."""
    names = [n for n, _ in denoiser.named_modules() if n.startswith("down_blocks.") and n.endswith(".attn2")]
    return names[-MAX_BLOCKS:]


BACKBONES: dict[str, Backbone] = {
    row.denoiser: row
    for row in (
        Backbone(
            family="Stable Diffusion 1.x/2.x, SDXL and other UNets",
            denoiser="UNet2DConditionModel",
            find_blocks=unet_encoder_blocks,
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


def probed_blocks(pipeline) -> list[str]:
    """Names of the attention modules that are probed by default.

    Raises `CaptureError` when the denoiser has no attention to text.
    """
    blocks = backbone_of(pipeline).find_blocks(denoiser_of(pipeline))
    if not blocks:
        raise CaptureError(f"{type(denoiser_of(pipeline)).__name__} has no text cross-attention in its encoder blocks")
    return blocks
