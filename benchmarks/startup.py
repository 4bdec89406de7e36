"""How long commands take from the first moment: until `optimize` begins, `score` has ended, a prompt is refused.

Each is a new process, one at a time, the cases in turn, so that a machine that slows down slows all of them. Beside them stands what no
command that draws can be faster than: importing the pipeline's class from diffusers. Printed are seconds on the clock: median, fastest
and slowest. The seconds of processor time say how much of that was this process: other work on the machine slows the clock only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

PROMPT = "two red cars"
CASES = {
    # name: arguments, and the text at which the clock stops (None: the end of the process)
    "first line of optimize": (["optimize", PROMPT], ""),
    "optimize begins to denoise": (["optimize", PROMPT], "prompt: "),
    "score ends": (["score", PROMPT], None),
    "a refused prompt": (["optimize", ""], None),
    "a refused option": (["optimize", PROMPT, "--tau", "q7"], None),
    "help": (["optimize", "--help"], None),
    "importing diffusers' pipeline": ([], None),
}


def seconds_of(arguments: list[str], until: str | None, out: str) -> tuple[float, float]:
    """Seconds on the clock until a line on standard output or error starts with `until`, and of processor time in all."""
    more = ["--out", out] if arguments[:1] == ["optimize"] else []
    began = time.perf_counter()
    told = ["-m", "promptprobe", *arguments, *more] if arguments else ["-c", "from diffusers import FluxPipeline"]
    process = subprocess.Popen(
        [sys.executable, *told],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    reached = None
    for line in process.stdout:  # type: ignore[union-attr]
        if until is not None and reached is None and line.startswith(until):
            reached = time.perf_counter() - began
    _, _, usage = os.wait4(process.pid, 0)
    return reached or time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--only", help="cases whose name has this text")
    options = parser.parse_args()
    chosen = {name: case for name, case in CASES.items() if not options.only or options.only in name}
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
    with TemporaryDirectory() as folder:
        for _ in range(options.runs):
            for name, (arguments, until) in chosen.items():
                runs[name].append(seconds_of(arguments, until, str(Path(folder))))
    for name, done in runs.items():
        clock = [c for c, _ in done]
        print(
            f"{name:28} median {statistics.median(clock):5.2f} s  ({min(clock):.2f} to {max(clock):.2f}, {len(clock)} runs)  "
            f"processor {statistics.median(p for _, p in done):.2f} s"
        )


if __name__ == "__main__":
    main()
