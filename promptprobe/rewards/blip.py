"""ImageReward from its published checkpoint, on transformers' own BLIP classes.

A vision transformer (ViT-L/16) and a BERT with cross-attention read image and prompt; an MLP over the first token gives
the score. Source: Xu et al., arXiv:2304.05977, and the package image-reward 1.5; equality with it is tested.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from ..errors import ModelError
from . import weights
from .images import check_pairs, clip_pixels

SIZE = 224
MAX_TOKENS = 35
MEAN, STD = 0.16717362830052426, 1.0333394966054072
CHECKPOINTS = ("ImageReward.safetensors", "ImageReward.pt")
_UNUSED = re.compile(r"(vision_proj|text_proj)\.|text_encoder\.embeddings\.position_ids$")

# From the checkpoint's names to transformers' BLIP; the first rule that matches applies.
_RENAMES = (
    (r"^blip\.visual_encoder\.cls_token$", "vision.embeddings.class_embedding"),
    (r"^blip\.visual_encoder\.pos_embed$", "vision.embeddings.position_embedding"),
    (r"^blip\.visual_encoder\.patch_embed\.proj\.", "vision.embeddings.patch_embedding."),
    (r"^blip\.visual_encoder\.norm\.", "vision.post_layernorm."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.norm1\.", r"vision.encoder.layers.\1.layer_norm1."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.norm2\.", r"vision.encoder.layers.\1.layer_norm2."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.attn\.qkv\.", r"vision.encoder.layers.\1.self_attn.qkv."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.attn\.proj\.", r"vision.encoder.layers.\1.self_attn.projection."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.mlp\.", r"vision.encoder.layers.\1.mlp."),
    (r"^blip\.text_encoder\.", "text."),
    (r"^mlp\.layers\.", "mlp."),
)


class ImageReward:
    """`reward(images, prompts)` with ImageReward v1.0; prompts are cut at 35 tokens, as published.

    `folder` holds `ImageReward.safetensors` or `ImageReward.pt` and, optionally, BERT's tokenizer. Raises `ModelError`
    when a file is absent, truncated or of another architecture.
    """

    name = "image-reward"

    def __init__(self, folder: Path | None = None, device: str = "cpu"):
        path = next((folder / n for n in CHECKPOINTS if (folder / n).is_file()), None) if folder else None
        path = path or weights.find(CHECKPOINTS[1], weights.IMAGE_REWARD, folder, self.name)
        self.model = load_blip(weights.read_state(path, self.name), path).to(device).eval()
        self.tokenizer = _tokenizer(folder)
        self.device = device

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> torch.Tensor:
        """Rewards `[batch]`, about -2 to 2."""
        check_pairs(images, prompts)
        tokens = self.tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        pixels = clip_pixels(images, SIZE).to(self.device)
        return self.model(pixels, tokens.input_ids.to(self.device), tokens.attention_mask.to(self.device)).cpu()


class Blip(nn.Module):
    """Pixels `[batch, 3, 224, 224]` and tokens `[batch, tokens]` to standardised scores `[batch]`."""

    def __init__(self, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None):
        super().__init__()
        from transformers import BlipTextConfig, BlipVisionConfig
        from transformers.models.blip.modeling_blip import BlipVisionModel
        from transformers.models.blip.modeling_blip_text import BlipTextModel

        seen = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
        read = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
        seen |= vision or {}
        config = BlipTextConfig(
            vocab_size=30524, encoder_hidden_size=seen["hidden_size"], max_position_embeddings=512, is_decoder=True,
            hidden_act="gelu", layer_norm_eps=1e-12, **(read | (text or {})),
        )  # fmt: skip
        self.vision = BlipVisionModel(
            BlipVisionConfig(**seen, image_size=SIZE, patch_size=16, hidden_act="gelu", layer_norm_eps=1e-6)
        )
        self.text = BlipTextModel(config, add_pooling_layer=False)
        sizes = (config.hidden_size, 1024, 128, 64, 16, 1)
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(sizes)):
            layers += [nn.Linear(a, b)] + ([nn.Dropout(0)] if i < 3 else [])  # keeps the checkpoint's numbering
        self.mlp = nn.Sequential(*layers)

    def forward(self, pixels: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Scores `[batch]`."""
        seen = self.vision(pixels).last_hidden_state
        read = self.text(
            input_ids=tokens, attention_mask=mask, encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=seen.device), is_decoder=False,
        )  # fmt: skip
        return (self.mlp(read.last_hidden_state[:, 0].float())[:, 0] - MEAN) / STD


def load_blip(
    state: dict[str, torch.Tensor], path: Path, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None
) -> Blip:
    """A `Blip` with the weights of a published (or converted) state dict; `vision` and `text` change its sizes.

    Raises `ModelError` that names the first key which is unexpected, missing or of another shape.
    """
    with torch.device("meta"):
        model = Blip(vision, text)
    weights.load_exactly(model, renamed(state, path), path, ImageReward.name)
    embeddings = model.text.embeddings  # what no checkpoint holds was made on no device either
    embeddings.position_ids = torch.arange(embeddings.position_ids.shape[-1])[None]
    return model


def renamed(state: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """A published state dict under the names of `Blip`; an already converted one stays as it is."""
    if any(key.startswith("vision.") for key in state):
        return state
    result = {}
    for key, value in state.items():
        if _UNUSED.search(key):
            continue
        for pattern, replacement in _RENAMES:
            new, count = re.subn(pattern, replacement, key)
            if count:
                result[new] = value
                break
        else:
            raise ModelError(f"{path} is no checkpoint of {ImageReward.name!r}: unexpected key {key!r}")
    return result


def _tokenizer(folder: Path | None):
    from transformers import BertTokenizer

    local = folder if folder is not None and (folder / "vocab.txt").is_file() else None
    names = ("vocab.txt", "tokenizer.json", "tokenizer_config.json")
    if local is None:
        local = weights.find_folder(names, weights.BERT, None, ImageReward.name)
    return BertTokenizer.from_pretrained(local, local_files_only=True)
