"""Draw token heat maps: one tile per word, the attention over the finished image.

Comes in: token maps of one prompt, its words and diagnosis, the image. Goes out: a PIL image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from .diagnosis import WordDiagnosis, word_maps
from .tokens import PromptTokens

TILE = 160
LABEL = 34
COLUMNS = 6
# Dark blue to yellow, readable in grey too.
_STOPS = np.array([[13, 8, 60], [84, 20, 125], [180, 50, 105], [245, 120, 50], [252, 230, 100]], np.float32)


def heat_map_image(
    maps: torch.Tensor, tokens: PromptTokens, words: Sequence[WordDiagnosis], image: Image.Image
) -> Image.Image:
    """Tiles of all words from token maps `[tokens, blocks, height, width]`, each scaled to its own maximum.

    The first tile is the image. A label gives the word and its focus, in red where the word is diffuse.
    """
    planes = word_maps(maps, tokens).numpy() if tokens.words else np.zeros((0, 1, 1), np.float32)
    tiles: list[tuple[WordDiagnosis | None, Image.Image]] = [
        (None, image.convert("RGB").resize((TILE, TILE), Image.Resampling.NEAREST))
    ]
    tiles += [(word, _overlay(plane, image)) for plane, word in zip(planes, words, strict=True)]
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (TILE + 8) + 8, rows * (TILE + LABEL + 8) + 8), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for i, (word, tile) in enumerate(tiles):
        x, y = 8 + (i % columns) * (TILE + 8), 8 + (i // columns) * (TILE + LABEL + 8)
        sheet.paste(tile, (x, y))
        text = "image" if word is None else f"{_fitting(word.word)}  {word.focus:.2f}"
        pen.text((x, y + TILE + 4), text, fill="#c81e1e" if word and word.diffuse else "#222222", font=font)
        if word and word.diffuse:
            pen.text((x, y + TILE + 18), "diffuse", fill="#c81e1e", font=font)
    return sheet


def _overlay(plane: np.ndarray, image: Image.Image) -> Image.Image:
    low, high = float(plane.min()), float(plane.max())
    scaled = (plane - low) / (high - low) if high > low else np.zeros_like(plane)
    place = scaled * (len(_STOPS) - 1)
    first = np.minimum(place.astype(int), len(_STOPS) - 2)
    colours = _STOPS[first] + (place - first)[..., None] * (_STOPS[first + 1] - _STOPS[first])
    size = (TILE, TILE)
    heat = Image.fromarray(colours.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grey = image.convert("L").convert("RGB").resize(size, Image.Resampling.NEAREST)
    return Image.blend(grey, heat, 0.72)


def _fitting(word: str) -> str:
    return word if len(word) <= 14 else word[:13] + "…"
