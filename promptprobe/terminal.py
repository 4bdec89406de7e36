"""Pictures in the terminal: by kitty's protocol, sixel or half blocks, whatever it understands; nothing where none fits.

Comes in: a console and tiles, each a picture and its captions. Goes out: whether they were shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from .sheets import Tile
from .terminal_kind import picture_kind

WIDTH = 28  # columns of a picture of half blocks
LEAST = 16  # columns; a narrower picture shows nothing


def show_pictures(console: Console, tiles: Sequence[Tile]) -> bool:
    """Show pictures side by side with their captions under them; False where the terminal shows none.

    Captions are wrapped between words. A pipe, a terminal without colour or one that is very narrow shows no pictures.
    """
    if not tiles or not console.is_terminal or console.is_dumb_terminal or console.no_color:
        return False
    if console.color_system is None or console.width < LEAST + 2:
        return False
    kind = picture_kind()
    if kind is None:
        return False
    if kind.blocks:
        if console.color_system == "standard":  # 16 colours make no picture of half blocks
            return False
    else:  # sixel has its own colours, and in kitty's protocol an exact colour is the picture's name
        console = Console(file=console.file, force_terminal=True, color_system="truecolor", width=console.width)
    width = min(WIDTH, console.width - 2)
    columns = max(1, min(len(tiles), console.width // (width + 2)))
    for first in range(0, len(tiles), columns):
        row = tiles[first : first + columns]
        table = Table.grid(padding=(0, 2, 0, 0))
        for _ in row:
            table.add_column(width=width)
        table.add_row(*(Group(kind.draw(t.image, width=width), *_captions(t)) for t in row))
        console.print(table)
    return True


def _captions(tile: Tile) -> list[Text]:
    return [Text(c.text, style="" if i == 0 else "dim", overflow="fold") for i, c in enumerate(tile.captions)]
