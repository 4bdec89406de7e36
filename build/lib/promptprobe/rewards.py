"""Reward models: what says how good a finished image is for a prompt.

Comes in: images and prompts. Goes out: a float tensor `[batch]`. `icons` is the icon world's own CLIP, scaled so that a
true caption gets 1 and a caption with a single mistake 0 on average; `module:function` is the user's own.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence

import torch
from PIL import Image

from . import icons
from .errors import InputError, ModelError
from .models import check_weight_files

RewardFunction = Callable[[Sequence[Image.Image], Sequence[str]], torch.Tensor]


class IconsReward:
    """The icon world's reward model: a transformers CLIP folder and the cosines that stand for 0 and 1."""

    name = "icons"

    def __init__(self, folder=icons.REWARD):
        from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

        check_weight_files(folder)
        try:
            cosine = json.loads((folder / "reward.json").read_text("utf-8"))["cosine"]
            self.model = CLIPModel.from_pretrained(folder, local_files_only=True).eval()
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{str(folder)!r} is no icon-world reward model: {str(error).splitlines()[0]}") from error
        self.zero, self.one = float(cosine["zero"]), float(cosine["one"])

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> torch.Tensor:
        """Rewards `[batch]`; prompts longer than the model's 40 tokens are cut."""
        if len(images) != len(prompts):
            raise InputError(f"{len(images)} images and {len(prompts)} prompts; give one prompt for each image")
        pixels = self.processor([i.convert("RGB") for i in images], return_tensors="pt").pixel_values
        tokens = self.tokenizer(list(prompts), padding="max_length", truncation=True, return_tensors="pt")
        image = self.model.get_image_features(pixel_values=pixels).pooler_output
        text = self.model.get_text_features(input_ids=tokens.input_ids).pooler_output
        cosine = torch.nn.functional.cosine_similarity(image, text)
        return (cosine - self.zero) / (self.one - self.zero)


def load_reward(name: str | RewardFunction) -> RewardFunction:
    """A reward by name, or `module:function` of the user's own, or a callable as it is.

    Raises `InputError` for an unknown name.
    """
    if callable(name):
        return name
    if name == "icons":
        return IconsReward()
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise InputError(f"reward {name!r} can't be imported: {error}") from error
    raise InputError(f"unknown reward {name!r}; known are 'icons' and 'module:function' of your own")


def reward_name(reward: str | RewardFunction) -> str:
    """The name under which a reward is recorded."""
    return reward if isinstance(reward, str) else getattr(reward, "name", getattr(reward, "__name__", "custom"))
