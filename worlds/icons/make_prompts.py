"""Write the icon world's prompt files: disjoint train, validation and test prompts, and what each test prompt asks for.

    python -m worlds.icons.make_prompts --out data/prompts

`texts` are read without images, to teach a probe what prompts ask for. Half of the prompts are plain, half are as users
type them; no scene description is in two files. `*.jsonl` has the scene of each line of `*.txt`, for the exact checker.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from promptprobe.icons.captions import caption, user_prompt
from promptprobe.icons.scenes import Group, Scene, random_scene

SIZES = {"train": 20_000, "validation": 700, "test": 1000, "test_seeds": 100, "user_test": 200, "texts": 60_000}


def write(out: Path, seed: int = 0, sizes: dict[str, int] | None = None) -> None:
    """Write `NAME.txt` and `NAME.jsonl` for every name of `SIZES`; a third of each test file is held-out pairs."""
    out.mkdir(parents=True, exist_ok=True)
    used: set[tuple] = set()
    texts: set[str] = set()
    for number, (name, size) in enumerate((sizes or SIZES).items()):
        rng = np.random.default_rng([seed, number])
        lines: list[str] = []
        scenes: list[dict] = []
        while len(lines) < size:
            scene = random_scene(rng, held_out="test" in name and rng.random() < 1 / 3)
            plain = name != "user_test" and rng.random() < 0.5
            text = caption(scene, "plain", rng, background=rng.random() < 0.8) if plain else user_prompt(scene, rng)
            key = (scene.groups, scene.relation, scene.background)
            if key in used or text in texts:
                continue
            used.add(key)
            texts.add(text)
            said = "background" in text or "backdrop" in text
            lines.append(text)
            scenes.append({"prompt": text, "scene": asdict(scene) | ({} if said else {"background": None})})
        (out / f"{name}.txt").write_text("\n".join(lines) + "\n", "utf-8")
        (out / f"{name}.jsonl").write_text("".join(json.dumps(s) + "\n" for s in scenes), "utf-8")


def read_scenes(path: Path) -> list[tuple[str, Scene]]:
    """(prompt, scene) of each line of a `*.jsonl` file."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [
        (
            r["prompt"],
            Scene(tuple(Group(**g) for g in r["scene"]["groups"]), r["scene"]["background"], r["scene"]["relation"]),
        )
        for r in rows
    ]


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/prompts"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write(args.out, args.seed)


if __name__ == "__main__":
    main()
