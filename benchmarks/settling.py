"""How early a picture settles: what the preview of each step says of the finished images, in built-in worlds and real models.

    python benchmarks/settling.py PROMPTS.txt [--model icons --model icons-unet] [--shift 1 --shift 2 --shift 3]
        [--data FILE.npz] [--out rewards.npz]

Of every step: the rank correlation of the preview's reward with the finished image's among the seeds of a prompt, and the
share of the gain from a random seed to the best that choosing by it keeps. FILE has rewards of real models, as for
`real_models.py`; its steps are shown at the same share of the run. `--out` keeps the rewards in that format.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from promptprobe import finish, load_pipeline, start
from promptprobe.decoders import decoder_for
from promptprobe.evaluation import Figure, mean_interval, srcc
from promptprobe.pipelines import pipeline_settings
from promptprobe.prompt_files import read_prompts
from promptprobe.rewards import load_reward, measure
from promptprobe.trajectory import preview
from promptprobe.worlds import DEFAULT, world_of

STEPS = 25


def rewards_of(model: str, shift: float | None, prompts: list[str], seeds: int, last: int) -> np.ndarray:
    """Rewards of the previews of steps 1 to `last` and of the finished image: float32 `[prompts, seeds, 25]`, nan between."""
    pipeline, reward, settings = load_pipeline(model), load_reward("icons"), pipeline_settings(model)
    decoder, _ = decoder_for(pipeline, "auto", getattr(world_of(model), "tiny", None))
    if shift is not None:
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, shift=shift)
    watched = range(1, last + 1)
    result = np.full((len(prompts), seeds, STEPS), np.nan, np.float32)
    for i, prompt in enumerate(track(prompts, f"{model}, shift {shift or 'its own'}")):
        texts = [prompt] * seeds
        held: Any = start(pipeline, texts, range(seeds), steps=STEPS, stop=STEPS, watch=watched, blocks=(), **settings)
        for k in watched:
            result[i, :, k - 1] = measure(reward, preview(pipeline, held, step=k, decoder=decoder), texts)
        images: Any = finish(pipeline, held)
        result[i, :, -1] = measure(reward, images, texts)
    return result


def within(rewards: np.ndarray, step: int) -> tuple[Figure, Figure]:
    """SRCC within a prompt, and share of the gain, at a step counted from 1."""
    seen, final = rewards[..., step - 1], rewards[..., -1]
    ranks = mean_interval([srcc(s, f) for s, f in zip(seen, final, strict=True)])
    base, best = final.mean(1), final.max(1)
    kept = np.take_along_axis(final, seen.argmax(1)[:, None], 1)[:, 0]
    rng = np.random.default_rng(0)
    drawn = [rng.integers(len(final), size=len(final)) for _ in range(2000)]
    low, high = np.quantile([(kept - base)[d].sum() / (best - base)[d].sum() for d in drawn], (0.025, 0.975))
    return ranks, Figure(float((kept - base).sum() / (best - base).sum()), float(low), float(high))


def cells_at(rewards: np.ndarray, step: int) -> list[str]:
    """Both figures at a step of 25, with 95 % intervals; of a run of other steps, between its two nearest, without."""
    exact = step * rewards.shape[-1] / STEPS
    before, after = within(rewards, max(1, math.floor(exact))), within(rewards, math.ceil(exact))
    if exact == int(exact):
        return [f"{f.value:.2f} [{f.low:.2f}, {f.high:.2f}]" for f in before]
    part = exact - math.floor(exact)
    return [f"{(1 - part) * a.value + part * b.value:.2f}" for a, b in zip(before, after, strict=True)]


def main() -> None:
    """Measure, and print one table of ranks and one of shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--model", action="append", help=f"a built-in world; several times; default: {DEFAULT}")
    parser.add_argument("--shift", action="append", type=float, help="of the default world's schedule; several times")
    parser.add_argument("--take", type=int, default=60, help="prompts of the file")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--last", type=int, default=15, help="the last step whose preview is measured")
    parser.add_argument("--data", type=Path, help="rewards of real models")
    parser.add_argument("--out", type=Path, help="an .npz file for the rewards")
    args = parser.parse_args()
    prompts = read_prompts(args.prompts).prompts[: args.take]
    measured: dict[str, np.ndarray] = {}
    for model in args.model or [DEFAULT]:
        for shift in (args.shift or [None]) if model == DEFAULT else [None]:
            name = model if shift is None else f"{model}, shift {shift:g}"
            measured[name] = rewards_of(model, shift, prompts, args.seeds, args.last)
    if args.out:
        np.savez(args.out, **{f"{name}/icons/plain": r for name, r in measured.items()})  # type: ignore[arg-type]
    if args.data:
        with np.load(args.data) as file:
            for key in ("flux", "sdxl"):
                rewards = file[f"{key}/image-reward/plain"].astype(np.float32)
                measured[key] = rewards[:, : len(rewards[0]) // args.seeds * args.seeds]
                # Every ten of the hundred seeds are a choice of their own.
                measured[key] = measured[key].reshape(-1, args.seeds, rewards.shape[-1])
    cells = [[cells_at(rewards, k) for rewards in measured.values()] for k in range(1, args.last + 1)]
    for i, what in enumerate(("SRCC within a prompt", "share of the gain")):
        table = Table("step of 25", *measured, title=what)
        for k, row in enumerate(cells, 1):
            table.add_row(f"{k}", *(pair[i] for pair in row))
        Console(width=160).print(table)


if __name__ == "__main__":
    main()
