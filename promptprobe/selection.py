"""What a search over seeds leaves behind: a record for each seed, and the outcome of all."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from PIL import Image


@dataclass
class SeedRecord:
    """One (prompt, seed): predicted reward after each probed step, where it stopped, and its measured reward if it was
    finished."""

    prompt: str
    seed: int
    predicted: dict[int, float] = field(default_factory=dict)
    stopped_at: int = 0
    why: str = ""
    reward: float | None = None
    image: str | None = None

    @property
    def last(self) -> float:
        """The latest prediction; minus infinity before there is one."""
        return self.predicted[max(self.predicted)] if self.predicted else -math.inf


@dataclass
class SeedSelection:
    """The outcome of a search. `best` are seeds, the best first; `winners` their records, `images` theirs.

    `judges` are the names of those that looked, in order: one, or another for the last stage; none for `full`.
    """

    prompt: str
    policy: str
    judges: list[str]
    best: list[int]
    seeds: list[SeedRecord]
    winners: list[SeedRecord] = field(repr=False)
    denoiser_calls: float
    full_calls: int
    seconds: float
    notes: list[str]
    images: list[Image.Image] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the images."""
        values = {k: v for k, v in vars(self).items() if k not in ("images", "seeds", "winners")}
        return values | {"seeds": [asdict(s) for s in self.seeds]}
