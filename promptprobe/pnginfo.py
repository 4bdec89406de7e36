"""What an image carries: the `parameters` line that A1111 and its readers know, and our own record as JSON.

Comes in: a finished image and its record. Goes out: PNG bytes; and back: the record of a PNG file.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from . import __version__
from .errors import InputError
from .text import printable
from .untrusted import record_of

KEY = "promptprobe"


def png_bytes(image: Image.Image, record: dict[str, Any] | None = None) -> bytes:
    """The image as PNG, with text chunks when there is a record."""
    buffer = io.BytesIO()
    if record is None:
        image.save(buffer, "PNG")
        return buffer.getvalue()
    info = PngImagePlugin.PngInfo()
    info.add_itxt("parameters", parameters(record, image.size))
    info.add_itxt(KEY, json.dumps(record, ensure_ascii=False), zip=True)
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def parameters(record: dict[str, Any], size: tuple[int, int]) -> str:
    """A1111's text: prompt, negative prompt, then `Key: value` pairs on one line."""
    settings = record.get("settings", {})
    lines = [str(record.get("best_prompt") or record.get("prompt", ""))]
    if settings.get("negative_prompt"):
        lines.append(f"Negative prompt: {settings['negative_prompt']}")
    pairs = {
        "Steps": settings.get("steps"), "Sampler": settings.get("scheduler"),
        "CFG scale": settings.get("true_cfg_scale", settings.get("guidance_scale")), "Seed": record.get("seed"), "Size": f"{size[0]}x{size[1]}",
        "Model": _plain(str(settings.get("model", ""))), "Version": f"{KEY} {__version__}",
    }  # fmt: skip
    lines.append(", ".join(f"{k}: {v}" for k, v in pairs.items() if v not in (None, "")))
    return "\n".join(lines)


def _plain(name: str) -> str:
    """A model's name without the folder it lies in, and without what would end a value."""
    return Path(name).name.replace(",", " ").replace(":", " ")


def read_record(path: Path | str) -> dict[str, Any]:
    """Our record in a PNG file. The file may come from anywhere: what it says is checked and bounded, not believed.

    Raises `InputError` when the file is no image, or carries no record or a damaged one.
    """
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise InputError(f"{str(path)!r} is no file; give a PNG file")  # a pipe would be waited for
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("error")  # Pillow's, of a picture that is too large to be one
            image.load()
            text = image.info.get(KEY) or getattr(image, "text", {}).get(KEY)
            foreign = image.info.get("parameters")
    except UnidentifiedImageError as error:
        raise InputError(f"{str(path)!r} is no image") from error
    except Exception as error:  # a damaged file makes Pillow raise classes of many kinds
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"can't read image {str(path)!r}: {printable(reason, 200)}") from error
    if not isinstance(text, str):
        first = foreign.strip().split("\n")[0] if isinstance(foreign, str) else ""
        more = f"; it was made by another tool: {printable(first, 80)!r}" if first else ""
        raise InputError(f"{str(path)!r} carries no promptprobe record{more}")
    try:
        return record_of(text)
    except InputError as error:
        raise InputError(
            f"{str(path)!r} carries a damaged promptprobe record ({printable(str(error), 200)})"
        ) from error
