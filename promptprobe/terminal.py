"""Pictures in the terminal: by kitty's protocol, sixel or half blocks, whatever it understands; nothing where none fits.

Comes in: a console and tiles, each a picture and its captions. Goes out: whether they were shown.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from .sheets import Tile, contact_sheet

WIDTH = 28  # columns of a picture of half blocks
LEAST = 16  # columns; a narrower picture shows nothing


def show_pictures(console: Console, tiles: Sequence[Tile]) -> bool:
    """Show pictures side by side with their captions under them; False where the terminal shows none.

    Captions are wrapped between words. A pipe, a terminal without colour or one that is very narrow shows no pictures.
    """
    if not tiles or not console.is_terminal or console.is_dumb_terminal or console.no_color:
        return False
    if console.color_system in (None, "standard") or console.width < LEAST + 2:
        return False
    kind = _kind()
    if kind is None:
        return False
    if kind.__module__.endswith((".sixel", ".tgp")):
        sheet = contact_sheet(tiles)
        across = min(len(tiles), 6) * WIDTH
        console.print(kind(sheet, width=min(across, console.width - 1)))
        return True
    width = min(WIDTH, console.width - 2)
    columns = max(1, min(len(tiles), console.width // (width + 2)))
    for first in range(0, len(tiles), columns):
        row = tiles[first : first + columns]
        table = Table.grid(padding=(0, 2, 0, 0))
        for _ in row:
            table.add_column(width=width)
        table.add_row(*(Group(kind(t.image, width=width), *_captions(t)) for t in row))
        console.print(table)
    return True


def _captions(tile: Tile) -> list[Text]:
    return [Text(c.text, style="" if i == 0 else "dim", overflow="fold") for i, c in enumerate(tile.captions)]


def _kind() -> Any:
    """The library's class for this terminal, which it asks; None where it can't be asked."""
    if sys.__stdout__ is None or not sys.__stdout__.isatty():
        from textual_image.renderable.halfcell import Image as HalfBlocks

        return HalfBlocks  # a console that was told to be a terminal
    try:
        from textual_image.renderable import Image
    except (OSError, RuntimeError):
        return None
    return None if Image.__module__.endswith(".unicode") else Image
