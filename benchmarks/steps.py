"""How well probes rank images at every step: overall, and among the seeds of one prompt; a table and a plot.

    python benchmarks/steps.py --test data/test-1 data/test-2 --seeds data/seeds-1 data/seeds-2 \
        --probe ours=promptprobe/icons/weights/probe --probe plain=checkpoints/plain --plot docs/steps.png

`--test` and `--seeds` are data sets made by `promptprobe collect` with several `--probe-step`s; those in `--seeds` have
several seeds a prompt. The plot needs matplotlib (`pip install 'promptprobe[plots]'`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from promptprobe import Probe, dataset, training
from promptprobe.evaluation import best_of_n, coverage, equal_images, srcc, within_prompts


def by_prompt(prompts: Sequence[str], values: np.ndarray) -> np.ndarray:
    """`[prompts, seeds]` of values whose prompts each have as many seeds, together."""
    return np.asarray(values, float).reshape(len(dict.fromkeys(prompts)), -1)


def worth(finals: np.ndarray, predicted: np.ndarray, step: int, steps: int) -> list[str]:
    """Share of the gain of finishing the seed that is predicted to be best, and equal compute, each with its interval."""
    taken = np.take_along_axis(finals, predicted.argmax(1)[:, None], 1)[:, 0] - finals.mean(1)
    most, curve = finals.max(1) - finals.mean(1), best_of_n(finals)
    spent = (finals.shape[1] * step + steps - step) / steps
    rng = np.random.default_rng(0)
    drawn = [np.arange(len(finals)), *(rng.integers(len(finals), size=len(finals)) for _ in range(1000))]
    figures = ([taken[d].sum() / most[d].sum() for d in drawn],
               [equal_images(taken[d].mean(), curve[:, d].mean(1)) / spent for d in drawn])  # fmt: skip
    return ["{:.2f} [{:.2f}, {:.2f}]".format(f[0], *np.quantile(f, (0.025, 0.975))) for f in figures]


def anatomy(name: str, probe: Probe, test: dataset.Items, seeds: dataset.Items, label: str) -> Table:
    """SRCC overall with an input of another prompt, and within a prompt with one of another seed: what the probe goes by."""
    table = Table("step", "", "as it is", "other maps", "other latents", "other text", title=name)
    reward, own = test.rewards[label].numpy(), seeds.rewards[label].numpy()
    count = len(seeds) // len(dict.fromkeys(seeds.prompts))
    another = torch.arange(len(test)).roll(1)
    seed = torch.arange(len(seeds)).reshape(-1, count).roll(1, 1).flatten()
    for k in [k for k in (5, 10, 15) if k in probe.card.probe_steps and k in test.maps]:
        overall = [f"{srcc(training.predict(probe, d, k)[label], reward):.2f}" for d in exchanged(test, another, k)]
        among = [within_prompts(seeds.prompts, training.predict(probe, d, k)[label], own, resamples=200)
                 for d in exchanged(seeds, seed, k)]  # fmt: skip
        table.add_row(f"{k}", "overall", *overall)
        inside = [f"{f.value:.2f} [{f.low:.2f}, {f.high:.2f}]" if f else "" for f in among]
        table.add_row("", "within a prompt", *inside[:3], "the same")
    return table


def exchanged(data: dataset.Items, rows: torch.Tensor, step: int) -> list[dataset.Items]:
    """The data as it is, and with the maps, the latents and the text of the items in `rows`."""
    changes: list[dict[str, Any]] = [
        {}, {"maps": {step: data.maps[step][rows]}}, {"latents": {step: data.latents[step][rows]}},
        {"embeddings": data.embeddings[rows], "counts": data.counts[rows]},
    ]  # fmt: skip
    return [replace(data, **change) for change in changes]


def main() -> None:
    """Evaluate every probe at every step that it and the data have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=Path, nargs="+", required=True)
    parser.add_argument("--probe", action="append", required=True, help="NAME=FOLDER")
    parser.add_argument("--label", default="icons")
    parser.add_argument("--anatomy", action="store_true", help="also: each input taken from another image")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    test, seeds = dataset.load(args.test), dataset.load(args.seeds)
    reward, own = test.rewards[args.label].numpy(), seeds.rewards[args.label].numpy()
    finals = by_prompt(seeds.prompts, own)
    lines: dict[str, dict[str, list[float]]] = {}
    table = Table("step", title=f"SRCC of {args.label}, {len(test)} prompts / within a prompt, {len(seeds)} images")
    rows: dict[int, list[str]] = {k: [str(k)] for k in sorted(test.maps)}
    for given in args.probe:
        name, _, folder = given.partition("=")
        probe = Probe.load(folder)
        table.add_column(name)
        table.add_column("within")
        table.add_column("80 % covers")
        table.add_column("share of the gain")
        table.add_column("equal compute")
        lines[name] = {"step": [], "overall": [], "within a prompt": []}
        for k, row in rows.items():
            if k not in probe.card.probe_steps:
                row += [""] * 5
                continue
            predicted = training.predict(probe, test, k)[args.label]
            among = training.predict(probe, seeds, k)[args.label]
            within = within_prompts(seeds.prompts, among, own, resamples=200)
            overall = srcc(predicted, reward)
            covered = coverage(probe.card, args.label, k, predicted, reward)["80%"]
            inside = f"{within.value:.2f} [{within.low:.2f}, {within.high:.2f}]" if within else ""
            row += [f"{overall:.3f}", inside, f"{covered:.3f}"]
            row += worth(finals, by_prompt(seeds.prompts, among), k, probe.card.steps)
            lines[name]["step"].append(k)
            lines[name]["overall"].append(overall)
            lines[name]["within a prompt"].append(within.value if within else float("nan"))
    for row in rows.values():
        table.add_row(*row)
    console = Console(width=190)
    console.print(table)
    if args.anatomy:
        for given in args.probe:
            name, _, folder = given.partition("=")
            console.print(anatomy(name, Probe.load(folder), test, seeds, args.label))
    if args.plot:
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), sharex=True)
        for axis, what in zip(axes, ("overall", "within a prompt"), strict=True):
            for name, values in lines.items():
                axis.plot(values["step"], values[what], marker="o", label=name)
            axis.set(title=what, xlabel="step of 25", ylabel="SRCC", ylim=(0, 1))
            axis.grid(alpha=0.3)
            axis.legend()
        figure.tight_layout()
        figure.savefig(args.plot, dpi=110)


if __name__ == "__main__":
    main()
