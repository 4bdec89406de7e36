"""How large the images are: what a world or pipeline can draw, and its own size where one side is not given.

Comes in: a pipeline and the settings of its call. Goes out: settings that say the size of the images that are made.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .backbones import denoiser_of
from .errors import InputError
from .worlds import world_of

SIDES = ("height", "width")


def check_world_size(model: str | Path, settings: Mapping[str, Any]) -> None:
    """Raise `InputError` for another size than a built-in world's own; it was trained on no other."""
    world = world_of(model)
    for side in SIDES:
        if world and settings.get(side) not in (None, world.size):
            raise InputError(
                f"{side} is {settings[side]!r}; the built-in world {world.name!r} draws {world.size} by {world.size} pixels "
                "only: leave it out, or give another --model"
            )


def own_size(pipeline: Any) -> tuple[int, int]:
    """Height and width in pixels of a pipeline's images when nothing is said; 0 where that is not known."""
    taken = inspect.signature(pipeline.__call__).parameters
    config: Any = denoiser_of(pipeline).config
    side: Any = getattr(pipeline, "default_sample_size", None) or config.get("sample_size") or 0
    sides = (side, side) if isinstance(side, int) else tuple(side)[-2:]
    scale = int(getattr(pipeline, "vae_scale_factor", 8))
    height, width = (
        taken[name].default if name in taken and isinstance(taken[name].default, int) else int(n) * scale
        for name, n in zip(SIDES, sides, strict=True)
    )
    return height, width


def with_size(pipeline: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with both sides where one is given: many pipelines leave out the other one's, or both.

    Raises `InputError` for a side that the pipeline would make smaller.
    """
    given = {side: settings[side] for side in SIDES if settings.get(side) is not None}
    processor = getattr(getattr(pipeline, "image_processor", None), "config", None)
    unit = int(processor.get("vae_scale_factor") or 1) if processor else 1
    for side, value in given.items():
        if isinstance(value, int) and value % unit:
            low = value // unit * unit
            near = " or ".join(str(n) for n in (low, low + unit) if n)
            raise InputError(
                f"{side} is {value}; {type(pipeline).__name__} draws multiples of {unit} pixels: give {near}"
            )
    own = dict(zip(SIDES, own_size(pipeline), strict=True)) if len(given) == 1 else {}
    return {**settings, **{side: n for side, n in own.items() if n and side not in given}}
