"""ImageReward: images a second, ours batched and one by one, and the reference package, in one run.

    pip install --no-deps image-reward==1.5
    python benchmarks/reward_speed.py --images 8

Full size, random weights; the reference is made importable by the shim in `tests/reference_image_reward.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))


@torch.no_grad()
def main() -> None:
    """Time the three ways in turns and print the table."""
    import reference_image_reward as reference

    from promptprobe.rewards import blip

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    images = (reference.images() * args.images)[: args.images]
    prompts = (reference.PROMPTS * args.images)[: args.images]
    with tempfile.TemporaryDirectory() as folder:
        theirs: Any = reference.reference(Path(folder)) if reference.installed() else None
        ours: Any = object.__new__(blip.ImageReward)
        ours.model, ours.device, ours.tokenizer = blip.Blip().eval(), "cpu", blip._tokenizer(Path(_vocabulary(folder)))
        ways = {
            "ours, one batch": lambda: ours(images, prompts),
            "ours, one by one": lambda: [ours([i], [p]) for i, p in zip(images, prompts, strict=True)],
        }
        if theirs is not None:
            ways["image-reward 1.5"] = lambda: [theirs.score(p, i) for i, p in zip(images, prompts, strict=True)]
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.repeats):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                times[name].append(time.perf_counter() - began)
    table = Table("way", "images/s")
    for name, spent in times.items():
        table.add_row(name, f"{len(images) / min(spent):.2f}")
    Console().print(table, f"{len(images)} images, {torch.get_num_threads()} threads, best of {args.repeats}")


def _vocabulary(folder: str) -> str:
    import reference_image_reward as reference

    reference.tokenizer(Path(folder))
    return folder


if __name__ == "__main__":
    main()
