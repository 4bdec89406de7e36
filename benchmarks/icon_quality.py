"""How often the icon pipeline draws what held-out captions ask for, by the exact checker.

    python benchmarks/icon_quality.py [--captions 500]

A third of the captions have pairs of object and colour, or of objects, that training never showed.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np
from rich.console import Console
from rich.table import Table

from promptprobe import finish, icons, load_pipeline, start
from promptprobe.evaluation import mean_interval
from promptprobe.icons.captions import caption, user_prompt
from promptprobe.icons.checker import check
from promptprobe.icons.scenes import random_scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=500)
    parser.add_argument("--guidance", type=float, default=icons.GUIDANCE)
    args = parser.parse_args()
    pipeline = load_pipeline()
    table = Table("captions", "one group", "two groups", "objects", "colours", "counts", "relation", "background")
    for style in ("plain", "as users type"):
        rng = np.random.default_rng(2026)
        scenes = [random_scene(rng, held_out=i % 3 == 0, groups=1 + i % 2) for i in range(args.captions)]
        texts = [caption(s, "plain", rng) if style == "plain" else user_prompt(s, rng) for s in scenes]
        rows: dict[str, list[bool]] = defaultdict(list)
        for i in range(0, len(texts), 50):
            batch = texts[i : i + 50]
            paused = start(pipeline, batch, range(i, i + len(batch)), stop=25, watch=(), guidance_scale=args.guidance)
            for scene, image in zip(scenes[i : i + 50], finish(pipeline, paused), strict=True):
                verdict = check(scene, np.asarray(image))
                rows[f"{len(scene.groups)} groups"].append(verdict.passed)
                for name, value in vars(verdict).items():
                    rows[name].append(value)
        figures = {k: mean_interval(v) for k, v in rows.items()}
        names = ("1 groups", "2 groups", "objects", "colours", "counts", "relation", "background")
        table.add_row(style, *(f"{figures[n].value:.2f} [{figures[n].low:.2f}, {figures[n].high:.2f}]" for n in names))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
