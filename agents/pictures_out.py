"""Finished images as clients want them: at the size asked for, as PNG, WebP or JPEG, and small enough to be shown.

Comes in: PNG bytes of a finished image. Goes out: bytes in another form, and what was changed, in words.
"""

from __future__ import annotations

import io
import json
from typing import Any

from PIL import Image, ImageOps

from ..pnginfo import KEY, png_bytes

FORMATS = ("png", "webp", "jpeg")
SAME_SHAPE = 0.02  # proportions that differ by less are cut to fit, others get a margin
PREVIEW_BYTES = 500_000  # base64 makes 667,000 characters of them
PREVIEW_SIDES = (1024, 768, 512, 384, 256, 128)


def open_png(data: bytes) -> Image.Image:
    """The image of PNG bytes, loaded."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def fitted(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """The image at a size: scaled, never distorted; where the shape differs a margin of its border's colour is added."""
    if size is None or image.size == size:
        return image
    image = image.convert("RGB")
    shapes = image.width / image.height, size[0] / size[1]
    if abs(shapes[0] / shapes[1] - 1) < SAME_SHAPE:
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    border = Image.new("RGB", (2 * (image.width + image.height), 1))
    for i, box in enumerate(((0, 0, image.width, 1), (0, image.height - 1, image.width, image.height))):
        border.paste(image.crop(box), (i * image.width, 0))
    for i, box in enumerate(((0, 0, 1, image.height), (image.width - 1, 0, image.width, image.height))):
        edge = image.crop(box).transpose(Image.Transpose.ROTATE_90)
        border.paste(edge, (2 * image.width + i * image.height, 0))
    colour: Any = border.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    return ImageOps.pad(image, size, Image.Resampling.LANCZOS, color=colour)


def scaling_note(made: tuple[int, int], size: tuple[int, int] | None) -> str | None:
    """What `fitted` does to an image of the size `made`, in words; None for nothing."""
    if size is None or made == size:
        return None
    shapes = made[0] / made[1], size[0] / size[1]
    margin = "" if abs(shapes[0] / shapes[1] - 1) < SAME_SHAPE else ", with a margin"
    return f"made at {made[0]}x{made[1]}, the nearest that the model takes, and scaled to {size[0]}x{size[1]}{margin}"


def encoded(data: bytes, size: tuple[int, int] | None = None, form: str = "png", quality: int = 100) -> bytes:
    """PNG bytes of an image at `size` as `form`; a PNG keeps its record, which says to what size it was scaled."""
    if form == "png" and size is None:
        return data
    image = open_png(data)
    shown = fitted(image, size)
    if form == "png":
        if shown is image:
            return data
        text = getattr(image, "text", {}).get(KEY)
        return png_bytes(shown, json.loads(text) | {"scaled_to": list(shown.size)} if text else None)
    buffer = io.BytesIO()
    shown.convert("RGB").save(buffer, form.upper(), quality=max(1, quality))
    return buffer.getvalue()


def small_preview(data: bytes, most: int = PREVIEW_BYTES) -> tuple[bytes, str]:
    """An image of at most `most` bytes, for a client that refuses large answers, and its type: the PNG itself where that is small,
    else a WebP of it, scaled down as far as is needed."""
    if len(data) <= most:
        return data, "image/png"
    image = open_png(data).convert("RGB")
    for side in PREVIEW_SIDES:
        smaller = image.copy()
        smaller.thumbnail((side, side), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        smaller.save(buffer, "WEBP", quality=90)
        if len(buffer.getvalue()) <= most:
            break
    return buffer.getvalue(), "image/webp"
