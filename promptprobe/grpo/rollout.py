"""Groups of trajectories, a prompt each: begun together, judged half-way, the kept ones finished and measured.

Comes in: a policy, prompts, what judges. Goes out: finished trajectories with their paths and rewards, and what it cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image

from ..judges import Judge
from ..observation import observe
from ..paused import Paused
from ..rewards import RewardFunction, measure
from ..trajectory import advance, preview, start
from .policy import Policy


@dataclass
class Batch:
    """Trajectories denoised together: `groups` numbers each one's prompt, `predicted` `[n, features]` is what the judge
    said, one column for each of its views, `rewards` `[n]` what was measured of finished ones."""

    paused: Paused
    groups: list[int]
    predicted: torch.Tensor | None = None
    rewards: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    images: list[Image.Image] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.groups)


def begin(
    policy: Policy,
    groups: Sequence[tuple[int, str, Sequence[int]]],
    *,
    stop: int,
    judge: Judge | None,
    batch_size: int,
) -> Iterator[Batch]:
    """Walk groups (number, prompt, seeds) to step `stop`, as many whole groups at once as fit."""
    blocks = list(judge.needs.blocks) if judge is not None and judge.needs.maps else []
    at_once = max(1, batch_size // max(len(s) for _, _, s in groups))
    for i in range(0, len(groups), at_once):
        rows = [(number, prompt, seed) for number, prompt, seeds in groups[i : i + at_once] for seed in seeds]
        for part in (rows[j : j + batch_size] for j in range(0, len(rows), batch_size)):
            with policy.walking() as pipeline, torch.no_grad():
                paused = start(
                    pipeline, [p for _, p, _ in part], [s for _, _, s in part], steps=policy.steps, stop=stop,
                    watch=(stop,) if judge is not None else (), blocks=blocks if judge is not None else None,
                    gap=bool(judge and judge.needs.gap), **policy.settings,
                )  # fmt: skip
                views = judged(judge, paused, stop) if judge is not None else None
            yield Batch(paused.reduced(), [g for g, _, _ in part], views)


def judged(judge: Judge, paused: Paused, step: int) -> torch.Tensor:
    """What a judge says of each trajectory `[n, views]`: its prediction, and those of a probe's other heads."""
    seen = observe(paused, step)
    first = [j.predicted for j in judge.judge(seen)]
    probe = getattr(judge, "probe", None)
    others = [probe.predict(seen.only(probe.card.blocks), {n: 1.0}) for n in probe.card.labels] if probe else []
    return torch.tensor([first, *others], dtype=torch.float32).T


def complete(
    policy: Policy,
    batch: Batch,
    rows: Sequence[int],
    reward: RewardFunction,
    decoder: object | None,
) -> Batch:
    """The chosen trajectories walked to their end and measured."""
    with policy.walking() as pipeline, torch.no_grad():
        done = advance(pipeline, batch.paused, rows, stop=policy.steps, blocks=[])
        images = preview(pipeline, done, decoder=decoder)
    views = None if batch.predicted is None else batch.predicted[list(rows)]
    rewards = measure(reward, images, done.prompts)
    return Batch(done, [batch.groups[i] for i in rows], views, rewards, images)
