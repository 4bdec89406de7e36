"""Does a diffuse word say that its object will be missing? Each asked object's focus and strength at step 5 against the
exact checker's reading of the finished image.

    python benchmarks/diagnosis.py [--prompts 300]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from promptprobe import finish
from promptprobe.evaluation import mean_interval
from promptprobe.icons.checker import read_image
from promptprobe.runs import make_scorer
from promptprobe.worlds import DEFAULT, thesaurus_of

sys.path.insert(0, str(Path(__file__).parents[1]))
from worlds.icons.make_prompts import read_scenes, write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--model", default=DEFAULT, help="a built-in world")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), sizes={"train": 1, "test": args.prompts})
        rows = read_scenes(Path(folder) / "test.jsonl")
    scorer, words = make_scorer(args.model), thesaurus_of(args.model)
    seen: list[tuple[float, float, bool, bool]] = []  # focus, strength, diffuse, drawn
    for i in range(0, len(rows), scorer.batch_size):
        batch = rows[i : i + scorer.batch_size]
        scored = scorer.score([p for p, _ in batch], [7])
        images = finish(scorer.pipeline, scored[0].trajectories[0][0])
        for (_, scene), s, image in zip(batch, scored, images, strict=True):
            objects = {icon.object for icon in read_image(np.asarray(image)).icons}
            for word in s.words:
                name = words and words.noun(word.word.lower())
                if name in {g.object for g in scene.groups}:
                    seen.append((word.focus, word.strength, word.diffuse, name in objects))
    focus, strength, diffuse, drawn = (np.array(column) for column in zip(*seen, strict=True))
    table = Table("object words", "number", "object missing from the image")
    for name, chosen in (("diffuse", diffuse), ("not diffuse", ~diffuse)):
        figure = mean_interval(~drawn[chosen]) if chosen.any() else None
        table.add_row(
            name, str(chosen.sum()), f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}]" if figure else "-"
        )
    console = Console()
    console.print(table)
    for name, values in (("focus", focus), ("strength", strength)):
        wins = (values[drawn][:, None] > values[~drawn]).mean() if (~drawn).any() else float("nan")
        console.print(f"AUC of {name} for the object being drawn: {wins:.3f}")


if __name__ == "__main__":
    main()
