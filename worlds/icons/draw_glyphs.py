"""Render the icon world's glyphs, Font Awesome Free's solid icons, into the file that the package draws scenes with.

python -m worlds.icons.draw_glyphs
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from safetensors.numpy import save_file

from promptprobe.icons import scenes
from promptprobe.icons.scenes import GLYPHS, ICON


def draw_glyphs(target: Path) -> None:
    """Render the glyphs from Font Awesome's font (package `fontawesomefree`) into `target`."""
    import fontawesomefree

    folder = Path(fontawesomefree.__file__).parent / "static" / "fontawesomefree"
    font_file = next((folder / "otfs").glob("*Solid*.otf"))
    codes = json.loads((folder / "metadata" / "icon-families.json").read_text())
    masks = {}
    for name, glyph in GLYPHS.items():
        # Drawn eight times too large, cropped, and reduced: sharp edges at 16 px.
        canvas = Image.new("L", (16 * ICON, 16 * ICON))
        font = ImageFont.truetype(str(font_file), 8 * ICON)
        ImageDraw.Draw(canvas).text((2 * ICON, 2 * ICON), chr(int(codes[glyph]["unicode"], 16)), font=font, fill=255)
        shape = canvas.crop(canvas.getbbox())
        scale = (ICON - 1) / max(shape.size)
        shape = shape.resize((round(shape.width * scale), round(shape.height * scale)), Image.Resampling.LANCZOS)
        mask = Image.new("L", (ICON, ICON))
        mask.paste(shape, ((ICON - shape.width) // 2, (ICON - shape.height) // 2))
        masks[name] = np.asarray(mask)
    save_file(masks, target)


if __name__ == "__main__":
    draw_glyphs(Path(scenes.__file__).with_name("glyphs.safetensors"))
