"""How well probes rank images at every step: overall, and among the seeds of one prompt; a table and a plot.

    python benchmarks/steps.py --test data/test-1 data/test-2 --seeds data/seeds-1 data/seeds-2 \
        --probe ours=promptprobe/icons/weights/probe --probe plain=checkpoints/plain --plot docs/steps.png

`--test` and `--seeds` are data sets made by `promptprobe collect` with several `--probe-step`s; those in `--seeds` have
several seeds a prompt. The plot needs matplotlib (`pip install 'promptprobe[plots]'`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from promptprobe import Probe, dataset, training
from promptprobe.evaluation import coverage, srcc, within_prompts


def main() -> None:
    """Evaluate every probe at every step that it and the data have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=Path, nargs="+", required=True)
    parser.add_argument("--probe", action="append", required=True, help="NAME=FOLDER")
    parser.add_argument("--label", default="icons")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    test, seeds = dataset.load(args.test), dataset.load(args.seeds)
    reward, own = test.rewards[args.label].numpy(), seeds.rewards[args.label].numpy()
    lines: dict[str, dict[str, list[float]]] = {}
    table = Table("step", title=f"SRCC of {args.label}, {len(test)} prompts / within a prompt, {len(seeds)} images")
    rows: dict[int, list[str]] = {k: [str(k)] for k in sorted(test.maps)}
    for given in args.probe:
        name, _, folder = given.partition("=")
        probe = Probe.load(folder)
        table.add_column(name)
        table.add_column("within")
        table.add_column("80 % covers")
        lines[name] = {"step": [], "overall": [], "within a prompt": []}
        for k, row in rows.items():
            if k not in probe.card.probe_steps:
                row += ["", "", ""]
                continue
            predicted = training.predict(probe, test, k)[args.label]
            within = within_prompts(seeds.prompts, training.predict(probe, seeds, k)[args.label], own, resamples=200)
            overall = srcc(predicted, reward)
            covered = coverage(probe.card, args.label, k, predicted, reward)["80%"]
            inside = f"{within.value:.2f} [{within.low:.2f}, {within.high:.2f}]" if within else ""
            row += [f"{overall:.3f}", inside, f"{covered:.3f}"]
            lines[name]["step"].append(k)
            lines[name]["overall"].append(overall)
            lines[name]["within a prompt"].append(within.value if within else float("nan"))
    for row in rows.values():
        table.add_row(*row)
    Console(width=140).print(table)
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
