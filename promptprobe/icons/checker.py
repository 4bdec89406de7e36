"""Read a finished icon-world image exactly: which icons are where, and whether a scene's wishes are met.

For evaluation only: neither the probe nor the reward nor the loop may use it. Template matching of the known glyphs in
the known colours on every lattice position; exact on drawn scenes, tolerant of a decoder's small errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from .large import LARGE, shrink
from .scenes import (
    BACKGROUND_NAMES,
    BACKGROUNDS,
    CELL,
    CELLS,
    COLOUR_NAMES,
    COLOURS,
    ICON,
    ICON_CELLS,
    OBJECTS,
    SIZE,
    Icon,
    Scene,
    glyph_masks,
)  # fmt: skip

# Mean squared error (0..1 per channel) up to which a patch counts as an icon, relative to the patch left empty.
MATCH = 0.35
FAINT = 0.004  # a patch closer than this to the background is empty


@dataclass(frozen=True)
class Reading:
    """What an image shows. `strange` counts 8-px cells that neither the background nor an icon explains."""

    background: str
    icons: tuple[Icon, ...]
    strange: int


@dataclass(frozen=True)
class Verdict:
    """Which wishes of a scene an image meets; `passed` when all are and no other icon is there."""

    objects: bool
    colours: bool
    counts: bool
    relation: bool
    background: bool
    nothing_else: bool

    @property
    def passed(self) -> bool:
        return all(vars(self).values())


@cache
def _templates(background: str) -> tuple[np.ndarray, np.ndarray]:
    """All icons on a background, `[128, 768]` (object-major, then colour), and the empty patch `[768]`."""
    empty = np.broadcast_to(np.array(BACKGROUNDS[background], np.float32) / 255, (ICON, ICON, 3))
    masks = glyph_masks()
    icons = [
        empty + masks[name] * (np.array(COLOURS[colour], np.float32) / 255 - empty)
        for name in OBJECTS
        for colour in COLOUR_NAMES
    ]
    return np.stack(icons).reshape(len(icons), -1), empty.reshape(-1)


def read_image(image: np.ndarray) -> Reading:
    """Read an RGB image, uint8 or float 0..1, `[64, 64, 3]` or `[256, 256, 3]`, which is averaged down first.

    Raises `ValueError` for another size.
    """
    pixels = np.asarray(image)
    if pixels.shape not in ((SIZE, SIZE, 3), (LARGE, LARGE, 3)):
        raise ValueError(f"an icon-world image is {SIZE}x{SIZE} or {LARGE}x{LARGE} RGB, not {pixels.shape}")
    pixels = pixels.astype(np.float32) / (255 if pixels.dtype == np.uint8 else 1)
    if len(pixels) == LARGE:
        pixels = shrink(pixels)
    middle = np.median(pixels.reshape(-1, 3), axis=0)
    background = min(BACKGROUND_NAMES, key=lambda n: float(np.square(middle - np.array(BACKGROUNDS[n]) / 255).sum()))
    templates, empty = _templates(background)
    anchors = [(r, c) for r in range(CELLS - ICON_CELLS + 1) for c in range(CELLS - ICON_CELLS + 1)]
    windows = np.stack([pixels[r * CELL :, c * CELL :][:ICON, :ICON].reshape(-1) for r, c in anchors])
    nothing = np.square(windows - empty).mean(1)  # [49]
    error = (
        np.square(windows).mean(1)[:, None]
        - 2 * windows @ templates.T / windows.shape[1]
        + np.square(templates).mean(1)
    )  # [49, 128]
    best = error.argmin(1)
    least = error[np.arange(len(anchors)), best]
    taken = np.zeros((CELLS, CELLS), bool)
    icons = []
    for i in np.argsort(least - nothing):
        row, column = anchors[i]
        spot = taken[row : row + ICON_CELLS, column : column + ICON_CELLS]
        if nothing[i] > FAINT and least[i] < MATCH * nothing[i] and not spot.any():
            spot[:] = True
            name, colour = OBJECTS[best[i] // len(COLOUR_NAMES)], COLOUR_NAMES[best[i] % len(COLOUR_NAMES)]
            icons.append(Icon(name, colour, row, column))
    cells = np.square(pixels - np.array(BACKGROUNDS[background], np.float32) / 255).mean(2)
    cells = cells.reshape(CELLS, CELL, CELLS, CELL).mean((1, 3))
    strange = int(((cells > FAINT) & ~taken).sum())
    return Reading(background, tuple(sorted(icons, key=lambda i: (i.row, i.column))), strange)


def check(scene: Scene, image: np.ndarray) -> Verdict:
    """Compare what an image shows with what a scene asks for. A background or relation not asked for is met."""
    reading = read_image(image)
    by_object = {name: [i for i in reading.icons if i.object == name] for name in OBJECTS}
    wanted = [by_object[g.object] for g in scene.groups]
    return Verdict(
        objects=all(wanted),
        colours=all(
            found and all(i.colour == g.colour for i in found) for g, found in zip(scene.groups, wanted, strict=True)
        ),
        counts=all(len(found) == g.count for g, found in zip(scene.groups, wanted, strict=True)),
        relation=scene.relation is None or (all(wanted) and _holds(scene.relation, *wanted)),
        background=scene.background is None or reading.background == scene.background,
        nothing_else=len(reading.icons) == sum(len(f) for f in wanted) and reading.strange <= 1,
    )


def _holds(relation: str, first: list[Icon], second: list[Icon]) -> bool:
    if relation in ("right of", "below"):
        first, second = second, first
    across = relation in ("left of", "right of")
    place = (lambda i: i.column) if across else (lambda i: i.row)
    return max(place(i) for i in first) < min(place(i) for i in second)
