"""Scenes at 256 px: the same icons four times as large, so that a 4x4 box average gives the 64-px picture back.

    python -m promptprobe.icons.large      # renders the glyphs, from Font Awesome's font

Comes in: a background and icons, as for `scenes.draw`, or a picture of 256 px to shrink. Goes out: pictures.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from .scenes import BACKGROUNDS, CELL, COLOURS, GLYPHS, ICON, OBJECTS, SIZE, Icon, glyph_masks

FACTOR = 4
LARGE = FACTOR * SIZE
GLYPH_FILE = Path(__file__).with_name("glyphs-large.safetensors")


@cache
def large_masks() -> dict[str, np.ndarray]:
    """Coverage of each glyph, float32 `[64, 64, 1]` in 0..1, from the shipped file."""
    from safetensors.numpy import load_file

    masks = load_file(GLYPH_FILE)
    return {name: masks[name].astype(np.float32)[..., None] / 255 for name in OBJECTS}


def draw_large(background: str, icons: list[Icon]) -> np.ndarray:
    """Draw icons on a background: float32 `[256, 256, 3]` in 0..1."""
    image = np.empty((LARGE, LARGE, 3), np.float32)
    image[:] = np.array(BACKGROUNDS[background], np.float32) / 255
    masks = large_masks()
    side = FACTOR * ICON
    for icon in icons:
        y, x = icon.row * CELL * FACTOR, icon.column * CELL * FACTOR
        patch = image[y : y + side, x : x + side]
        patch += masks[icon.object] * (np.array(COLOURS[icon.colour], np.float32) / 255 - patch)
    return image


def shrink(image: np.ndarray) -> np.ndarray:
    """A picture of four times the size, `[..., 256, 256, 3]`, averaged down: float32, in the same range."""
    *rest, height, width, channels = image.shape
    boxes = image.reshape(*rest, height // FACTOR, FACTOR, width // FACTOR, FACTOR, channels)
    return boxes.mean((-4, -2), dtype=np.float32)


def render_glyphs(target: Path) -> None:
    """Render the glyphs from Font Awesome's font (package `fontawesomefree`, a training-time extra) into `target`,
    each with the outline that `scenes.draw_glyphs` gives it at a quarter of the size."""
    import json

    import fontawesomefree
    from PIL import Image, ImageDraw, ImageFont
    from safetensors.numpy import save_file

    folder = Path(fontawesomefree.__file__).parent / "static" / "fontawesomefree"
    font_file = str(next((folder / "otfs").glob("*Solid*.otf")))
    codes = json.loads((folder / "metadata" / "icon-families.json").read_text())

    def drawn(glyph: str, size: int):
        canvas = Image.new("L", (2 * size, 2 * size))
        font = ImageFont.truetype(font_file, size)
        ImageDraw.Draw(canvas).text((size // 4, size // 4), chr(int(codes[glyph]["unicode"], 16)), font=font, fill=255)
        return canvas.crop(canvas.getbbox())

    masks = {}
    for name, glyph in GLYPHS.items():
        small = drawn(glyph, 8 * ICON)  # as `scenes.draw_glyphs` has it, which settles the size
        scale = (ICON - 1) / max(small.size)
        width, height = round(small.width * scale), round(small.height * scale)
        shape = drawn(glyph, 32 * ICON)
        shape = shape.resize((FACTOR * width, FACTOR * height), Image.Resampling.BOX)
        mask = Image.new("L", (FACTOR * ICON, FACTOR * ICON))
        mask.paste(shape, (FACTOR * ((ICON - width) // 2), FACTOR * ((ICON - height) // 2)))
        masks[name] = np.asarray(mask)
    save_file(masks, target)


def main() -> None:
    """Render the glyphs and say how far their averages are from the 64-px ones."""
    render_glyphs(GLYPH_FILE)
    off = [np.abs(shrink(mask) - glyph_masks()[name]).mean() for name, mask in large_masks().items()]
    print(
        f"{GLYPH_FILE}: coverage differs from the small glyphs by {np.mean(off):.4f} on average, {max(off):.4f} at most"
    )


if __name__ == "__main__":
    main()
