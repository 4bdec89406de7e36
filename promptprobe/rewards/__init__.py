"""Reward models: what says how good a finished image is for a prompt.

Comes in: images and prompts. Goes out: a float32 tensor `[batch]` on the CPU. `load_reward` takes a name from `REWARDS`,
optionally with the folder of its weights (`image-reward=FOLDER`), a `module:function` of the user's own, or a callable.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..errors import InputError
from ..loading import quiet_transformers
from ..worlds import world_of
from .images import check_pairs

RewardFunction = Callable[[Sequence[Image.Image], Sequence[str]], torch.Tensor]


@dataclass(frozen=True)
class RewardKind:
    """A row of the table of rewards: what it measures, its class (`module:class`) and where it is from.

    By `margin` a rewrite's predicted image must exceed that of the user's own prompt to win. For image-reward, pickscore and
    hpsv2 it is a quarter of the reward's standard deviation among the finished images of a prompt (FLUX.1-dev and SDXL;
    TTSnap, arXiv:2511.22242); that of icons was set by hand and not tuned; of the others none is known.
    """

    name: str
    what: str
    factory: str
    source: str
    margin: float = 0.0


_ROWS = (
    RewardKind("icons", "the icon world's own: 1 for a true caption, 0 for one mistake, on average",
               "clip:IconsReward", "built in", 0.05),
    RewardKind("icons-aesthetic", "how cleanly an icon-world picture is drawn, 0 to 10",
               "clip:IconsAestheticReward", "built in"),
    RewardKind("colourfulness", "colourfulness of an image, about 0 to 110 (Hasler and Süsstrunk, 2003)",
               "images:Colourfulness", "a formula"),
    RewardKind("image-reward", "human preference for prompt and image, about -2 to 2 (arXiv:2304.05977)",
               "blip:ImageReward", "zai-org/ImageReward", 0.12),
    RewardKind("clip", "100 x cosine of image and prompt, not below 0 (arXiv:2104.08718)",
               "clip:ClipScore", "openai/clip-vit-large-patch14"),
    RewardKind("pickscore", "human preference, about 17 to 24 (arXiv:2305.01569)",
               "clip:PickScore", "yuvalkirstain/PickScore_v1", 0.15),
    RewardKind("aesthetic", "LAION aesthetic predictor, 1 to 10, without the prompt",
               "clip:AestheticReward", "openai/clip-vit-large-patch14 and sac+logos+ava1-l14-linearMSE.pth"),
    RewardKind("hpsv2", "human preference score v2.1, about 0.2 to 0.35 (arXiv:2306.09341)",
               "clip:HpsReward", "xswu/HPSv2", 0.002),
)  # fmt: skip
REWARDS = {row.name: row for row in _ROWS}


def load_reward(name: str | RewardFunction, device: str = "cpu") -> RewardFunction:
    """A reward by name (`clip`, `image-reward=FOLDER`), `module:function` of the user's own, or a callable as it is.

    Its weights go to the torch `device`. Raises `InputError` for an unknown name, `ModelError` when its weights are absent, corrupt or another model's.
    """
    if callable(name):
        return name
    if not isinstance(name, str):
        raise InputError(f"reward is {name!r:.80}; give a name, or a function of images and prompts")
    base, _, folder = name.partition("=")
    if base in REWARDS:
        quiet_transformers()
        module, _, attribute = REWARDS[base].factory.partition(":")
        factory = getattr(importlib.import_module(f".{module}", __name__), attribute)
        return factory(Path(folder) if folder else None, device)
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            own = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise InputError(f"reward {name!r} can't be imported: {error}") from error
        if not callable(own):
            raise InputError(f"reward {name!r} is no function of images and prompts")
        return own
    raise InputError(f"unknown reward {name!r}; known are {', '.join(REWARDS)} and module:function of your own")


def rewrite_margin(label: str) -> float:
    """The margin of a reward by its name; 0 for one of the user's own."""
    return REWARDS[label].margin if label in REWARDS else 0.0


def at_hand() -> str | None:
    """The first reward of other models' images whose weights are in this machine's cache of the hub; None without any."""
    from .weights import MAIN_FILES, is_cached

    return next((name for name, files in MAIN_FILES.items() if all(is_cached(*f) for f in files)), None)


def reward_name(reward: str | RewardFunction) -> str:
    """The name under which a reward is recorded: without the folder of its weights."""
    if isinstance(reward, str):
        return reward.partition("=")[0]
    return getattr(reward, "name", getattr(reward, "__name__", "custom"))


def measure(reward: RewardFunction, images: Sequence[Image.Image], prompts: Sequence[str]) -> torch.Tensor:
    """Rewards `[batch]` of any reward, checked: one finite number for each image.

    Raises `InputError` when a reward of the user's own returns something else.
    """
    check_pairs(images, prompts)
    values: Any = reward(images, prompts)
    try:
        values = torch.as_tensor(values, dtype=torch.float32).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"reward {reward_name(reward)!r} returned no numbers: {error}") from error
    if values.shape != (len(images),):
        raise InputError(
            f"reward {reward_name(reward)!r} returned shape {tuple(values.shape)} for {len(images)} images"
        )
    if not torch.isfinite(values).all():
        where = int((~torch.isfinite(values)).nonzero()[0])
        raise InputError(f"reward {reward_name(reward)!r} of {prompts[where]!r} is {float(values[where])}, no number")
    return values


def default_reward(model: str | Path) -> str | None:
    """The reward that goes with a model: its own for a built-in world, else none."""
    world = world_of(model)
    return world.reward if world else None


__all__ = [
    "REWARDS",
    "RewardFunction",
    "RewardKind",
    "at_hand",
    "default_reward",
    "load_reward",
    "measure",
    "reward_name",
    "rewrite_margin",
]
