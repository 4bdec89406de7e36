"""One race for seeds, wordings and pairs: trajectories go on in stages, and what can hardly win any more is dropped.

Comes in: (prompt, seed) pairs, which of them are one competitor (a wording on all its seeds), which competitors are
rivals. Goes out, stage by stage: what is still alive, what the judge says of it, what was dropped and why. How far a
stage goes and how many go on is the caller's policy; how good they are is the judge's business.
Source: successive elimination, Even-Dar et al., JMLR 2006.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image

from .errors import InputError
from .events import OnStep
from .judges import Judge, Judgement
from .paused import Paused
from .runner import Runner
from .trajectory import finish

HOPELESS = 0.1  # what has less than this chance to be among the best is given up


class Row(NamedTuple):
    """One trajectory: its place among the pairs, and where it is paused (nowhere before the first stage)."""

    place: int
    paused: Paused | None = None
    row: int = 0


class Dropped(NamedTuple):
    """A competitor that was given up, why, and its trajectories where they stopped."""

    competitor: int
    why: str
    rows: list[Row]


class Race:
    """Trajectories on their way. `alive` are rows in the order of the pairs, `latest[place]` what was last said of each,
    `calls[place]` the denoiser calls that it took."""

    def __init__(
        self,
        runner: Runner,
        pairs: Sequence[tuple[str, int]],
        *,
        competitors: Sequence[int] | None = None,
        groups: Sequence[int] | None = None,
        against: Sequence[str] | None = None,
        on_step: OnStep | None = None,
        words: bool = False,
    ):
        """`competitors[i]` is whose pair i is (default: each its own), `groups[c]` who competes with competitor c
        (default: all with all), `against[i]` the prompt that pair i is measured against (default: its own). With `words`,
        token maps are read to diagnose words, whether or not the judge reads any."""
        self.runner, self.pairs, self.on_step, self.words = runner, list(pairs), on_step, words
        self.competitors = list(range(len(pairs)) if competitors is None else competitors)
        self.groups = list([0] * (max(self.competitors) + 1) if groups is None else groups)
        self.against = list([p for p, _ in pairs] if against is None else against)
        self.alive = [Row(i) for i in range(len(pairs))]
        self.latest: list[Judgement | None] = [None] * len(pairs)
        self.calls: list[float] = [0.0] * len(pairs)
        self.step = 0

    def to(self, step: int, judge: Judge | None = None, winners: int | None = None) -> None:
        """Denoise everything alive to `step` and judge it (default: the runner's judge); what is there already is only judged.

        Told how many trajectories will go on at most (`winners`), the denoiser does no more in this step than the judge
        needs to see, where that saves more than making the winners' step anew costs.
        """
        runner = self.runner
        chosen = judge or runner.judge
        cut = runner.cuts(len(self.alive), winners, chosen)

        def work(batch: list[Row]) -> tuple[list[Row], Paused, Sequence[int], list[Judgement]]:
            before, rows = batch[0].paused, [r.row for r in batch]
            there = None  # the rows to judge of a batch that goes no further
            if before is None:
                paused = runner.begin([self.pairs[r.place] for r in batch], step, chosen, self.on_step, cut, self.words)
            elif before.step < step:
                paused = runner.go_on(before, rows, step, chosen, self.on_step, cut, self.words)
            else:
                paused, there = before, rows
            judged = runner.judged(paused, step, chosen, [self.against[r.place] for r in batch], there)
            return batch, paused.reduced(), there or range(len(batch)), judged

        arrived: list[Row] = []
        for batch, paused, at, judged in runner.fitting(self.alive, work, lambda r: r.paused):
            done = 0 if batch[0].paused is None else batch[0].paused.step
            for row, i, judgement in zip(batch, at, judged, strict=True):
                self.latest[row.place] = judgement
                self.calls[row.place] += runner.calls_of(paused, step, chosen) - done
                arrived.append(Row(row.place, paused, i))
        self.alive, self.step = arrived, step

    def value(self, place: int) -> float:
        """What was last predicted of a pair; minus infinity before the first stage."""
        judgement = self.latest[place]
        return -math.inf if judgement is None else judgement.predicted

    def best(self) -> tuple[Paused, int] | None:
        """The trajectory of the highest value: its paused batch and row; None before the first stage."""
        row = max(self.alive, key=lambda r: self.value(r.place), default=None)
        return None if row is None or row.paused is None else (row.paused, row.row)

    def error(self, place: int) -> float | None:
        """The standard error of what was last predicted of a pair; None where the judge doesn't know it."""
        judgement = self.latest[place]
        return None if judgement is None else judgement.uncertainty

    def rule_out_what_is_no_number(self) -> list[int]:
        """Take out trajectories whose latents or prediction are not finite; their places.

        Raises `InputError` when nothing is left.
        """
        kept = [
            r for r in self.alive
            if math.isfinite(self.value(r.place)) and r.paused is not None
            and bool(torch.isfinite(r.paused.latents[r.row]).all())
        ]  # fmt: skip
        if not kept:
            raise InputError(
                f"all {len(self.alive)} seeds gave values that are no numbers at step {self.step}; try --dtype float32"
            )
        gone = [r.place for r in self.alive if r not in kept]
        self.alive = kept
        return gone

    def drop(self, most: int | None = None, top: int = 1) -> list[Dropped]:
        """In each group, give up what can hardly be among the `top` any more, and all but the `most` best.

        The chance is the judge's: a normal error of its uncertainty in both. Of a judge that doesn't know how sure it is,
        only `most` counts.
        """
        rows: dict[int, list[Row]] = {}
        for r in self.alive:
            rows.setdefault(self.competitors[r.place], []).append(r)
        dropped: list[Dropped] = []
        for group in dict.fromkeys(self.groups[c] for c in rows):
            rivals = {c: self._mean([r.place for r in own]) for c, own in rows.items() if self.groups[c] == group}
            ranked = sorted(rivals, key=lambda c: (-rivals[c].predicted, c))
            bar = rivals[ranked[min(top, len(ranked)) - 1]]
            for i, c in enumerate(ranked):
                chance = chance_to_beat(rivals[c], bar)
                if most is not None and i >= max(most, top):
                    why = f"not among the best {max(most, top)} at step {self.step}"
                elif i >= top and chance is not None and chance < HOPELESS:
                    best = "the best" if top == 1 else f"among the best {top}"
                    why = f"a chance of {chance:.2f} to be {best} at step {self.step}"
                else:
                    continue
                dropped.append(Dropped(c, why, rows[c]))
        out = {d.competitor for d in dropped}
        self.alive = [r for r in self.alive if self.competitors[r.place] not in out]
        return dropped

    def _mean(self, places: list[int]) -> Judgement:
        """What is said of several seeds of one prompt, taken together."""
        judged = [j for j in (self.latest[p] for p in places) if j is not None]
        mean = sum(j.predicted for j in judged) / len(judged)
        errors = [j.uncertainty for j in judged if j.uncertainty is not None]
        if len(errors) < len(judged):
            return Judgement(mean)
        return Judgement(mean, math.sqrt(sum(e * e for e in errors)) / len(errors))

    def finish(self, rows: Sequence[Row]) -> list[Image.Image]:
        """Finish some of what is alive; their images, in order."""
        images: list[Image.Image] = []

        def work(batch: list[Row]) -> Any:
            return finish(self.runner.pipeline, batch[0].paused, [r.row for r in batch], on_step=self.on_step)  # type: ignore[arg-type]

        for made in self.runner.fitting(rows, work, lambda r: r.paused):
            images += made
        for r in rows:
            self.calls[r.place] += self.runner.steps - r.paused.step  # type: ignore[union-attr]
        return images


def chance_to_beat(one: Judgement, other: Judgement) -> float | None:
    """The chance that what was predicted lower turns out to be higher; None when the judge is not sure of its sureness."""
    if one.uncertainty is None or other.uncertainty is None:
        return None
    spread = max(math.hypot(one.uncertainty, other.uncertainty), 1e-9)
    return 0.5 * math.erfc((other.predicted - one.predicted) / spread / math.sqrt(2))
