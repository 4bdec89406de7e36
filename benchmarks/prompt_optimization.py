"""Ways to treat a user's prompt, side by side on the same seeds: as it is, rewritten always or when below τ, best of N.

    python benchmarks/prompt_optimization.py [--set made|typed] [--prompts 200]

The prompts are those that `worlds/icons/make_prompts.py` makes by templates, or those typed by hand in `data/typed_prompts.jsonl`.
The reward is measured on the finished image against the *original* prompt. "by the probe alone" finishes the wording that the
probe predicts most of, without the last choice by predicted images. "best of N" generates the original and its
first rewrites in full and keeps the one with the highest measured reward: the ceiling, at full price; "share of the oracle's
gain" is a way's mean gain over that one's. The score-balanced set spreads the rewards of the prompts as they are evenly over
their range. All intervals are of 95 %.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from guard import share
from promptprobe.agents.offline import OfflineRewriter
from promptprobe.agents.optimize import optimize_with_image
from promptprobe.agents.rewrites import RewriteRequest, Try
from rich.console import Console
from rich.table import Table

from promptprobe import finish, start
from promptprobe.evaluation import Figure, balanced, mean_interval
from promptprobe.icons.checker import check
from promptprobe.icons.scenes import Scene
from promptprobe.rewards import load_reward
from promptprobe.runs import make_scorer
from promptprobe.worlds import DEFAULT, thesaurus_of

sys.path.insert(0, str(Path(__file__).parents[1]))
from worlds.icons.make_prompts import SIZES, read_scenes, write

STEPS = 25
TYPED = Path(__file__).parent / "data" / "typed_prompts.jsonl"
ORACLE = "best of N in full"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=("made", "typed"), default="made", help="made by templates, or typed by hand")
    parser.add_argument("--prompts", type=int, default=200, help="so many of them, from the first on")
    parser.add_argument("--model", default=DEFAULT, help="a built-in world")
    parser.add_argument("--tau", default="auto")
    args = parser.parse_args()
    rows = (made() if args.set == "made" else read_scenes(TYPED))[: args.prompts]
    scorer, reward = make_scorer(args.model), load_reward("icons")
    results: dict[str, list[tuple[float, bool, float, int]]] = {}
    needless: list[bool] = []  # of each prompt whose image was right as it is, whether it was rewritten

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
            needless.append(asked)
        rewards = reward(images, [prompt] * len(images))
        note(ORACLE, prompt, scene, images[int(rewards.argmax())], STEPS * len(texts), 1)
    console = Console(width=210)
    console.print(f"{len(rows)} {args.set} prompts, same seeds, rewriter: {OfflineRewriter.name}, τ {args.tau}")
    console.print(
        f"gated by τ, {sum(needless)} of {len(needless)} prompts whose image was right as it was were rewritten all the same",
        f"needlessly: {share(sum(needless), len(needless))}" if needless else "",
    )
    base = np.array([r[0] for r in results["as it is"]])
    sets = {"natural": np.arange(len(rows)), "score-balanced": balanced(base)}
    for name, chosen in sets.items():
        console.print(
            f"{name}: {len(chosen)} prompts", summary({w: np.array(v, float)[chosen] for w, v in results.items()})
        )


def made() -> list[tuple[str, Scene]]:
    """The prompts made by templates as users may type them, with their scenes."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), sizes={name: size for name, size in SIZES.items() if name != "texts"})
        return read_scenes(Path(folder) / "user_test.jsonl")


def share_of_gain(gain: np.ndarray, oracle: np.ndarray, resamples: int = 2000, seed: int = 0) -> Figure:
    """Mean gain over the oracle's mean gain, with its 95 % bootstrap interval over prompts; nan where the oracle gains nothing."""
    rows = np.random.default_rng(seed).integers(len(gain), size=(resamples, len(gain)))
    parts = np.array([gain.mean(), *gain[rows].mean(1)]), np.array([oracle.mean(), *oracle[rows].mean(1)])
    shares = np.divide(*parts, out=np.full(resamples + 1, np.nan), where=parts[1] > 0)
    if np.isnan(shares[1:]).all():
        return Figure(float(shares[0]), float("nan"), float("nan"))
    return Figure(float(shares[0]), *(float(v) for v in np.nanquantile(shares[1:], [0.025, 0.975])))


def text(figure: Figure) -> str:
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def summary(results: dict[str, np.ndarray]) -> Table:
    """Means with bootstrap intervals; `results` has (reward, passed, denoiser calls, rewriter calls) a prompt."""
    columns = (
        "mean reward",
        "gain over as it is",
        "share of the oracle's gain",
        "against always rewrite",
        "worse by more than 0.1",
        "checker passes",
    )
    table = Table("way", *columns, "denoiser calls", "rewriter calls")
    base, always = results["as it is"][:, 0], results["always rewrite"][:, 0]
    for way in ("as it is", "always rewrite", "gated by τ", "by the probe alone", ORACLE):
        values = results[way]
        worse = (values[:, 0] < base - 0.1).astype(float)
        gain = values[:, 0] - base
        of_oracle = share_of_gain(gain, results[ORACLE][:, 0] - base)
        reward, gained, against, bad, passed = map(
            mean_interval, (values[:, 0], gain, values[:, 0] - always, worse, values[:, 1])
        )
        table.add_row(
            way, *map(text, (reward, gained, of_oracle, against, bad, passed)),
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
