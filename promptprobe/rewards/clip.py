"""Rewards over a CLIP: CLIP score, PickScore, HPS v2.1, aesthetic heads, and the icon world's own.

All share one class: two normalised embeddings, and a formula of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from .. import icons
from ..errors import ModelError, reason_of
from ..loading import check_weight_files
from . import weights
from .images import check_pairs, clip_pixels, padded_pixels

_CLIP_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


class ClipReward:
    """A transformers CLIP and a formula of its embeddings; subclasses say which."""

    name = ""
    repository = weights.CLIP_L
    reads_prompt = True

    def __init__(self, folder: Path | None = None, device: str = "cpu"):
        self.device = device
        self.model, self.tokenizer = self.load(folder)
        self.model = self.model.to(device).eval()

    def load(self, folder: Path | None) -> tuple[Any, Any]:
        """CLIP model and tokenizer."""
        where = weights.find_folder(_CLIP_FILES, self.repository, folder, self.name)
        return read_clip(where, self.name), read_tokenizer(where, self.name)

    def pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Preprocessed images `[batch, 3, size, size]`."""
        return clip_pixels(images, self.model.config.vision_config.image_size)

    def formula(self, image: torch.Tensor, text: torch.Tensor | None) -> torch.Tensor:
        """Rewards `[batch]` of normalised embeddings `[batch, size]`."""
        raise NotImplementedError

    @torch.no_grad()
    def image_embeddings(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Normalised embeddings `[batch, size]` of images, on the CPU."""
        pixels = self.pixels(images).to(self.device, self.model.dtype)
        return F.normalize(self.model.get_image_features(pixel_values=pixels).pooler_output.float(), dim=-1).cpu()

    @torch.no_grad()
    def text_embeddings(self, prompts: Sequence[str]) -> torch.Tensor:
        """Normalised embeddings `[batch, size]` of prompts, cut at what the text tower takes, on the CPU."""
        texts = list(dict.fromkeys(prompts))
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        features = self.model.get_text_features(input_ids=tokens.input_ids.to(self.device)).pooler_output
        return F.normalize(features.float(), dim=-1).cpu()[[texts.index(p) for p in prompts]]

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> torch.Tensor:
        """Rewards `[batch]`."""
        check_pairs(images, prompts)
        return self.formula(self.image_embeddings(images), self.text_embeddings(prompts) if self.reads_prompt else None)


class ClipScore(ClipReward):
    """100 x cosine of image and prompt, not below 0 (Hessel et al., arXiv:2104.08718; as torchmetrics computes it)."""

    name = "clip"

    def formula(self, image, text):
        return (100 * (image * text).sum(-1)).clamp(min=0)


class PickScore(ClipReward):
    """The model's logit scale times the cosine (Kirstain et al., arXiv:2305.01569)."""

    name = "pickscore"
    repository = weights.PICKSCORE

    def load(self, folder):
        where = weights.find_folder(("config.json", "model.safetensors"), self.repository, folder, self.name)
        tokenizer = folder if folder and (folder / "tokenizer.json").is_file() else None
        tokenizer = tokenizer or weights.find_folder(("tokenizer.json",), weights.CLIP_H, None, self.name)
        return read_clip(where, self.name), read_tokenizer(tokenizer, self.name)

    def formula(self, image, text):
        return self.model.logit_scale.detach().exp().cpu() * (image * text).sum(-1)


class HpsReward(ClipReward):
    """Cosine under HPS v2.1's ViT-H/14, read from its open_clip checkpoint (Wu et al., arXiv:2306.09341)."""

    name = "hpsv2"
    repository = weights.HPS

    def load(self, folder):
        path = weights.find("HPS_v2.1_compressed.pt", self.repository, folder, self.name)
        state = from_open_clip(weights.read_state(path, self.name), path, self.name)
        with torch.device("meta"):
            model = huge_clip()
        weights.load_exactly(model, state, path, self.name)
        for tower in (model.text_model.embeddings, model.vision_model.embeddings):
            tower.position_ids = torch.arange(tower.position_ids.shape[-1])[None]
        where = folder if folder and (folder / "tokenizer.json").is_file() else None
        where = where or weights.find_folder(("tokenizer.json",), weights.CLIP_H, None, self.name)
        return model, read_tokenizer(where, self.name)

    def pixels(self, images):
        return padded_pixels(images, self.model.config.vision_config.image_size)

    def formula(self, image, text):
        return (image * text).sum(-1)


class AestheticReward(ClipReward):
    """LAION's aesthetic predictor, about 1 to 10: five linear layers over CLIP ViT-L/14's normalised image embedding.

    The head is published by christophschuhmann/improved-aesthetic-predictor.
    """

    name = "aesthetic"
    reads_prompt = False

    def __init__(self, folder: Path | None = None, device: str = "cpu"):
        path = (folder or Path()) / weights.AESTHETIC_FILE
        if folder is None or not path.is_file():
            raise ModelError(
                f"reward {self.name!r} needs {weights.AESTHETIC_FILE}"
                + (f", which is not in {str(folder)!r}" if folder else "")
                + f"; download it from {weights.AESTHETIC_URL} into a folder and name it: {self.name}=FOLDER"
            )
        weights.check_digest(path, weights.AESTHETIC_SHA256, self.name)
        self.head = read_head(weights.read_state(path, self.name), path, self.name, strip="layers.")
        super().__init__(folder if (folder / "model.safetensors").is_file() else None, device)

    def formula(self, image, text):
        with torch.no_grad():
            return self.head(image)[:, 0]


class IconsReward(ClipReward):
    """The icon world's reward: the cosine of its own CLIP, scaled so that a true caption gets 1 and a mistake 0."""

    name = "icons"

    def load(self, folder):
        folder = folder or icons.REWARD
        check_weight_files(folder)
        try:
            cosine = json.loads((folder / "reward.json").read_text("utf-8"))["cosine"]
            self.zero, self.one = float(cosine["zero"]), float(cosine["one"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{str(folder)!r} is no icon-world reward model: {error}") from error
        return read_clip(folder, self.name), read_tokenizer(folder, self.name)

    def pixels(self, images):
        return clip_pixels(images, self.model.config.vision_config.image_size, (0.5,) * 3, (0.5,) * 3)

    def formula(self, image, text):
        return ((image * text).sum(-1) - self.zero) / (self.one - self.zero)


class IconsAestheticReward(IconsReward):
    """How cleanly an icon-world picture is drawn, 0 to 10: a small head over the icon CLIP's image embedding."""

    name = "icons-aesthetic"
    reads_prompt = False

    def load(self, folder):
        folder = folder or icons.REWARD
        path = folder / "aesthetic.safetensors"
        if not path.is_file():
            raise ModelError(f"reward {self.name!r} needs {path.name}, which is not in {str(folder)!r}")
        self.head = read_head(weights.read_state(path, self.name), path, self.name)
        return super().load(folder)

    def formula(self, image, text):
        with torch.no_grad():
            return self.head(image)[:, 0]


def read_clip(folder: Path, reward: str) -> Any:
    """A CLIP from a local folder; raises `ModelError` when it can't be read."""
    from transformers import CLIPModel

    try:
        return CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except Exception as error:  # transformers, safetensors and json have their own classes
        raise ModelError(f"{str(folder)!r} holds no CLIP for reward {reward!r}: {reason_of(error)}") from error


def read_tokenizer(folder: Path, reward: str) -> Any:
    """A CLIP tokenizer from a local folder; raises `ModelError` when it can't be read."""
    from transformers import AutoTokenizer, CLIPTokenizer

    try:
        if (folder / "tokenizer_config.json").is_file():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers and tokenizers have their own classes
        raise ModelError(f"{str(folder)!r} holds no tokenizer for reward {reward!r}: {reason_of(error)}") from error


def read_head(state: dict[str, torch.Tensor], path: Path, reward: str, strip: str = "") -> nn.Sequential:
    """Linear layers one after the other, numbered as in the checkpoint (what lies between them is the identity).

    Raises `ModelError` when the state dict holds anything else, or sizes that don't fit together.
    """
    layers: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in state.items():
        match = re.fullmatch(rf"{re.escape(strip)}(\d{{1,3}})\.(weight|bias)", key)
        if not match:
            raise ModelError(f"{path} is no head of {reward!r}: unexpected key {key!r}")
        layers.setdefault(int(match[1]), {})[match[2]] = value.float()
    head = nn.Sequential()
    size = None
    for number in sorted(layers):
        own = layers[number]
        if set(own) != {"weight", "bias"} or own["weight"].ndim != 2 or size not in (None, own["weight"].shape[1]):
            raise ModelError(f"{path} is no head of {reward!r}: layer {number} does not fit the one before it")
        size = own["weight"].shape[0]
        layer = nn.Linear(own["weight"].shape[1], size)
        layer.load_state_dict(own)
        head.append(layer)
    if size != 1:
        raise ModelError(f"{path} is no head of {reward!r}: it ends in {size} values, expected 1")
    return head.eval()


def huge_clip(**sizes: Any) -> Any:
    """CLIP ViT-H/14 as open_clip's `ViT-H-14` has it; `sizes` override `text_config` and `vision_config`."""
    from transformers import CLIPConfig, CLIPModel

    text = {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "vocab_size": 49408, "hidden_act": "gelu", "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 0,
    }  # fmt: skip
    vision = {
        "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
        "image_size": 224, "patch_size": 14, "hidden_act": "gelu",
    }  # fmt: skip
    return CLIPModel(
        CLIPConfig(
            text_config=text | sizes.get("text_config", {}), vision_config=vision | sizes.get("vision_config", {}),
            projection_dim=sizes.get("projection_dim", 1024),
        )
    )  # fmt: skip


_OPEN_CLIP = (
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^token_embedding\.weight$", "text_model.embeddings.token_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.conv1\.weight$", "vision_model.embeddings.patch_embedding.weight"),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^logit_scale$", "logit_scale"),
)
_OPEN_CLIP_INNER = (
    (".ln_1.", ".layer_norm1."), (".ln_2.", ".layer_norm2."), (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."), (".attn.out_proj.", ".self_attn.out_proj."),
)  # fmt: skip


def from_open_clip(state: dict[str, torch.Tensor], path: Path, reward: str) -> dict[str, torch.Tensor]:
    """A state dict of open_clip's CLIP under transformers' names, in float32.

    Raises `ModelError` that names the first key which belongs to another model.
    """
    result: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        value = value.float()
        if key in ("text_projection", "visual.proj"):
            result["text_projection.weight" if key[0] == "t" else "visual_projection.weight"] = value.T.contiguous()
            continue
        for pattern, replacement in _OPEN_CLIP:
            new, count = re.subn(pattern, replacement, key)
            if count:
                break
        else:
            raise ModelError(f"{path} is no checkpoint of {reward!r}: unexpected key {key!r}")
        for old, inner in _OPEN_CLIP_INNER:
            new = new.replace(old, inner)
        if ".attn.in_proj_" in new:
            for name, part in zip("qkv", value.chunk(3), strict=True):
                result[new.replace(".attn.in_proj_", f".self_attn.{name}_proj.")] = part
        else:
            result[new] = value
    return result
