"""What a search costs: seeds and prompts, `full` against `fixed` and `racing`, as the paper's Table 3, in one run.

    python benchmarks/compute.py [--size 192 --repeats 1] [--gains prompts/test.txt --prompts 20]

Wall time, denoiser calls and FLOPs are measured on the icon world. For SDXL and FLUX.1-dev at 1024 pixels the FLOPs are
projected from the calls of each policy and from what one denoiser step and one decoding take, counted on their published
configurations without weights. `cut` is with a probe that reads attention only, in the blocks of the paper: the probed step
then ends after the last of them. Seconds are projected for FLUX.1-dev from the published costs of one generation and one
probe (Diffusion Probe, arXiv:2602.23783, Table 3: 14.70 s and 1877.56 TFLOPs, which is 25 steps of FLUX.1-dev; 0.05 s and
0.0036 TFLOPs).

With `--gains` the first column is equal compute: the number of images made in full, the best kept, that gain as much as the
search does on those prompts, over the images' worth of denoising that it spent.

A step of the icon world's small denoiser takes milliseconds, of which a good part is overhead that a batch shares. With
`--size 192` it makes pictures three times as wide and high, where arithmetic outweighs that, as it does in a real model; it
was not trained for them, so that only times and calls mean something.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from tap_flops import flux, sdxl
from torch.utils.flop_counter import FlopCounterMode

from promptprobe.backbones import BACKBONES
from promptprobe.evaluation import best_of_n, equal_images
from promptprobe.pipelines import load_pipeline
from promptprobe.policies import POLICIES
from promptprobe.prompt_files import read_prompts
from promptprobe.rewards import load_reward
from promptprobe.runs import make_scorer
from promptprobe.search import select_pair
from promptprobe.worlds import DEFAULT

PROMPT = "three red cars above a blue fish on a white background"
WORDINGS = (PROMPT, "3 red cars above one blue fish, white background", "a blue fish below three red cars on white",
            "three red cars over a blue fish on a white backdrop")  # fmt: skip
PAPER = {"seconds": 14.70, "probe seconds": 0.05, "probe TFLOPs": 0.0036}


class Reached(Exception):
    """The last probed block has run."""


def flops_of(build) -> tuple[float, float]:
    """TFLOPs of one denoiser step, and of its part up to the last block that is probed by default."""

    def stop(*_) -> None:
        raise Reached

    with torch.device("meta"):
        model, call, _ = build()
    blocks = dict(model.to("meta").named_modules())
    with FlopCounterMode(display=False) as whole:
        model(**call)
    blocks[BACKBONES[type(model).__name__].find_blocks(model)[-1]].register_forward_hook(stop)
    with FlopCounterMode(display=False) as part, contextlib.suppress(Reached):
        model(**call)
    return whole.get_total_flops() / 1e12, part.get_total_flops() / 1e12


def decoding_of(channels: int) -> float:
    """TFLOPs of decoding one image of 1024 pixels with the autoencoder of SDXL (4 channels) or FLUX (16)."""
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        decoder = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), latent_channels=channels, layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
        latents = torch.zeros(1, channels, 128, 128)
    with FlopCounterMode(display=False) as counter:
        decoder.decode(latents)
    return counter.get_total_flops() / 1e12


def equal_compute(scorer, reward, prompts: list[str], count: int) -> dict[str, float]:
    """Equal compute of each policy over the first `count` seeds of some prompts, all of which are also made in full."""
    finals: list[list[float]] = []
    gains: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    spent = dict.fromkeys(POLICIES, 0.0)
    for prompt in prompts:
        for policy in ("full", *(p for p in POLICIES if p != "full")):
            found = select_pair(
                scorer, [(prompt, s) for s in range(count)], policy=policy, reward=reward, against=prompt
            )
            if policy == "full":
                rewards = {s.seed: s.reward or 0.0 for s in found.seeds}
                finals.append(list(rewards.values()))
            gains[policy].append(rewards[found.best[0]] - statistics.mean(finals[-1]))
            spent[policy] += found.denoiser_calls / scorer.steps / len(prompts)
    curve = best_of_n(finals).mean(1)
    return {p: equal_images(statistics.mean(gains[p]), curve) / spent[p] for p in POLICIES}


def main() -> None:
    """Time each policy `--repeats` times and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--model", default=DEFAULT, help="a built-in world")
    parser.add_argument("--growth", action="store_true", help="also: cost against the number of candidates")
    parser.add_argument("--gains", type=Path, help="a file of prompts, for the column of equal compute")
    parser.add_argument("--prompts", type=int, default=20, help="of that file")
    parser.add_argument("--size", type=int, help="pixels of a side, instead of the world's own")
    args = parser.parse_args()
    # A pipeline handed over is taken at any size; by name a built-in world is refused another than its own.
    own = load_pipeline(args.model) if args.size else None
    scorer, reward = make_scorer(args.model, pipeline=own, height=args.size, width=args.size), load_reward("icons")
    console = Console(width=160)
    models = {name: (*flops_of(build), decoding_of(n)) for name, build, n in (("SDXL", sdxl, 4), ("FLUX", flux, 16))}
    for name, (step, part, decoding) in models.items():
        console.print(
            f"{name}: a step {step:.2f} TFLOPs, {part / step:.2f} of it until the last probed block, decoding {decoding:.2f}"
        )
    tasks = {
        "seed selection, 10 seeds": [(PROMPT, s) for s in range(10)],
        "prompt optimisation, 4 prompts": [(p, 0) for p in WORDINGS],
    }
    equal = {}
    if args.gains:
        equal = equal_compute(scorer, reward, read_prompts(args.gains).prompts[: args.prompts], 10)
    for name, pairs in tasks.items():
        measured = {}
        for policy in POLICIES:
            select_pair(scorer, pairs, policy=policy, reward=reward, against=PROMPT)  # warm up
            with FlopCounterMode(display=False) as counter:
                found = select_pair(scorer, pairs, policy=policy, reward=reward, against=PROMPT)
            probes = sum(len(s.predicted) for s in found.seeds)
            probed = [s for s in found.seeds if s.predicted]
            probes = sum(len(s.predicted) for s in probed)
            last = max((max(s.predicted) for s in probed), default=0)
            cut = sum(last in s.predicted for s in probed)  # were probed at the last stage
            measured[policy] = [found.denoiser_calls, counter.get_total_flops() / 1e9, [], probes, cut]
        for _ in range(args.repeats):  # interleaved, so that all meet the same machine
            for policy in POLICIES:
                began = time.perf_counter()
                select_pair(scorer, pairs, policy=policy, reward=reward, against=PROMPT)
                measured[policy][2].append(time.perf_counter() - began)
        table = Table("policy", "equal compute", "calls", "GFLOPs", "seconds", "faster", title=name)
        for model in models:
            table.add_column(f"{model} TFLOPs")
            table.add_column("less")
            table.add_column("cut")
        table.add_column("FLUX s")
        table.add_column("faster")
        whole = statistics.median(measured["full"][2])
        for policy in ("full", *(p for p in POLICIES if p != "full")):
            calls, flops, times, probes, cut = measured[policy]
            seconds = statistics.median(times)
            known = f"{equal[policy]:.2f}x" if equal and len(pairs) == 10 else ""
            row = [policy, known, str(calls), f"{flops:.1f}", f"{seconds:.3f}", f"{whole / seconds:.2f}x"]
            decoded = len(pairs) if policy in ("full", "decoded") else 1
            for step, part, decoding in models.values():
                work = calls * step + decoded * decoding + probes * PAPER["probe TFLOPs"]
                full = len(pairs) * (scorer.steps * step + decoding)
                saved = cut * (step - part) - step  # of all that are probed last, but the winner makes the step anew
                less = f"{full / (work - max(saved, 0)):.2f}x" if policy in ("fixed", "racing") else ""
                row += [f"{work:.0f}", f"{full / work:.2f}x", less]
            # Decoding and measuring an image has no published time to project from.
            flux_seconds = calls / scorer.steps * PAPER["seconds"] + probes * PAPER["probe seconds"]
            full_seconds = len(pairs) * PAPER["seconds"]
            row += ["", ""] if policy == "decoded" else [f"{flux_seconds:.1f}", f"{full_seconds / flux_seconds:.2f}x"]
            table.add_row(*row)
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
