"""The icon world's scenes: coloured icons on a plain background, drawn from a description.

Comes in: a `Scene` (background, one or two groups of icons, sometimes a relation) or a random generator.
Goes out: images `[batch, 64, 64, 3]` and, for dense supervision, which icon covers which 8-px cell.
The glyphs are Font Awesome Free's solid icons, rendered once into `glyphs.safetensors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

SIZE = 64  # pixels
CELLS = 8  # lattice cells per side; one latent pixel each
CELL = SIZE // CELLS
ICON_CELLS = 2  # an icon is 2x2 cells
ICON = ICON_CELLS * CELL
SLOTS = CELLS // ICON_CELLS  # slots per side of the board on which icons stand
MAX_COUNT = 3

# Names in the icon world -> glyph names in Font Awesome Free 6 solid.
GLYPHS = {
    "car": "car-side", "house": "house", "tree": "tree", "fish": "fish", "cat": "cat", "bird": "dove",
    "apple": "apple-whole", "key": "key", "umbrella": "umbrella", "boat": "sailboat", "plane": "plane",
    "star": "star", "heart": "heart", "moon": "moon", "cup": "mug-hot", "bell": "bell",
}  # fmt: skip
OBJECTS = tuple(GLYPHS)
COLOURS = {
    "red": (220, 38, 38), "orange": (249, 125, 22), "yellow": (250, 214, 21), "green": (34, 160, 60),
    "blue": (37, 99, 235), "purple": (139, 60, 220), "pink": (244, 114, 182), "brown": (120, 72, 32),
}  # fmt: skip
BACKGROUNDS = {
    "white": (250, 250, 250), "black": (15, 15, 18), "gray": (150, 150, 155), "navy": (20, 35, 80),
    "mint": (190, 240, 210), "beige": (235, 220, 185),
}  # fmt: skip
COLOUR_NAMES = tuple(COLOURS)
BACKGROUND_NAMES = tuple(BACKGROUNDS)
RELATIONS = ("left of", "right of", "above", "below")

# Never drawn in any training: one colour per object, and eight pairs of objects.
HELD_OUT_COLOURS = frozenset((name, COLOUR_NAMES[(3 * i + 1) % 8]) for i, name in enumerate(OBJECTS))
HELD_OUT_PAIRS = frozenset(frozenset((OBJECTS[i], OBJECTS[(i + 5) % 16])) for i in range(0, 16, 2))


@dataclass(frozen=True)
class Group:
    """`count` copies of one object in one colour."""

    object: str
    colour: str
    count: int


@dataclass(frozen=True)
class Scene:
    """What a caption describes. `relation` says where `groups[0]` lies as seen from `groups[1]`."""

    groups: tuple[Group, ...]
    background: str | None = None
    relation: str | None = None

    @property
    def held_out(self) -> bool:
        """True when the scene has an (object, colour) or (object, object) pair that training never shows."""
        names = frozenset(g.object for g in self.groups)
        return names in HELD_OUT_PAIRS or any((g.object, g.colour) in HELD_OUT_COLOURS for g in self.groups)


@dataclass(frozen=True)
class Icon:
    """One drawn icon; `row` and `column` are lattice cells of its upper left corner."""

    object: str
    colour: str
    row: int
    column: int


def random_scene(rng: np.random.Generator, held_out: bool = False, groups: int | None = None) -> Scene:
    """Draw a scene description; `held_out` asks for one that training never shows, else for one that it may."""
    while True:
        n = groups or (1 if rng.random() < 0.4 else 2)
        names = rng.choice(len(OBJECTS), size=n, replace=False)
        parts = tuple(
            Group(OBJECTS[i], COLOUR_NAMES[rng.integers(len(COLOUR_NAMES))], int(rng.integers(1, MAX_COUNT + 1)))
            for i in names
        )
        background = BACKGROUND_NAMES[rng.integers(len(BACKGROUND_NAMES))]
        relation = RELATIONS[rng.integers(4)] if n == 2 and rng.random() < 0.6 else None
        scene = Scene(parts, background, relation)
        if scene.held_out == held_out:
            return scene


def place(scene: Scene, rng: np.random.Generator) -> list[Icon]:
    """Choose slots of the 4x4 board for every icon: the icons of a group stand in a row or a column, groups don't
    overlap, and the relation holds for every pair of icons."""
    while True:
        taken = np.zeros((SLOTS, SLOTS), bool)
        icons: list[Icon] = []
        for group, region in zip(scene.groups, _regions(scene, rng), strict=True):
            free = [run for run in _runs(group.count, region) if not any(taken[slot] for slot in run)]
            if not free:
                break
            run = free[rng.integers(len(free))]
            for row, column in run:
                taken[row, column] = True
                icons.append(Icon(group.object, group.colour, row * ICON_CELLS, column * ICON_CELLS))
        else:
            return icons


@cache
def _runs(count: int, region: tuple[int, int, int, int]) -> list[tuple[tuple[int, int], ...]]:
    """All rows and columns of `count` neighbouring slots within a region."""
    top, left, bottom, right = region
    slots = [(r, c) for r in range(top, bottom) for c in range(left, right)]
    across = [tuple((r, c + i) for i in range(count)) for r, c in slots if c + count <= right]
    down = [tuple((r + i, c) for i in range(count)) for r, c in slots if r + count <= bottom]
    return across + (down if count > 1 else [])


def _regions(scene: Scene, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Where each group may lie: (top, left, bottom, right) in slots."""
    everywhere = (0, 0, SLOTS, SLOTS)
    if scene.relation is None:
        return [everywhere] * len(scene.groups)
    cut = int(rng.integers(1, SLOTS))
    if scene.relation in ("left of", "right of"):
        first, second = (0, 0, SLOTS, cut), (0, cut, SLOTS, SLOTS)
    else:
        first, second = (0, 0, cut, SLOTS), (cut, 0, SLOTS, SLOTS)
    return [first, second] if scene.relation in ("left of", "above") else [second, first]


@cache
def glyph_masks() -> dict[str, np.ndarray]:
    """Coverage of each glyph, float32 `[16, 16, 1]` in 0..1, from the shipped file."""
    from safetensors.numpy import load_file

    masks = load_file(Path(__file__).with_name("glyphs.safetensors"))
    return {name: masks[name].astype(np.float32)[..., None] / 255 for name in OBJECTS}


def draw(background: str, icons: list[Icon]) -> np.ndarray:
    """Draw icons on a background: float32 `[64, 64, 3]` in 0..1."""
    image = np.empty((SIZE, SIZE, 3), np.float32)
    image[:] = np.array(BACKGROUNDS[background], np.float32) / 255
    masks = glyph_masks()
    for icon in icons:
        y, x = icon.row * CELL, icon.column * CELL
        patch = image[y : y + ICON, x : x + ICON]
        patch += masks[icon.object] * (np.array(COLOURS[icon.colour], np.float32) / 255 - patch)
    return image


def cell_labels(background: str, icons: list[Icon]) -> np.ndarray:
    """Dense labels, int64 `[8, 8, 4]`: object (0 = none), colour (0 = none), part of the icon 0..3, background."""
    labels = np.zeros((CELLS, CELLS, 4), np.int64)
    labels[..., 3] = BACKGROUND_NAMES.index(background)
    for icon in icons:
        for part in range(ICON_CELLS**2):
            labels[icon.row + part // ICON_CELLS, icon.column + part % ICON_CELLS, :3] = (
                OBJECTS.index(icon.object) + 1,
                COLOUR_NAMES.index(icon.colour) + 1,
                part,
            )
    return labels
