"""Ways to treat a user's prompt, side by side on the same seeds: as it is, rewritten always or when below τ, best of N.

    python benchmarks/prompt_optimization.py [--prompts 200]

The reward is measured on the finished image against the *original* prompt. "by the probe alone" finishes the wording that the
probe predicts most of, without the last choice by predicted images. "best of N" generates the original and its
first rewrites in full and keeps the one with the highest measured reward: the ceiling, at full price. The score-balanced
set spreads the rewards of the prompts as they are evenly over their range.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from promptprobe.agents.offline import OfflineRewriter
from promptprobe.agents.optimize import optimize_with_image
from promptprobe.agents.rewrites import RewriteRequest, Try
from rich.console import Console
from rich.table import Table

from promptprobe import finish, start
from promptprobe.evaluation import balanced, mean_interval
from promptprobe.icons.checker import check
from promptprobe.rewards import load_reward
from promptprobe.runs import make_scorer
from promptprobe.worlds import DEFAULT, thesaurus_of

sys.path.insert(0, str(Path(__file__).parents[1]))
from worlds.icons.make_prompts import SIZES, read_scenes, write

STEPS = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--model", default=DEFAULT, help="a built-in world")
    parser.add_argument("--tau", default="auto")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), sizes={name: size for name, size in SIZES.items() if name != "texts"})
        rows = read_scenes(Path(folder) / "user_test.jsonl")[: args.prompts]
    scorer, reward = make_scorer(args.model), load_reward("icons")
    results: dict[str, list[tuple[float, bool, float, int]]] = {}
    needless = {True: 0, False: 0}  # of the prompts whose image was right as it is, how many were rewritten or not

    def note(way: str, original: str, scene, image, calls: float, rewrites: int) -> float:
        value = float(reward([image], [original])[0])
        results.setdefault(way, []).append((value, check(scene, np.asarray(image)).passed, calls, rewrites))
        return value

    def images_of(texts: list[str], seed: int):
        paused = start(scorer.pipeline, texts, [seed] * len(texts), stop=STEPS, watch=(), **scorer.settings)
        return finish(scorer.pipeline, paused)

    for seed, (prompt, scene) in enumerate(rows):
        asked = False
        for way, tau in (("gated by τ", args.tau), ("always rewrite", 99)):
            counting = Counting()
            record, image = optimize_with_image(
                prompt, seed=seed, rounds=1, tau=tau, scorer=scorer, rewriter=counting, reward=reward
            )
            note(way, prompt, scene, image, record.denoiser_calls["used"], counting.calls)
            if tau == args.tau:
                asked = counting.calls > 0
                probed = max((c for c in record.candidates if c.score is not None), key=lambda c: c.score or 0.0)
                alone = image if probed.prompt == record.best_prompt else images_of([probed.prompt], seed)[0]
                note("by the probe alone", prompt, scene, alone, record.denoiser_calls["used"], counting.calls)
        answer = OfflineRewriter(thesaurus_of(DEFAULT)).rewrite(
            RewriteRequest(prompt, 0.0, 99, [], [Try(prompt, 0.0)], 4, 38)
        )
        texts = [prompt, *(r.prompt for r in answer.rewrites)]
        images = images_of(texts, seed)
        note("as it is", prompt, scene, images[0], STEPS, 0)
        if results["as it is"][-1][1]:
            needless[asked] += 1
        rewards = reward(images, [prompt] * len(images))
        note("best of N in full", prompt, scene, images[int(rewards.argmax())], STEPS * len(texts), 1)
    console = Console(width=210)
    console.print(f"{len(rows)} prompts, same seeds, rewriter: {OfflineRewriter.name}, τ {args.tau}")
    right = sum(needless.values())
    console.print(
        f"gated by τ, {needless[True]} of {right} prompts whose image was right as it is were rewritten all the same"
    )
    base = np.array([r[0] for r in results["as it is"]])
    sets = {"natural": np.arange(len(rows)), "score-balanced": balanced(base)}
    for name, chosen in sets.items():
        console.print(
            f"{name}: {len(chosen)} prompts", summary({w: np.array(v, float)[chosen] for w, v in results.items()})
        )


def summary(results: dict[str, np.ndarray]) -> Table:
    """Means with bootstrap intervals; `results` has (reward, passed, denoiser calls, rewriter calls) a prompt."""
    columns = (
        "mean reward",
        "gain over as it is",
        "against always rewrite",
        "worse by more than 0.1",
        "checker passes",
    )
    table = Table("way", *columns, "denoiser calls", "rewriter calls")
    base, always = results["as it is"][:, 0], results["always rewrite"][:, 0]
    for way in ("as it is", "always rewrite", "gated by τ", "by the probe alone", "best of N in full"):
        values = results[way]
        worse = (values[:, 0] < base - 0.1).astype(float)
        figures = (values[:, 0], values[:, 0] - base, values[:, 0] - always, worse, values[:, 1])
        table.add_row(
            way, *(f"{f.value:.3f} [{f.low:.3f}, {f.high:.3f}]" for f in map(mean_interval, figures)),
            f"{values[:, 2].mean():.1f}", f"{values[:, 3].mean():.2f}",
        )  # fmt: skip
    return table


class Counting(OfflineRewriter):
    """The offline rewriter, with its calls counted as an LLM's would be."""

    def __init__(self) -> None:
        super().__init__(thesaurus_of(DEFAULT))
        self.calls = 0

    def rewrite(self, request):
        self.calls += 1
        return super().rewrite(request)


if __name__ == "__main__":
    main()
