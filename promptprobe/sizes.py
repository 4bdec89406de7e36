"""How large the images are: what a world or pipeline can draw, and its own size where one side is not given.

Comes in: a pipeline and the settings of its call. Goes out: settings that say the size of the images that are made.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .backbones import denoiser_of
from .errors import InputError
from .worlds import world_of

SIDES = ("height", "width")
LEAST_AREA, MOST_AREA = 0.5, 1.5  # of a model's own area: beyond, what it draws falls apart or repeats itself


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


def unit_of(pipeline: Any) -> int:
    """The number of pixels of which both sides must be multiples."""
    processor = getattr(getattr(pipeline, "image_processor", None), "config", None)
    return int(processor.get("vae_scale_factor") or 1) if processor else 1


def with_size(pipeline: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with both sides where one is given: many pipelines leave out the other one's, or both.

    Raises `InputError` for a side that the pipeline would make smaller.
    """
    given = {side: settings[side] for side in SIDES if settings.get(side) is not None}
    unit = unit_of(pipeline)
    for side, value in given.items():
        if isinstance(value, int) and value % unit:
            low = value // unit * unit
            near = " or ".join(str(n) for n in (low, low + unit) if n)
            raise InputError(
                f"{side} is {value}; {type(pipeline).__name__} draws multiples of {unit} pixels: give {near}"
            )
    own = dict(zip(SIDES, own_size(pipeline), strict=True)) if len(given) == 1 else {}
    return {**settings, **{side: n for side, n in own.items() if n and side not in given}}


def nearest_size(
    pipeline: Any, model: str | None, settings: Mapping[str, Any], wanted: tuple[int, int] | None
) -> tuple[int, int]:
    """Width and height nearest to `wanted` at which a model draws well; those of its calls when nothing is `wanted`.

    A built-in world draws its own size only. Others keep the shape that is wanted, at no more than `MOST_AREA` times
    their own area and no less than `LEAST_AREA` times, in the multiples of pixels that they take.
    """
    own_height, own_width = own_size(pipeline)
    own = int(settings.get("width") or own_width), int(settings.get("height") or own_height)
    world = world_of(model) if model else None
    if wanted is None or world is not None or not all(own):
        return own
    area = wanted[0] * wanted[1]
    bounded = min(max(area, LEAST_AREA * own[0] * own[1]), MOST_AREA * own[0] * own[1])
    unit = unit_of(pipeline)
    width, height = (max(unit, round(side * math.sqrt(bounded / area) / unit) * unit) for side in wanted)
    return width, height
