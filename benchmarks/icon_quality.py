"""How often a built-in world draws what held-out captions ask for, by the exact checker.

    python benchmarks/icon_quality.py [--model icons-unet] [--captions 500] [--sheet FILE]

A third of the captions have pairs of object and colour, or of objects, that training never showed.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from promptprobe import finish, icons, load_pipeline, start
from promptprobe.evaluation import mean_interval
from promptprobe.icons.captions import caption, user_prompt
from promptprobe.icons.checker import check
from promptprobe.icons.scenes import random_scene
from promptprobe.pipelines import pipeline_settings

COLUMNS = (
    "1 groups",
    "2 groups",
    "counts",
    "relation",
    "1, held out",
    "2, held out",
    "objects",
    "colours",
    "background",
)


def contact_sheet(images: list[Image.Image], side: int = 128, across: int = 8) -> Image.Image:
    """Pictures in rows of `across`, each `side` pixels wide, a narrow white line between them."""
    sheet = Image.new("RGB", (across * (side + 4) + 4, -(-len(images) // across) * (side + 4) + 4), "white")
    for i, image in enumerate(images):
        resampling = Image.Resampling.BOX if image.width >= side else Image.Resampling.NEAREST
        sheet.paste(image.resize((side, side), resampling), (i % across * (side + 4) + 4, i // across * (side + 4) + 4))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=icons.NAME)
    parser.add_argument("--captions", type=int, default=500)
    parser.add_argument("--guidance", type=float, help="instead of the world's own")
    parser.add_argument("--shift", type=float, help="of a flow-matching schedule, instead of the pipeline's own")
    parser.add_argument("--style", nargs="+", default=["plain", "as users type"])
    parser.add_argument("--sheet", type=Path, help="write the first 24 pictures of the first style")
    args = parser.parse_args()
    pipeline = load_pipeline(args.model)
    if args.shift:
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, shift=args.shift)
    settings = pipeline_settings(args.model, args.guidance)
    table = Table("captions", *COLUMNS)
    sheet: list[Image.Image] = []
    for style in args.style:
        rng = np.random.default_rng(2026)
        scenes = [random_scene(rng, held_out=i % 3 == 0, groups=1 + i % 2) for i in range(args.captions)]
        texts = [caption(s, "plain", rng) if style == "plain" else user_prompt(s, rng) for s in scenes]
        rows: dict[str, list[bool]] = defaultdict(list)
        for i in range(0, len(texts), 50):
            batch = texts[i : i + 50]
            paused = start(pipeline, batch, range(i, i + len(batch)), stop=25, watch=(), **settings)
            for scene, image in zip(scenes[i : i + 50], finish(pipeline, paused), strict=True):
                if len(sheet) < 24:
                    sheet.append(image)
                verdict = check(scene, np.asarray(image))
                rows[f"{len(scene.groups)} groups"].append(verdict.passed)
                if scene.held_out:
                    rows[f"{len(scene.groups)}, held out"].append(verdict.passed)
                for name, value in vars(verdict).items():
                    rows[name].append(value)
        figures = {k: mean_interval(v) for k, v in rows.items()}
        table.add_row(style, *(f"{f.value:.2f} [{f.low:.2f}, {f.high:.2f}]" for f in map(figures.get, COLUMNS) if f))
    Console(width=200).print(table)
    if args.sheet:
        contact_sheet(sheet).save(args.sheet)


if __name__ == "__main__":
    main()
