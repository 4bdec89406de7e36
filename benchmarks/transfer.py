"""Probes read where they were not trained: on the other built-in world, in runs of other lengths and sizes, late in a run,
against another reward, and with content words only; beside what the paper reports of real models.

    python benchmarks/transfer.py PROMPTS [--out checkpoints/transfer] [--data icons-train=FOLDER ...]

PROMPTS is a folder made by `python -m worlds.icons.make_prompts`. What isn't there yet is collected into `--out` and kept
(about half an hour on two cores); `--data NAME=FOLDER` uses a data set made by `promptprobe collect` instead. All figures are of
the reward `icons`, in brackets their 95 % intervals. "Within" is the rank correlation among the seeds of a prompt.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from promptprobe import Probe, dataset, load_pipeline, training
from promptprobe.backbones import probed_blocks
from promptprobe.canonical import canonical, noise_level
from promptprobe.dataset import Items
from promptprobe.evaluation import Figure, agreement, within_prompts
from promptprobe.pipelines import pipeline_settings
from promptprobe.prompt_files import read_prompts
from promptprobe.rewards import load_reward
from promptprobe.tokens import tokenize_prompt
from promptprobe.words import FILLER, FUNCTION_WORDS
from promptprobe.worlds import world_of

WORLDS = ("icons", "icons-unet")
STEPS, WATCHED, LATE = 25, (1, 3, 5, 10, 15), (21, 22, 24)
REWARDS = ("icons", "icons-aesthetic", "colourfulness")
CHANNELS = 16  # of both worlds' autoencoder
FEW = (50, 200)
# arXiv:2602.23783, Table 1 (25 steps) and Table 6 (trained on FLUX, SDXL at 768 and FLUX at 2048 pixels): SRCC.
PAPER = {"icons 5": "FLUX 0.76", "icons 10": "FLUX 0.79", "icons-unet 5": "SDXL 0.73", "icons-unet 10": "SDXL 0.76"}
PAPER_TRANSFER = {"to icons-unet": "FLUX to SDXL 0.70", "size": "FLUX at 2048 px 0.79", "late": "0.76, 0.75, 0.74"}
PAPER_OTHER = {"reward": "CLIP score 0.72", "words": "about a tenth less"}


@dataclass
class Sets:
    """Where data sets are, and how those that are not there are made."""

    prompts: Path
    out: Path
    given: dict[str, list[Path]]

    def of(self, name: str, model: str, source: str, take: int, **how: Any) -> Items:
        """The data set `name`: given, or collected from the first `take` prompts of `source`."""
        if name in self.given:
            return dataset.load(self.given[name])
        folder = self.out / name
        size, seeds = how.pop("size", None), how.pop("seeds", 1)
        steps, watched = how.pop("steps", STEPS), how.pop("watched", WATCHED)
        prompts = read_prompts(self.prompts / f"{source}.txt").prompts[:take]
        console = Console(stderr=True)
        pipeline = load_pipeline(model)
        dataset.collect(
            pipeline, {n: load_reward(n) for n in REWARDS}, prompts, folder, steps=steps, probe_steps=watched,
            settings=pipeline_settings(model, height=size, width=size), blocks=probed_blocks(pipeline, "all"), model=model,
            seeds_per_prompt=seeds, seed=7 if seeds > 2 else 0,
            on_progress=lambda n, total: console.print(f"{name}: {n} of {total}", end="\r"),
        )  # fmt: skip
        return dataset.load([folder])


def shown(figure: Figure | None) -> str:
    """A figure with its interval, or nothing."""
    return f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}]" if figure else ""


def overall(probe: Probe, data: Items, step: int, label: str = "icons", head: str = "icons") -> dict[str, Figure]:
    """SRCC, KTC, PCC and AUC of a head's predictions against a reward."""
    return agreement(training.predict(probe, data, step)[head], data.rewards[label].numpy())


def srcc_of(probe: Probe, data: Items, step: int, label: str = "icons") -> str:
    return shown(overall(probe, data, step, label)["SRCC"])


def within(probe: Probe, data: Items, step: int) -> str:
    return shown(
        within_prompts(data.prompts, training.predict(probe, data, step)["icons"], data.rewards["icons"].numpy())
    )


def rows_of(data: Items, rows: torch.Tensor) -> Items:
    """Some items of a data set."""
    chosen = rows.tolist()
    some: dict[str, Any] = {
        name: {k: v[rows] for k, v in getattr(data, name).items()}
        for name in ("maps", "timesteps", "rewards", "latents", "image_features", "text_features")
    }
    return replace(
        data, prompts=[data.prompts[i] for i in chosen], seeds=[data.seeds[i] for i in chosen],
        counts=data.counts[rows], embeddings=data.embeddings[rows], **some,
    )  # fmt: skip


def split(data: Items, take: int, checked: float = 0.15) -> tuple[Items, Items]:
    """The first `take` items, parted by prompts into those to train on and those to choose the epoch by."""
    names = list(dict.fromkeys(data.prompts[:take]))
    held = set(names[: max(3, round(checked * len(names)))])
    rows = torch.arange(min(take, len(data)))
    mask = torch.tensor([p in held for p in data.prompts[:take]])
    return rows_of(data, rows[~mask]), rows_of(data, rows[mask])


def fitted(data: Items, take: int, variant: str, epochs: int, begin: Probe | None = None) -> Probe:
    """A probe of the first `take` items, fitted from scratch or from another one."""
    own, check = split(data, take)
    rate = 1e-3 if begin is None else 2e-4
    return training.train(
        own, check, labels=["icons"], variant=variant, epochs=epochs, learning_rate=rate, dropout=0.3, warm_start=begin,
        batch_size=min(64, len(own)),
    )  # fmt: skip


def content_only(data: Items, model: str) -> Items:
    """The data set with the tokens of function words and of words around a description left out."""
    pipeline, settings = load_pipeline(model), pipeline_settings(model)
    told = {k: v for k, v in settings.items() if k == "max_sequence_length"}
    maps = {k: torch.zeros_like(m) for k, m in data.maps.items()}
    embeddings, counts = torch.zeros_like(data.embeddings), data.counts.clone()
    for i, prompt in enumerate(data.prompts):
        words = tokenize_prompt(pipeline, prompt, told).words
        kept = [t for w in words if w.text.lower() not in FUNCTION_WORDS | FILLER for t in w.tokens]
        kept = [t for t in kept if t < int(data.counts[i])] or [0]
        counts[i] = len(kept)
        embeddings[i, : len(kept)] = data.embeddings[i, kept]
        for k, m in data.maps.items():
            maps[k][i, : len(kept)] = m[i, kept]
    return replace(data, maps=maps, embeddings=embeddings, counts=counts)


def across(sets: Sets, console: Console, items: int, epochs: int) -> None:
    """Own probes of both worlds by step, and each read on the other, as it is and after a few of the other's images."""
    train: dict[str, Items] = {}
    test: dict[str, Items] = {}
    seeds: dict[str, Items] = {}
    for world in WORLDS:
        noise = noise_level(load_pipeline(world).scheduler)
        for into, part in (
            (train, ("train", "train", items // 2)),
            (test, ("test", "test", 400)),
            (seeds, ("seeds", "validation", 40)),
        ):
            name, source, take = part
            several = {"train": 2, "seeds": 8}.get(name, 1)
            data = sets.of(f"{world}-{name}", world, source, take, seeds=several)
            into[world] = canonical(data, noise, CHANNELS)
    own = Table(
        "trained on",
        "reads",
        "step",
        "SRCC",
        "KTC",
        "PCC",
        "AUC",
        "within",
        "the paper, SRCC",
        title="each on its own world",
    )
    moved = Table(
        "trained on",
        "read on",
        "reads",
        "fitted on",
        "SRCC, step 5",
        "within, step 5",
        "SRCC, step 10",
        "the paper, SRCC",
        title="on the other world",
    )
    for variant, reads in (("plain", "maps (the paper's)"), ("maps", "maps"), ("latents", "maps, latents, text")):
        probes = {w: fitted(train[w], items, variant, epochs) for w in WORLDS}
        for world in WORLDS:
            for step in WATCHED:
                figures = [shown(f) for f in overall(probes[world], test[world], step).values()]
                paper = PAPER.get(f"{world} {step}", "")
                own.add_row(world, reads, f"{step}", *figures, within(probes[world], seeds[world], step), paper)
        for source, target in (WORLDS, WORLDS[::-1]):
            ways: dict[str, Probe] = {"nothing": probes[source]}
            for few in FEW:
                ways[f"{few} images"] = fitted(train[target], few, variant, 30, probes[source])
                ways[f"{few} images, from scratch"] = fitted(train[target], few, variant, 30)
            ways[f"its own world's {items}"] = probes[target]
            for what, probe in ways.items():
                moved.add_row(
                    source if "scratch" not in what and "own" not in what else "", target, reads, what,
                    srcc_of(probe, test[target], 5), within(probe, seeds[target], 5), srcc_of(probe, test[target], 10),
                    PAPER_TRANSFER.get(f"to {target}", "") if what == "nothing" and variant == "plain" else "",
                )  # fmt: skip
        console.print(own if variant == "latents" else f"{reads}: done")
    console.print(moved)


def elsewhere(sets: Sets, console: Console) -> None:
    """The shipped probes in runs of other lengths and sizes, late steps, other rewards, content words only."""
    table = Table("world", "what", "step", "SRCC", "AUC", "the paper, SRCC", title="the shipped probes, nothing fitted")
    for world in WORLDS:
        known: Any = world_of(world)
        probe = Probe.load(known.probe)
        test = sets.of(f"{world}-test", world, "test", 400)
        side = pipeline_settings(world).get("height", 256)

        def row(what: str, data: Items, step: int, label: str = "icons", paper: str = "", *, at=(world, probe)) -> None:
            figures = overall(at[1], chosen_blocks(data, at[1]), step, label)
            table.add_row(at[0], what, f"{step}", shown(figures["SRCC"]), shown(figures["AUC"]), paper)

        row("as trained", test, 5)
        for steps in (10, 50):
            data = sets.of(f"{world}-steps-{steps}", world, "test", 200, steps=steps, watched=(steps // 5,))
            row(f"{steps} steps", data, steps // 5)
        for scale in (0.75, 1.5):
            size = round(side * scale)
            row(
                f"{size} pixels",
                sets.of(f"{world}-size-{size}", world, "test", 200, size=size, watched=(5,)),
                5,
                paper=PAPER_TRANSFER["size"] if scale > 1 else "",
            )
        late = sets.of(f"{world}-late", world, "test", 200, watched=LATE)
        for step in LATE:
            row("late", late, step, paper=PAPER_TRANSFER["late"] if step == LATE[0] else "")
        for label in REWARDS[1:]:
            row(
                f"the head icons against {label}",
                test,
                5,
                label,
                paper=PAPER_OTHER["reward"] if "aesthetic" in label else "",
            )
        row("content words only", content_only(test, world), 5, paper=PAPER_OTHER["words"])
    console.print(table)


def chosen_blocks(data: Items, probe: Probe) -> Items:
    """The data with the maps of the probe's own blocks."""
    places = [data.settings["blocks"].index(b) for b in probe.card.blocks]
    return replace(
        data, maps={k: m[:, :, places] for k, m in data.maps.items()}, settings={**data.settings, "blocks": probe.card.blocks}
    )  # fmt: skip


def main() -> None:
    """Collect what isn't there, train, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/transfer"))
    parser.add_argument("--data", action="append", default=[], help="NAME=FOLDER; several times")
    parser.add_argument("--items", type=int, default=2400, help="images to train on, of each world")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--only", choices=("across", "elsewhere"))
    args = parser.parse_args()
    given: dict[str, list[Path]] = {}
    for entry in args.data:
        name, _, folder = entry.partition("=")
        given.setdefault(name, []).append(Path(folder))
    sets, console = Sets(args.prompts, args.out, given), Console(width=200)
    if args.only != "across":
        elsewhere(sets, console)
    if args.only != "elsewhere":
        across(sets, console, args.items, args.epochs)


if __name__ == "__main__":
    main()
