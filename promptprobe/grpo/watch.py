"""What a policy draws of held-out prompts in full, without noise: rewards that it learns and others, and diversity.

Comes in: prompts and rewards. Goes out: a mean of each, and images. A learned reward that rises while the others or the diversity fall
is being cheated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from ..dataset import item_seed
from ..rewards import RewardFunction, measure
from ..trajectory import preview, start

SMALL = 32  # pixels of a side, for comparing images


@dataclass
class Watch:
    """Held-out `prompts`, `seeds` images of each in `steps` steps, and what measures them, by name."""

    prompts: Sequence[str]
    rewards: Mapping[str, RewardFunction]
    steps: int
    seeds: int = 2
    batch_size: int = 32
    settings: Mapping[str, Any] = field(default_factory=dict)
    decoder: Any = None

    def look(self, pipeline: Any) -> tuple[dict[str, float], list[tuple[str, Image.Image]]]:
        """Means of each reward and of the diversity, and the images, prompt by prompt."""
        items = [(p, item_seed(p, i, 0)) for p in self.prompts for i in range(self.seeds)]
        values: dict[str, list[float]] = {name: [] for name in self.rewards}
        drawn: list[tuple[str, Image.Image]] = []
        for i in range(0, len(items), self.batch_size):
            part = items[i : i + self.batch_size]
            paused = start(
                pipeline, [p for p, _ in part], [s for _, s in part], steps=self.steps, stop=self.steps, blocks=[],
                **self.settings,
            )  # fmt: skip
            images = preview(pipeline, paused, decoder=self.decoder)
            for name, reward in self.rewards.items():
                values[name] += measure(reward, images, paused.prompts).tolist()
            drawn += list(zip([p for p, _ in part], images, strict=True))
        row = {name: sum(v) / len(v) for name, v in values.items()}
        if self.seeds > 1:
            row["diversity"] = diversity([image for _, image in drawn], self.seeds)
        return row, drawn


def diversity(images: Sequence[Image.Image], seeds: int) -> float:
    """Mean distance between two images of a prompt (`seeds` in a row each): root mean square over pixels, 0 to 1."""
    import numpy as np

    small = np.stack([np.asarray(i.convert("RGB").resize((SMALL, SMALL)), np.float32) / 255 for i in images])
    pixels = torch.from_numpy(small).unflatten(0, (-1, seeds)).flatten(2)
    pairs = [(pixels[:, i] - pixels[:, j]).square().mean(1).sqrt() for i in range(seeds) for j in range(i)]
    return float(torch.stack(pairs).mean())
