"""Pipelines of real size with random weights, for `gpu.py`: denoiser and decoder as published, text encoders of the right
width and two layers, since text is encoded once.

The configurations are those of `tap_flops.py` and `preview_cost.py`, and transformer/config.json of
stabilityai/stable-diffusion-3.5-large. A denoiser is cut in depth (`share`) where memory ends.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from preview_cost import kl, qwen_vae
from tap_flops import flux, qwen, sdxl

from promptprobe.loading import quiet_transformers

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import conftest
import pipelines


@dataclass(frozen=True)
class Model:
    """A pipeline to measure: its name, settings of a call, how it is built of a denoiser, and that denoiser.

    `denoiser(share)` has that share of the depth; `tiny` builds a small pipeline of the same class instead.
    """

    name: str
    settings: dict[str, Any]
    denoiser: Callable[[float], Any]
    pipeline: Callable[[Any], Any]
    tiny: Callable[[], Any]


def sd35(share: float) -> Any:
    """Stable Diffusion 3.5 large."""
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=128, patch_size=2, in_channels=16, num_layers=max(2, int(38 * share)), attention_head_dim=64,
        num_attention_heads=38, joint_attention_dim=4096, caption_projection_dim=2432, pooled_projection_dim=2048,
        out_channels=16, pos_embed_max_size=192, qk_norm="rms_norm",
    )  # fmt: skip


def with_vae(channels: int, scaling: float, shift: float | None, quant: bool = False) -> Any:
    """An `AutoencoderKL` as published, kept in 16 bits as the rest."""
    vae = kl(channels, quant)[0]
    vae.register_to_config(scaling_factor=scaling, shift_factor=shift, force_upcast=False)
    return vae


def sdxl_pipeline(denoiser: Any) -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    (t1, e1), (t2, e2) = conftest.clip_parts(768), conftest.clip_parts(1280, projected=True)
    return StableDiffusionXLPipeline(
        vae=with_vae(4, 0.13025, None, True), text_encoder=e1, tokenizer=t1, text_encoder_2=e2, tokenizer_2=t2,
        unet=denoiser, scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1),
    )  # fmt: skip


def sd3_pipeline(denoiser: Any) -> Any:
    from diffusers import StableDiffusion3Pipeline

    (t1, e1), (t2, e2) = conftest.clip_parts(768, projected=True), conftest.clip_parts(1280, projected=True)
    t3 = pipelines.t5_tokenizer()
    return StableDiffusion3Pipeline(
        transformer=denoiser, scheduler=pipelines.flow(shift=3.0), vae=with_vae(16, 1.5305, 0.0609), text_encoder=e1,
        tokenizer=t1, text_encoder_2=e2, tokenizer_2=t2, text_encoder_3=pipelines.t5_encoder(t3, 4096), tokenizer_3=t3,
    )  # fmt: skip


def flux_pipeline(denoiser: Any) -> Any:
    from diffusers import FluxPipeline

    (t1, e1), t2 = conftest.clip_parts(768), pipelines.t5_tokenizer()
    return FluxPipeline(
        scheduler=pipelines.flow(use_dynamic_shifting=True, shift=3.0), vae=with_vae(16, 0.3611, 0.1159),
        text_encoder=e1, tokenizer=t1, text_encoder_2=pipelines.t5_encoder(t2, 4096), tokenizer_2=t2,
        transformer=denoiser,
    )  # fmt: skip


def qwen_pipeline(denoiser: Any) -> Any:
    from diffusers import QwenImagePipeline

    tokenizer = pipelines.qwen_tokenizer()
    return QwenImagePipeline(
        scheduler=pipelines.flow(use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, shift_terminal=0.02),
        vae=qwen_vae()[0], text_encoder=pipelines.qwen_vl(tokenizer, 3584, 28), tokenizer=tokenizer,
        transformer=denoiser,
    )  # fmt: skip


MODELS = (
    Model("SDXL", {"guidance_scale": 5.0}, lambda share: sdxl()[0], sdxl_pipeline, conftest.tiny_sdxl),
    Model("SD 3.5 large", {"guidance_scale": 3.5}, sd35, sd3_pipeline, pipelines.sd3),
    Model("FLUX.1-dev", {"guidance_scale": 3.5}, lambda share: flux(share)[0], flux_pipeline, pipelines.flux),
    Model("Qwen-Image", {"true_cfg_scale": 4.0, "negative_prompt": " "}, lambda share: qwen(share)[0], qwen_pipeline,
          pipelines.qwen_image),
)  # fmt: skip


def parameters_of(model: Model, share: float = 1.0) -> int:
    """Parameters of a denoiser, counted without memory."""
    with torch.device("meta"):
        return sum(p.numel() for p in model.denoiser(share).parameters())


def share_that_fits(model: Model, memory: float) -> float:
    """The share of a denoiser's depth whose 16-bit weights take at most 0.6 of `memory` bytes; 1 when all do."""
    return min(1.0, 0.6 * memory / (2 * parameters_of(model)))


def build(model: Model, device: str, size: str, share: float = 1.0) -> Any:
    """The pipeline in bfloat16 on a device, made there: nothing passes through the memory of the machine."""
    from diffusers.utils import logging

    logging.set_verbosity_error()
    quiet_transformers()
    torch.manual_seed(0)
    if size == "tiny":
        pipeline = model.tiny().to(device, torch.bfloat16)
    else:
        with made_on(device):
            pipeline = model.pipeline(model.denoiser(share))
        pipeline.to(device, torch.bfloat16)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextlib.contextmanager
def made_on(device: str) -> Iterator[None]:
    """While inside, modules are made on a device and in bfloat16."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


@torch.no_grad()
def sharpened(denoiser: Any, factor: float) -> bool:
    """Multiply the queries' norm weights, so that attention is as uneven as a trained model's; False without such norms."""
    found = [m for n, m in denoiser.named_modules() if n.endswith((".norm_q", ".norm_added_q"))]
    found = [m for m in found if getattr(m, "weight", None) is not None]
    for module in found:
        module.weight.mul_(factor)
    return bool(found)
