"""What a search costs: seeds and prompts, `full` against `fixed` and `racing`, as the paper's Table 3, in one run.

    python benchmarks/compute.py

Wall time and denoiser calls are measured on the icon world. For SDXL and FLUX.1-dev they are projected from the calls
and from published costs of one generation and one probe (Diffusion Probe, arXiv:2602.23783, Table 3: 14.70 s and
1877.56 TFLOPs, 0.05 s and 0.0036 TFLOPs).
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from promptprobe.rewards import load_reward
from promptprobe.runs import make_scorer
from promptprobe.search import POLICIES, select_pair

PROMPT = "three red cars above a blue fish on a white background"
WORDINGS = (PROMPT, "3 red cars above one blue fish, white background", "a blue fish below three red cars on white",
            "three red cars over a blue fish on a white backdrop")  # fmt: skip
PAPER = {"seconds": 14.70, "TFLOPs": 1877.56, "probe seconds": 0.05, "probe TFLOPs": 0.0036}


def main() -> None:
    """Time each policy `--repeats` times and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--growth", action="store_true", help="also: cost against the number of candidates")
    args = parser.parse_args()
    scorer, reward = make_scorer(), load_reward("icons")
    console = Console()
    tasks = {
        "seed selection, 10 seeds": [(PROMPT, s) for s in range(10)],
        "prompt optimisation, 4 prompts": [(p, 0) for p in WORDINGS],
    }
    for name, pairs in tasks.items():
        measured = {}
        for policy in POLICIES:
            select_pair(scorer, pairs, policy=policy, reward=reward, judge=PROMPT)  # warm up
            with FlopCounterMode(display=False) as counter:
                found = select_pair(scorer, pairs, policy=policy, reward=reward, judge=PROMPT)
            probes = sum(len(s.predicted) for s in found.seeds)
            measured[policy] = [found.denoiser_calls, counter.get_total_flops() / 1e9, [], probes]
        for _ in range(args.repeats):  # interleaved, so that all meet the same machine
            for policy in POLICIES:
                began = time.perf_counter()
                select_pair(scorer, pairs, policy=policy, reward=reward, judge=PROMPT)
                measured[policy][2].append(time.perf_counter() - began)
        table = Table("policy", "calls", "GFLOPs", "seconds", "faster", "SDXL s", "SDXL TFLOPs", "faster", title=name)
        full_calls, _, full_times, _ = measured["full"]
        whole = statistics.median(full_times)
        for policy in ("full", "fixed", "racing", "decoded"):
            calls, flops, times, probes = measured[policy]
            seconds = statistics.median(times)
            share = calls / scorer.steps
            sdxl = share * PAPER["seconds"] + probes * PAPER["probe seconds"]
            work = share * PAPER["TFLOPs"] + probes * PAPER["probe TFLOPs"]
            speedup = full_calls / scorer.steps * PAPER["seconds"] / sdxl
            # Decoding and measuring an image has no published cost to project from.
            projected = ["", "", ""] if policy == "decoded" else [f"{sdxl:.1f}", f"{work:.0f}", f"{speedup:.2f}x"]
            table.add_row(policy, str(calls), f"{flops:.1f}", f"{seconds:.3f}", f"{whole / seconds:.2f}x", *projected)
        console.print(table)
    if args.growth:
        table = Table("candidates", "seconds", "ms a candidate", title="probing to step 5, batches of 32")
        for count in (1, 2, 4, 8, 16, 32, 64, 128):
            scorer.score([PROMPT], range(count))
            times = []
            for _ in range(3):
                began = time.perf_counter()
                scorer.score([PROMPT], range(count))
                times.append(time.perf_counter() - began)
            seconds = statistics.median(times)
            table.add_row(str(count), f"{seconds:.3f}", f"{1000 * seconds / count:.1f}")
        console.print(table)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
