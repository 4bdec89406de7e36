"""FLOPs and bytes of reading token maps, against one denoiser step, for the real configurations at 1024 pixels.

    python benchmarks/tap_flops.py

The denoisers are built without memory (PyTorch's meta device) from their published configurations, and their FLOPs
counted by PyTorch; the tap's are counted from its formula: with the kernel's normaliser only the prompt's tokens are
multiplied, without it every key of the probed blocks.
"""

from __future__ import annotations

from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

PROMPT_TOKENS = 40
BLOCKS = 10


def sdxl() -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Stable Diffusion XL: attn2 of down_blocks.2, a batch of two for guidance."""
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=128, block_out_channels=(320, 640, 1280), layers_per_block=2, cross_attention_dim=2048,
        transformer_layers_per_block=(1, 2, 10), attention_head_dim=(5, 10, 20), use_linear_projection=True,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
    )  # fmt: skip
    call = {
        "sample": torch.zeros(2, 4, 128, 128), "timestep": torch.zeros(2), "encoder_hidden_states": torch.zeros(2, 77, 2048),
        "added_cond_kwargs": {"text_embeds": torch.zeros(2, 1280), "time_ids": torch.zeros(2, 6)},
    }  # fmt: skip
    return model, call, {"heads": 20, "dim": 64, "queries": 32 * 32, "keys": 77}


def flux(share: float = 1.0) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """FLUX.1-dev, or a share of its depth: 4096 image and 512 text tokens, guidance distilled."""
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel(
        in_channels=64, num_layers=max(1, int(19 * share)), num_single_layers=max(1, int(38 * share)), attention_head_dim=128, num_attention_heads=24,
        joint_attention_dim=4096, pooled_projection_dim=768, guidance_embeds=True,
    )  # fmt: skip
    call = {
        "hidden_states": torch.zeros(1, 4096, 64), "encoder_hidden_states": torch.zeros(1, 512, 4096),
        "pooled_projections": torch.zeros(1, 768), "timestep": torch.zeros(1), "guidance": torch.zeros(1),
        "img_ids": torch.zeros(4096, 3), "txt_ids": torch.zeros(512, 3),
    }  # fmt: skip
    return model, call, {"heads": 24, "dim": 128, "queries": 4096, "keys": 4608}


def qwen(share: float = 1.0) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Qwen-Image, or a share of its depth: 4096 image tokens, about 60 text tokens, two calls for guidance (one is counted)."""
    from diffusers import QwenImageTransformer2DModel

    model = QwenImageTransformer2DModel(
        in_channels=64, out_channels=16, num_layers=max(1, int(60 * share)), attention_head_dim=128, num_attention_heads=24,
        joint_attention_dim=3584,
    )  # fmt: skip
    call = {
        "hidden_states": torch.zeros(1, 4096, 64), "encoder_hidden_states": torch.zeros(1, 60, 3584),
        "encoder_hidden_states_mask": torch.ones(1, 60), "timestep": torch.zeros(1), "img_shapes": [[(1, 64, 64)]],
    }  # fmt: skip
    return model, call, {"heads": 24, "dim": 128, "queries": 4096, "keys": 4156}


def main() -> None:
    """Count and print."""
    table = Table("model", "step TFLOPs", "tap TFLOPs", "share", "without normaliser", "share", "maps MB")
    for name, build in (("SDXL", sdxl), ("FLUX.1-dev", flux), ("Qwen-Image", qwen)):
        with torch.device("meta"):
            model, call, shape = build()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            try:
                model.to("meta")(**call)
            except NotImplementedError as error:
                raise SystemExit(f"{name}: {error}") from error
        step = counter.get_total_flops()
        base = 2 * BLOCKS * shape["heads"] * shape["queries"] * shape["dim"]
        tap, chunked = base * PROMPT_TOKENS, base * shape["keys"]
        stored = 4 * BLOCKS * PROMPT_TOKENS * shape["queries"] / 1e6
        table.add_row(
            name, f"{step / 1e12:.2f}", f"{tap / 1e12:.4f}", f"{100 * tap / step:.3f} %", f"{chunked / 1e12:.3f}",
            f"{100 * chunked / step:.2f} %", f"{stored:.1f}",
        )  # fmt: skip
    Console().print(table, f"{PROMPT_TOKENS} prompt tokens, {BLOCKS} blocks, float32 maps")


if __name__ == "__main__":
    main()
