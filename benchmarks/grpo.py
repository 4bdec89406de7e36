"""Flow-GRPO in the icon world with each filter, at the same denoiser calls: held-out reward and checker as they learn.

    python benchmarks/grpo.py --out data/grpo [--base FOLDER] [--calls 30000] [--seeds 3] [--minutes 10]
    python benchmarks/grpo.py --out data/grpo --table

Learns from a few plain captions of two groups and a third as many of one; looks at them with other seeds, and at others of two groups and
of one that it never learns from, in `--watch-steps` steps. The trained reward is the exact checker's (the share of wishes met, and one more
for an image that meets all), or `icons`; the other is watched. `--base` is a folder with another checkpoint's `diffusion_pytorch_model.safetensors`; without it
runs begin from the shipped weights, and with `--weaken` from those with noise added. Resumable: rows are written as they come, a run
that is whole is not made again, one that was cut off goes on from its last look.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from promptprobe.decoders import decoder_for
from promptprobe.evaluation import mean_interval
from promptprobe.grpo.learning import Learner, Recipe
from promptprobe.grpo.policy import Policy
from promptprobe.grpo.state import State, read_state
from promptprobe.grpo.watch import diversity
from promptprobe.icons.captions import caption
from promptprobe.icons.checker import check
from promptprobe.icons.scenes import random_scene
from promptprobe.judges import choose_judge
from promptprobe.pipelines import open_pipeline
from promptprobe.rewards import RewardFunction, load_reward, measure
from promptprobe.trajectory import preview, start
from promptprobe.worlds import world_of

FILTERS = ("none", "preview", "random", "probe")
LEARNED = 16  # captions of those learned from that are looked at, too


def pipeline_of(args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """A fresh pipeline with the weights to begin from."""
    pipeline, settings = open_pipeline("icons")
    denoiser = pipeline.transformer
    if args.base:
        from safetensors.torch import load_file

        weights = load_file(args.base / "diffusion_pytorch_model.safetensors")
        denoiser.load_state_dict({n: w.float() for n, w in weights.items()})
    if args.weaken:
        chance = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in denoiser.parameters():
                p += args.weaken * p.std(correction=0) * torch.randn(p.shape, generator=chance)
    return pipeline, settings


def captions(groups: int, count: int, seed: int) -> list[tuple[Any, str]]:
    """Scenes and their plain captions."""
    rng = np.random.default_rng([seed, groups])
    scenes = [random_scene(rng, groups=groups) for _ in range(count)]
    return [(s, caption(s, "plain", rng)) for s in scenes]


def learned_from(args: argparse.Namespace, seed: int) -> list[tuple[Any, str]]:
    """The captions of a run: of two groups, and a third as many of one."""
    return captions(1, args.prompts // 3, seed) + captions(2, args.prompts, seed)


def checker_reward(pairs: list[tuple[Any, str]]) -> RewardFunction:
    """The exact checker as a reward: the share of a scene's wishes that an image meets, and one more when it meets all."""
    scenes = {text: scene for scene, text in pairs}

    def checked(images: Sequence[Image.Image], texts: Sequence[str]) -> torch.Tensor:
        verdicts = [check(scenes[t], np.asarray(i)) for i, t in zip(images, texts, strict=True)]
        return torch.tensor([float(np.mean(list(vars(v).values()))) + v.passed for v in verdicts])

    return checked


@torch.no_grad()
def look(
    pipeline: Any, settings: dict[str, Any], decoder: Any, rewards: dict[str, Any], args: argparse.Namespace, seed: int
) -> dict:
    """Held-out figures: rewards and checker of captions with two groups and one, and diversity."""
    row: dict[str, float] = {}
    own = learned_from(args, seed)
    sets = {
        "learned": [p for p in own[:: max(1, len(own) // LEARNED)][:LEARNED] for _ in range(8)],
        "2": captions(2, args.captions, 999),
        "1": captions(1, args.captions // 2, 999),
    }
    for groups, pairs in sets.items():
        values: dict[str, list[float]] = defaultdict(list)
        images = []
        for i in range(0, len(pairs), 48):
            part = pairs[i : i + 48]
            texts = [t for _, t in part]
            paused = start(
                pipeline,
                texts,
                range(i, i + len(part)),
                steps=args.watch_steps,
                stop=args.watch_steps,
                blocks=[],
                **settings,
            )
            drawn = preview(pipeline, paused, decoder=decoder)
            images += drawn
            for name, reward in rewards.items():
                values[name] += measure(reward, drawn, texts).tolist()
            values["checker"] += [check(s, np.asarray(im)).passed for (s, _), im in zip(part, drawn, strict=True)]
        row |= {f"{name} {groups}": float(np.mean(v)) for name, v in values.items()}
    twins = [t for _, t in captions(2, 6, 999) for _ in range(3)]
    paused = start(
        pipeline, twins, range(len(twins)), steps=args.watch_steps, stop=args.watch_steps, blocks=[], **settings
    )
    row["diversity"] = diversity(preview(pipeline, paused, decoder=decoder), 3)
    return row


def run(args: argparse.Namespace, which: str, seed: int, out: Path) -> None:
    """One run to `--calls` denoiser calls, or until its `--minutes` are over."""
    out.mkdir(parents=True, exist_ok=True)
    if (out / "done").exists():
        return
    pipeline, settings = pipeline_of(args)
    world = world_of("icons")
    decoder, _ = decoder_for(pipeline, "auto", world.tiny if world else None)
    rewards = {n: load_reward(n) for n in ("icons", "icons-aesthetic")}
    noisy = args.noisy if args.likelihood == "path" else 0
    walked = settings | {"true_cfg_scale": args.guidance}
    policy = Policy(pipeline, steps=args.steps, rank=args.rank, level=0.7, noisy=noisy, settings=walked, seed=seed)
    judge = None
    if which in ("probe", "preview"):
        reward = "icons" if which == "preview" else None
        judge, _ = choose_judge(
            which, pipeline, model="icons", probe=None, objective=None, reward=reward, settings=walked,
            find_decoder=lambda: decoder,
        )  # fmt: skip
    recipe = Recipe(
        groups=args.groups, size=args.size, filter=which, filter_step=args.filter_step, share=args.share,
        wider=args.wider if which in ("probe", "preview") else 1.0, rate=args.rate, kl=args.kl, batch_size=args.batch_size,
        margin=0.05, seed=seed, likelihood=args.likelihood, draws=args.draws,
    )  # fmt: skip
    pairs = learned_from(args, seed)
    trained = checker_reward(pairs) if args.reward == "checker" else rewards["icons"]
    learner = Learner(policy, trained, [t for _, t in pairs], recipe, judge, decoder)
    told = {n: str(v) for n, v in vars(args).items() if n not in ("out", "minutes", "table", "filters", "seeds")} | {
        "filter": which
    }
    state = read_state(out, told)
    spent = 0.0
    if state is not None:
        state.put_back(learner)
        spent = json.loads((out / "spent.json").read_text())
    lines = out / "rows.jsonl"
    kept = (
        [r for r in map(json.loads, lines.read_text().splitlines()) if r["iteration"] <= learner.iteration]
        if lines.exists()
        else []
    )
    lines.write_text("".join(json.dumps(r) + "\n" for r in kept))
    began, mark = time.process_time() - spent, time.monotonic()

    def note(kind: str, row: dict[str, Any]) -> None:
        with lines.open("a") as file:
            file.write(json.dumps({"kind": kind, "filter": which, "seed": seed, **row}) + "\n")

    while True:
        due = int(learner.calls / args.calls * (args.looks - 1)) + 1  # looks that should have been made
        if sum(r["kind"] == "look" for r in kept) < due or learner.calls >= args.calls:
            paused_at = time.process_time()
            figures = look(pipeline, walked, decoder, rewards, args, seed)
            row = {"iteration": learner.iteration, "calls": learner.calls, "cpu": paused_at - began, **figures}
            note("look", row)
            kept.append({"kind": "look", **row})
            began += time.process_time() - paused_at
            State.of(learner, told).write(out)
            (out / "spent.json").write_text(json.dumps(time.process_time() - began))
            print(which, seed, {n: round(v, 3) for n, v in row.items()}, flush=True)
        if learner.calls >= args.calls or time.monotonic() - mark > 60 * args.minutes:
            break
        row = learner.step()
        kept.append({"kind": "step", **row})
        note("step", {**row, "cpu": time.process_time() - began})
    (out / "done").write_text("")


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in sorted(out.glob("*/rows.jsonl")) for line in file.read_text().splitlines()]


def calls_to(looks: list[dict[str, Any]], name: str, wanted: float) -> float:
    """Denoiser calls until a figure of the looks is first reached, between looks on a line; nan if never."""
    for one, other in pairwise(looks):
        a, b = one[name], other[name]
        if b >= wanted:
            return float(one["calls"] + (other["calls"] - one["calls"]) * max(0.0, (wanted - a) / max(b - a, 1e-9)))
    return float("nan")


def table(out: Path, reward: str) -> None:
    """What there is so far: means over seeds with 95 % intervals, the runs' own gains paired with their first look."""
    rows = rows_of(out)
    runs: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["kind"] == "look":
            runs[row["filter"]][row["seed"]].append(row)
    shown = Table(
        "filter",
        "runs",
        "calls",
        "CPU s",
        "reward",
        "checker",
        "reward 2",
        "checker 2",
        "checker 1",
        "aesthetic 2",
        "diversity",
        "calls to none's end",
        "valid",
        "judge",
    )
    name = f"{reward} learned"
    ends = {seed: looks[-1][name] for seed, looks in runs["none"].items()}
    full = {seed: looks[-1]["calls"] for seed, looks in runs["none"].items()}
    for which in FILTERS:
        looks = runs[which]
        if not looks:
            continue
        steps = [r for r in rows if r["kind"] == "step" and r["filter"] == which]

        def gain(of: str, looks: Any = looks) -> str:
            first = np.mean([one[0][of] for one in looks.values()])
            f = mean_interval([one[-1][of] - one[0][of] for one in looks.values()])
            return f"{first:.3f} {f.value:+.3f} [{f.low:+.3f}, {f.high:+.3f}]"

        share = [calls_to(one, name, ends[seed]) / full[seed] for seed, one in looks.items() if seed in ends]
        judged = [r["judge"] for r in steps if isinstance(r.get("judge"), float) and np.isfinite(r["judge"])]
        shown.add_row(
            which, str(len(looks)), f"{np.mean([o[-1]['calls'] for o in looks.values()]):.0f}",
            f"{np.mean([o[-1]['cpu'] for o in looks.values()]):.0f}", gain("icons learned"), gain("checker learned"), gain("icons 2"), gain("checker 2"), gain("checker 1"),
            gain("icons-aesthetic 2"), gain("diversity"), ", ".join(f"{s:.2f}" for s in share) or "-",
            f"{np.mean([r['valid'] for r in steps]):.2f}", f"{np.mean(judged):.2f}" if judged else "-",
        )  # fmt: skip
    Console(width=220).print(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/grpo"))
    parser.add_argument("--base", type=Path)
    parser.add_argument("--weaken", type=float, default=0.0)
    parser.add_argument("--filters", nargs="+", default=list(FILTERS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--calls", type=float, default=30000)
    parser.add_argument("--reward", default="checker", choices=["checker", "icons"], help="what is learned")
    parser.add_argument(
        "--guidance", type=float, default=1.0, help="of all images; 1 is none, at half the cost (the world's own is 4)"
    )
    parser.add_argument("--minutes", type=float, default=60, help="of one run, at most")
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--size", type=int, default=12)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--filter-step", type=int, default=3)
    parser.add_argument("--noisy", type=int, default=2)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--wider", type=float, default=1.0)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--kl", type=float, default=0.2)
    parser.add_argument("--likelihood", default="matching", choices=["path", "matching"])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--prompts", type=int, default=12, help="captions learned from")
    parser.add_argument("--captions", type=int, default=96)
    parser.add_argument("--watch-steps", type=int, default=8)
    parser.add_argument("--looks", type=int, default=5, help="at held-out captions in a run, the first before it")
    parser.add_argument("--table", action="store_true", help="only print what there is")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.table:
        for seed in range(args.seeds):
            for which in args.filters:
                run(args, which, seed, args.out / f"{which}-{seed}")
    table(args.out, args.reward)


if __name__ == "__main__":
    main()
