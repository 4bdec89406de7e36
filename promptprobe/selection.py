"""What a search over seeds leaves behind: a record for each seed, and the outcome of all."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from PIL import Image

from .notebook import Pictured, figure, frame, picture_or_none, piece, short


@dataclass(repr=False)
class SeedRecord(Pictured):
    """One (prompt, seed): predicted reward after each probed step, where it stopped, and its measured reward if it was
    finished. `interval` are two bounds around the latest prediction between which eight of ten rewards lie, where the judge
    knows. `image` is its picture then, `image_file` the file that it was written to."""

    prompt: str
    seed: int
    predicted: dict[int, float] = field(default_factory=dict)
    stopped_at: int = 0
    why: str = ""
    reward: float | None = None
    image_file: str | None = None
    interval: list[float] | None = None

    @property
    def last(self) -> float:
        """The latest prediction; minus infinity before there is one."""
        return self.predicted[max(self.predicted)] if self.predicted else -math.inf

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `image` is the picture's file."""
        return {("image" if k == "image_file" else k): v for k, v in asdict(self).items()}

    def __repr__(self) -> str:
        last = figure(self.last if self.predicted else None)
        return f"<SeedRecord {self.seed} predicted {last}, reward {figure(self.reward)}, {self.why or 'not looked at'}>"

    def _repr_html_(self) -> str:
        facts = {"predicted at step": ", ".join(f"{k}: {v:.3f}" for k, v in self.predicted.items()),
                 "reward": figure(self.reward), "": self.why}  # fmt: skip
        return piece(self.prompt, facts, pictures=[(f"seed {self.seed}", picture_or_none(self))])


@dataclass(repr=False)
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
        return values | {"seeds": [s.as_dict() for s in self.seeds]}

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for each seed: `step K` is what was predicted after K steps. Raises `InputError` where
        pandas isn't installed."""
        steps = sorted({k for s in self.seeds for k in s.predicted})
        place = {seed: i for i, seed in enumerate(self.best, 1)}
        return frame(
            [
                {"prompt": s.prompt, "seed": s.seed, "place": place.get(s.seed)}
                | {f"step {k}": s.predicted.get(k) for k in steps}
                | {"stopped_at": s.stopped_at, "why": s.why, "reward": s.reward, "image": s.image_file}
                for s in self.seeds
            ]
        )

    def __repr__(self) -> str:
        best = ", ".join(map(str, self.best))
        return (
            f"<SeedSelection {short(self.prompt)} best {best} of {len(self.seeds)} seeds, "
            f"{self.denoiser_calls} of {self.full_calls} denoiser calls>"
        )

    def _repr_html_(self) -> str:
        rows = [
            (s.seed, figure(s.last if s.predicted else None), figure(s.reward), s.why)
            for s in sorted(self.seeds, key=lambda s: (s.seed not in self.best, -s.stopped_at, -s.last))
        ]
        facts = {"policy": self.policy, "judges": ", ".join(self.judges),
                 "steps": f"{self.denoiser_calls} of the denoiser, {self.full_calls} for making all"}  # fmt: skip
        shown = [(f"seed {s.seed}", image) for s, image in zip(self.winners, self.images, strict=False)]
        return piece(self.prompt, facts, ("seed", "predicted", "reward", ""), rows, shown)
