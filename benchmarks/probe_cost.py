"""What probing costs on top of the five steps: denoising alone, with the tap, and with tap and probe, in turn.

python benchmarks/probe_cost.py [--batch 16] [--repeats 15]
"""

from __future__ import annotations

import argparse
import statistics
import time

from rich.console import Console
from rich.table import Table

from promptprobe import load_pipeline, load_probe, start
from promptprobe.observation import observe
from promptprobe.pipelines import pipeline_settings
from promptprobe.worlds import DEFAULT

PROMPT = "two red cars left of a green tree on a white background"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--model", default=DEFAULT, help="a built-in world")
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()
    pipeline, probe = load_pipeline(args.model), load_probe(None, args.model)
    settings = pipeline_settings(args.model)
    times: dict[str, list[float]] = {"five steps": [], "with the tap": [], "with tap and probe": []}
    for repeat in range(args.repeats + 1):
        for way, values in times.items():
            began = time.perf_counter()
            paused = start(
                pipeline, [PROMPT] * args.batch, range(args.batch), watch=() if way == "five steps" else (5,),
                blocks=probe.card.blocks, **settings,
            )  # fmt: skip
            if way == "with tap and probe":
                probe.predict(observe(paused, 5))
            if repeat:  # the first is a warm-up
                values.append(time.perf_counter() - began)
    table = Table("way", "median ms", "on top, median of pairs")
    base = times["five steps"]
    for way, values in times.items():
        # Each repeat is compared with its own plain run: a machine's speed drifts by more than what is measured.
        more = statistics.median(v / b - 1 for v, b in zip(values, base, strict=True))
        table.add_row(way, f"{1000 * statistics.median(values):.1f}", f"{100 * more:+.1f} %")
    Console().print(f"batch of {args.batch}", table)


if __name__ == "__main__":
    main()
