"""Contact sheets: pictures in rows, lines of text under each, nothing cut off at an edge.

Comes in: tiles, each a picture and its captions. Goes out: one PIL image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from .fonts import Font, font_for
from .text import clusters

GAP = 8  # pixels between and around tiles
SIDE = 160  # pixels; what smaller pictures are enlarged to
COLUMNS = 6
FONT_SIZE = 12
LINE = 15  # pixels from one line of text to the next
MAX_LINES = 8  # of one caption; what is left out shows as an ellipsis
DARK, GREY, RED = "#222222", "#666666", "#c81e1e"


@dataclass(frozen=True)
class Caption:
    """Text under a picture, wrapped at word boundaries to the picture's width."""

    text: str
    colour: str = DARK


@dataclass(frozen=True)
class Tile:
    """A picture and what stands under it."""

    image: Image.Image
    captions: Sequence[Caption] = ()


def contact_sheet(tiles: Sequence[Tile], side: int | None = None, columns: int = COLUMNS) -> Image.Image:
    """The tiles in rows of at most `columns`, each picture in a square of `side` pixels, its proportions kept.

    Default of `side`: the largest picture's, but at least `SIDE`. A row is as high as its longest captions need.
    """
    side = side or max([SIDE, *(max(t.image.size) for t in tiles)])
    columns = max(1, min(columns, len(tiles)))
    texts = [[line for c in t.captions for line in _lines(c, _font(c.text), side)] for t in tiles]
    rows = range(0, len(tiles), columns)
    heights = [side + GAP + LINE * max(len(lines) for lines in texts[i : i + columns]) for i in rows]
    size = (GAP + columns * (side + GAP), GAP + sum(heights) + GAP * len(heights))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    top = GAP
    for first, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(tiles[first : first + columns]):
            left = GAP + column * (side + GAP)
            picture = fitted(tile.image, side)
            sheet.paste(picture, (left + (side - picture.width) // 2, top + (side - picture.height) // 2))
            for n, (line, font) in enumerate(texts[first + column]):
                pen.text((left, top + side + GAP // 2 + n * LINE), line.text, fill=line.colour, font=font)
        top += height + GAP
    return sheet


def fitted(image: Image.Image, side: int) -> Image.Image:
    """The picture in RGB, its longer side `side` pixels: small ones enlarged without blur, large ones shrunk."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    way = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return image.convert("RGB").resize(size, way)


def _font(text: str) -> Font:
    """A font that has the text's letters, or Pillow's own, which draws boxes for those it hasn't."""
    return font_for(text, FONT_SIZE) or ImageFont.load_default(FONT_SIZE)


def _lines(caption: Caption, font: Font, width: int) -> list[tuple[Caption, Font]]:
    """The caption in lines that fit into `width` pixels; a word that alone is wider is broken between letters."""
    lines = [""]
    for word in caption.text.split():
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in clusters(word):
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    if len(lines) > MAX_LINES:
        last = lines[MAX_LINES - 1] + "…"
        while len(last) > 1 and font.getlength(last) > width:
            last = last[:-2] + "…"
        lines = [*lines[: MAX_LINES - 1], last]
    return [(Caption(line, caption.colour), font) for line in lines]
