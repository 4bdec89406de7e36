"""Which seed of ten: mean real reward of the selected image, for every way to select, over many prompts in one run.

    python benchmarks/selection.py prompts/test.txt --prompts 200 --train prompts/train.txt

The first column is equal compute: how many images made in full give the same gain when the best is kept, over the images'
worth of denoising that was spent; what looks themselves cost is not in it.

Ways: a random seed, `fixed`, `racing` and `staged` (the probe), `staged` by previews, `full` (the oracle), decoding the clean latents predicted at
step 5 and measuring them with the reward model (`decoded`), the same for the last two of a race (`decoded-racing`), the focus of attention, and a linear probe on the denoiser's inner
activations at step 5 (after Probe-Select, arXiv:2603.02829), fitted here on other prompts.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from promptprobe.backbones import denoiser_of
from promptprobe.evaluation import best_of_n, equal_images, mean_interval, within_prompts
from promptprobe.judges import PreviewJudge
from promptprobe.prompt_files import read_prompts
from promptprobe.rewards import load_reward
from promptprobe.runs import make_scorer
from promptprobe.search import select_seed
from promptprobe.trajectory import finish, preview, start
from promptprobe.worlds import DEFAULT


class Activations:
    """Mean over places of the middle block's output at the last step, `[batch, channels]`, where the prompt is read."""

    def __init__(self, pipeline):
        self.calls: list[torch.Tensor] = []
        denoiser: Any = denoiser_of(pipeline)
        unet = hasattr(denoiser, "mid_block")
        (denoiser.mid_block if unet else denoiser.single_transformer_blocks[0]).register_forward_hook(self._keep)

    def _keep(self, module, args, output) -> None:
        states = (output[-1] if isinstance(output, tuple) else output).detach()
        self.calls = [*self.calls, states.flatten(2).mean(2) if states.ndim == 4 else states.mean(1)][-2:]

    def of(self, count: int) -> torch.Tensor:
        """Those of the `count` samples of the batch: one call's second half, or the first of two calls."""
        last = self.calls[-1]
        return (last[-count:] if len(last) > count else self.calls[0]).clone()


def run(scorer, reward, activations: Activations, prompts: list[str], seeds: list[int]) -> dict[str, Any]:
    """Everything that is known of (prompt, seed) pairs in one batch: features at the probe step, and the final reward."""
    paused = start(
        scorer.pipeline, prompts, seeds, steps=scorer.steps, stop=scorer.probe_step, blocks=scorer.blocks_of(scorer.judge),
        **scorer.settings,
    )  # fmt: skip
    inner = activations.of(len(prompts))
    maps = paused.token_maps[scorer.probe_step]
    shares = maps.flatten(3) / maps.flatten(3).sum(-1, keepdim=True).clamp_min(1e-9)
    entropy = -(shares * shares.clamp_min(1e-9).log()).sum(-1).mean(2)
    focus = [-float(entropy[i, : len(t.columns)].mean()) for i, t in enumerate(paused.tokens)]
    images: Any = finish(scorer.pipeline, paused)
    return {
        "activations": inner, "focus": focus, "reward": reward(images, prompts).tolist(),
        "decoded": reward(preview(scorer.pipeline, paused, decoder=scorer.decoder), prompts).tolist(),
        "probe": [j.predicted for j in scorer.judged(paused, scorer.probe_step)],
    }  # fmt: skip


def searches(scorer, reward, budget: float) -> dict[str, dict[str, Any]]:
    """The policies that are compared, by name, with what `select_seed` is told of each."""
    preview = PreviewJudge(scorer.pipeline, reward, decoder=scorer.decoder)
    return {
        "fixed": {"policy": "fixed"}, "racing": {"policy": "racing"}, "decoded-racing": {"policy": "decoded-racing"},
        "staged": {"policy": "staged", "budget": budget},
        "staged, preview": {"policy": "staged", "budget": budget, "judge": preview},
    }  # fmt: skip


def main() -> None:
    """Select with every way and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("test", type=Path)
    parser.add_argument("--model", default=DEFAULT, help="a built-in world")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--train", type=Path, required=True, help="prompts for the linear probe on activations")
    parser.add_argument("--train-images", type=int, default=1600)
    parser.add_argument("--budget", type=float, default=2.0, help="of the policy staged, in images")
    args = parser.parse_args()
    scorer, reward = make_scorer(args.model), load_reward("icons")
    activations = Activations(scorer.pipeline)
    rng = np.random.default_rng(0)
    train = read_prompts(args.train).prompts[: args.train_images // 2]
    xs, ys = [], []
    for i in range(0, len(train), 16):
        part = [p for p in train[i : i + 16] for _ in (0, 1)]
        seen = run(scorer, reward, activations, part, rng.integers(2**31, size=len(part)).tolist())
        xs.append(seen["activations"])
        ys += seen["reward"]
    x, y = torch.cat(xs), torch.tensor(ys)
    centred, spread = x.mean(0), x.std(0) + 1e-6
    z = (x - centred) / spread
    weight = torch.linalg.solve(z.T @ z + 10 * torch.eye(z.shape[1]), z.T @ (y - y.mean()))
    prompts = read_prompts(args.test).prompts[: args.prompts]
    seeds = list(range(args.seeds))
    gained: dict[str, list[float]] = {}
    ranks: dict[str, list[float]] = {}
    rewards: list[float] = []
    policies = searches(scorer, reward, args.budget)
    calls = dict.fromkeys(policies, 0.0)
    finals: list[list[float]] = []
    for prompt in prompts:
        seen = run(scorer, reward, activations, [prompt] * len(seeds), seeds)
        values = np.array(seen["reward"])
        rewards += seen["reward"]
        finals.append(seen["reward"])
        linear = (((seen["activations"] - centred) / spread) @ weight).tolist()
        ways = {"decoded step 5": seen["decoded"], "attention focus": seen["focus"], "linear on activations": linear}
        for name, score in {**ways, "probe, step 5": seen["probe"]}.items():
            ranks.setdefault(name, []).extend(score)
        for name, score in ways.items():
            gained.setdefault(name, []).append(float(values[int(np.argmax(score))]))
        gained.setdefault("random seed", []).append(float(values.mean()))
        gained.setdefault("full (oracle)", []).append(float(values.max()))
        for name, how in policies.items():
            found = select_seed(scorer, prompt, seeds, reward=reward, **how)
            calls[name] += found.denoiser_calls
            gained.setdefault(name, []).append(float(values[found.best[0]]))
    base, best = (np.array(gained[n]) for n in ("random seed", "full (oracle)"))
    curve = best_of_n(finals).mean(1)
    table = Table("way", "equal compute", "calls", "mean reward [95 %]", "share of the gain", "SRCC within a prompt")
    step_calls = args.seeds * scorer.probe_step + scorer.steps - scorer.probe_step
    costs = {
        "random seed": scorer.steps, "full (oracle)": args.seeds * scorer.steps,
        **{policy: spent / len(prompts) for policy, spent in calls.items()},
    }  # fmt: skip
    names = [p for p in prompts for _ in seeds]
    for name in (
        "random seed",
        "attention focus",
        "linear on activations",
        "fixed",
        "racing",
        "decoded-racing",
        "staged",
        "staged, preview",
        "decoded step 5",
        "full (oracle)",
    ):
        figure = mean_interval(gained[name])
        share = float((np.array(gained[name]) - base).mean() / (best - base).mean())
        rank = ranks.get({"fixed": "probe, step 5"}.get(name, name))
        within = within_prompts(names, rank, rewards) if rank is not None else None
        cost = costs.get(name, step_calls)
        equal = equal_images(float((np.array(gained[name]) - base).mean()), curve) / (cost / scorer.steps)
        table.add_row(
            name, f"{equal:.2f}x", f"{cost:.0f}", f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]",
            f"{share:.2f}", f"{within.value:.2f}" if within else "",
        )  # fmt: skip
    Console().print(table, f"{len(prompts)} prompts, {args.seeds} seeds each")


if __name__ == "__main__":
    main()
