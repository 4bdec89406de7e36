"""A run's figures on the disk: rows of JSON and of CSV, and sheets of images. After a crash they end where the state ends."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..files import write_together
from ..pnginfo import png_bytes
from ..sheets import Caption, Tile, contact_sheet

CURVES, WATCHED = "curves.jsonl", "watch.jsonl"


class Curves:
    """The rows of a folder up to `iteration`; later ones, of iterations that were not kept, are dropped."""

    def __init__(self, folder: Path, iteration: int, write: bool = True):
        self.folder, self.write = folder, write
        self.rows = _read(folder / CURVES, iteration)
        self.watched = _read(folder / WATCHED, iteration)
        if write:
            self._put(CURVES, self.rows)
            self._put(WATCHED, self.watched)

    @property
    def last(self) -> dict[str, Any]:
        """The newest row; empty before there is one."""
        return self.rows[-1] if self.rows else {}

    def add(self, row: dict[str, Any]) -> None:
        """A row of an iteration."""
        self.rows.append(row)
        self._append(CURVES, row)
        names = list(dict.fromkeys(n for r in self.rows for n in r))
        text = io.StringIO()
        writer = csv.DictWriter(text, names)
        writer.writeheader()
        writer.writerows(self.rows)
        write_together({self.folder / "curves.csv": text.getvalue().encode()})

    def look(self, row: dict[str, Any]) -> None:
        """A row of held-out figures."""
        self.watched.append(row)
        self._append(WATCHED, row)

    def has_looked(self, iteration: int) -> bool:
        """Whether held-out prompts were drawn after an iteration."""
        return any(r["iteration"] == iteration for r in self.watched)

    def sheet(
        self, drawn: Sequence[tuple[str, float | None, Image.Image]], iteration: int, name: str = "learned"
    ) -> None:
        """A sheet of images with their prompts and rewards."""
        tiles = [
            Tile(image, [Caption(prompt), *([Caption(f"{reward:.3f}")] if reward is not None else [])])
            for prompt, reward, image in drawn[:24]
        ]
        if tiles and self.write:
            made = png_bytes(contact_sheet(tiles, side=128))
            write_together({self.folder / "sheets" / f"{name}-{iteration:06d}.png": made})

    def _append(self, name: str, row: dict[str, Any]) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(_line(row))

    def _put(self, name: str, rows: list[dict[str, Any]]) -> None:
        if rows or (self.folder / name).exists():
            write_together({self.folder / name: "".join(map(_line, rows)).encode()})


def _line(row: dict[str, Any]) -> str:
    """JSON has no nan: what is none is null."""
    plain = {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in row.items()}
    return json.dumps(plain) + "\n"


def _read(path: Path, iteration: int) -> list[dict[str, Any]]:
    """Rows up to an iteration; one that a crash has cut off is left out."""
    found = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["iteration"] <= iteration:
            found.append(row)
    return found
