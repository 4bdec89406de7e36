"""Images as reward models take them: plain RGB, resized, cropped and normalised as each was published.

Alpha is composited on white, palette and grey become RGB, 16-bit grey is scaled to 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ..errors import InputError
from ..text import whole_pairs

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def open_image(path: Path | str) -> Image.Image:
    """The image of a file as RGB.

    Raises `InputError` when the file is missing, empty or no image.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return as_rgb(image, str(path))
    except UnidentifiedImageError as error:
        raise InputError(f"{str(path)!r} is no image that can be read; give a PNG, JPEG or WebP file") from error
    except InputError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise classes of many kinds
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"can't read image {str(path)!r}: {reason}") from error


def as_rgb(image: Image.Image, what: str = "image") -> Image.Image:
    """An RGB image: alpha composited on white, 16 bits scaled to 8.

    Raises `InputError` for what is no PIL image or has no pixels.
    """
    if not isinstance(image, Image.Image):
        raise InputError(f"{what} is a {type(image).__name__}; give PIL images")
    if 0 in image.size:
        raise InputError(f"{what} is {image.width}x{image.height} pixels; it must have at least one")
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray((np.clip(values, 0, 65535) // 257).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def check_pairs(images: Sequence, prompts: Sequence[str]) -> None:
    """Raise `InputError` unless there is one prompt, a text, for each image, and at least one of both."""
    if isinstance(prompts, str) or len(images) != len(prompts) or not len(images):
        count = 1 if isinstance(prompts, str) else len(prompts)
        raise InputError(f"{len(images)} images and {count} prompts; give one prompt for each image, at least one")
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise InputError(f"a prompt is {prompt!r:.80}; it must be text")
        whole_pairs(prompt)


def clip_pixels(
    images: Sequence[Image.Image], size: int, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD
) -> torch.Tensor:
    """CLIP's preprocessing `[batch, 3, size, size]`: shorter side to `size` (bicubic), centre crop, normalise.

    Source: openai/CLIP; the reference package image-reward does the same.
    """
    planes = []
    for i, given in enumerate(images):
        image = as_rgb(given, f"image {i}")
        width, height = image.size
        new = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
        if new != image.size:
            image = image.resize(new, Image.Resampling.BICUBIC)
        left, top = round((image.width - size) / 2.0), round((image.height - size) / 2.0)
        image = image.crop((left, top, left + size, top + size))
        planes.append(torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255))
    return normalised(torch.stack(planes), mean, std)


def padded_pixels(images: Sequence[Image.Image], size: int) -> torch.Tensor:
    """HPS v2's preprocessing `[batch, 3, size, size]`: longer side to `size` (bicubic), padded with black, normalised."""
    planes = []
    for i, given in enumerate(images):
        image = torch.from_numpy(np.array(as_rgb(given, f"image {i}"))).permute(2, 0, 1).float().div(255)
        scale = size / max(image.shape[-2:])
        height, width = (max(1, round(d * scale)) for d in image.shape[-2:])
        if scale != 1:
            image = torch.nn.functional.interpolate(image[None], (height, width), mode="bicubic", antialias=True)[0]
        down, right = size - height, size - width
        pad = (right // 2, right - right // 2, down // 2, down - down // 2)
        planes.append(torch.nn.functional.pad(image, pad))
    return normalised(torch.stack(planes))


def normalised(
    pixels: torch.Tensor, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD
) -> torch.Tensor:
    """Values 0..1 `[batch, 3, height, width]`, less a colour's mean, over its deviation."""
    middle, spread = (torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std))
    return (pixels - middle) / spread


class Colourfulness:
    """Colourfulness of an image, from the spread and mean of its opponent colours.

    Source: Hasler and Süsstrunk, Measuring colourfulness in natural images, 2003: M = sigma + 0.3 mu.
    """

    name = "colourfulness"

    def __init__(self, folder: Path | None = None, device: str = "cpu"):
        if folder is not None:
            raise InputError(f"reward {self.name!r} is a formula and takes no folder, got {str(folder)!r}")

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> torch.Tensor:
        """Values `[batch]` in 0..about 110; the prompts are not read."""
        check_pairs(images, prompts)
        values = []
        for i, image in enumerate(images):
            r, g, b = np.asarray(as_rgb(image, f"image {i}"), np.float64).transpose(2, 0, 1)
            rg, yb = r - g, (r + g) / 2 - b
            spread, mean = np.hypot(rg.std(), yb.std()), np.hypot(rg.mean(), yb.mean())
            values.append(spread + 0.3 * mean)
        return torch.tensor(values, dtype=torch.float32)
