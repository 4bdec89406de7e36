"""Draw token heat maps: one tile per word, the attention over the finished image.

Comes in: token maps of one prompt, its words and diagnosis, the image. Goes out: a PIL image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from .diagnosis import WordDiagnosis, word_maps
from .fonts import fitted, font_for, script_of
from .tokens import PromptTokens

TILE = 160
LABEL = 34
COLUMNS = 6
SIZE = 14  # of letters, in pixels
LINE = 17
# Dark blue to yellow, readable in grey too.
_STOPS = np.array([[13, 8, 60], [84, 20, 125], [180, 50, 105], [245, 120, 50], [252, 230, 100]], np.float32)


def heat_map_image(
    maps: torch.Tensor, tokens: PromptTokens, words: Sequence[WordDiagnosis], image: Image.Image
) -> Image.Image:
    """Tiles of all words from token maps `[tokens, blocks, height, width]`, each scaled to its own maximum.

    The first tile is the image. A label gives the word and its focus, in red where the word is diffuse. A word that no
    font of the system can draw is given by its number, which the legend below explains.
    """
    planes = word_maps(maps, tokens).numpy() if tokens.words else np.zeros((0, 1, 1), np.float32)
    tiles: list[tuple[WordDiagnosis | None, Image.Image]] = [
        (None, image.convert("RGB").resize((TILE, TILE), Image.Resampling.NEAREST))
    ]
    tiles += [(word, _overlay(plane, image)) for plane, word in zip(planes, words, strict=True)]
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    width = columns * (TILE + 8) + 8
    font = ImageFont.load_default(SIZE)
    legend = _legend(words, font, width - 16)
    height = rows * (TILE + LABEL + 8) + 8
    sheet = Image.new("RGB", (width, height + (LINE * len(legend) + 8 if legend else 0)), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (word, tile) in enumerate(tiles):
        x, y = 8 + (i % columns) * (TILE + 8), 8 + (i // columns) * (TILE + LABEL + 8)
        sheet.paste(tile, (x, y))
        if word is None:
            pen.text((x, y + TILE + 4), "image", fill="#222222", font=font)
            continue
        colour = "#c81e1e" if word.diffuse else "#222222"
        _label(sheet, (x, y + TILE + 2), word.word, f"  {word.focus:.2f}", f"word {i}", colour)
        if word.diffuse:
            pen.text((x, y + TILE + 18), "diffuse", fill=colour, font=font)
    for n, line in enumerate(legend):
        pen.text((8, height + LINE * n), line, fill="#222222", font=font)
    return sheet


def _label(sheet: Image.Image, place: tuple[int, int], word: str, focus: str, number: str, colour: str) -> None:
    """A word in whatever font has its letters, or its number, and the focus behind it; not wider than a tile."""
    plain = ImageFont.load_default(SIZE)
    font = font_for(word, SIZE)
    if font is None:
        word, font = number, plain
    text = fitted(word, font, TILE - plain.getlength(focus))
    left, top, right, bottom = font.getbbox(text)
    strip = Image.new("L", (max(1, int(right - min(left, 0))), max(1, int(bottom - top))), 0)
    ImageDraw.Draw(strip).text((-min(left, 0), -top), text, fill=255, font=font)
    if strip.height > LINE:  # some scripts stand twice as high
        strip = strip.resize((max(1, strip.width * LINE // strip.height), LINE), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(sheet)
    x, y = place
    # On the line of the figures where the letters are as low as those.
    pen.bitmap((x, y + (max(0, min(int(top), LINE - strip.height)))), strip, fill=colour)
    pen.text((x + strip.width, y), focus, fill=colour, font=plain)


def _legend(
    words: Sequence[WordDiagnosis], font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> list[str]:
    """Lines that say what the numbered words are, none wider than `width` pixels."""
    numbered = [(i, w) for i, w in enumerate(words, 1) if font_for(w.word, SIZE) is None]
    if not numbered:
        return []
    scripts = sorted({script_of(w.word) for _, w in numbered})
    told = [f"No font here draws {', '.join(scripts)}: install one, such as Noto Sans."]
    told += [f"word {i}: characters {w.start + 1} to {w.end} of the prompt" for i, w in numbered]
    lines: list[str] = []
    for text in told:
        line = ""
        for part in text.split():
            if line and font.getlength(f"{line} {part}") > width:
                lines.append(line)
                line = ""
            line = f"{line} {part}".strip()
        lines.append(fitted(line, font, width))
    return lines


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
