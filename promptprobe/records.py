"""What a run leaves behind: plain dataclasses that become JSON, and nothing secret in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from .errors import InputError
from .notebook import Pictured, figure, picture_or_none, piece, short
from .options import LoadingOptions, default_of, names_of
from .version import __version__


def whole(calls: float) -> float:
    """A number of denoiser calls for a record: an integer unless one of them was cut off."""
    return int(calls) if calls == int(calls) else round(calls, 2)


@dataclass(repr=False)
class CandidateRecord:
    """A prompt under consideration. Candidate 0 is the user's own. `rejected` is why it was thrown out.

    `calls` is how many denoiser calls probing it took on all seeds, `unsure` what nobody could decide of its meaning: such
    a candidate wins only by a margin. `preview` is the reward of its predicted image against the *original* prompt, by
    which the last choice was made; None where it took no part in it.
    """

    id: int
    round: int
    strategy: str
    prompt: str
    seeds: list[int] = field(default_factory=list)
    predicted: list[float] = field(default_factory=list)
    score: float | None = None
    cut_tokens: int = 0
    words: list[dict[str, Any]] = field(default_factory=list)
    rejected: str | None = None
    calls: float = 0
    unsure: list[str] = field(default_factory=list)
    preview: float | None = None

    def __repr__(self) -> str:
        told = f"out: {self.rejected}" if self.rejected else figure(self.score)
        return f"<CandidateRecord {self.id} {short(self.prompt)} {told}>"


@dataclass(repr=False)
class RunRecord(Pictured):
    """A whole optimisation. Predicted rewards are the judge's, `tau` is None for one without a threshold; `reward` is measured on the image, None when it isn't.

    `reward` and `reward_label` judge the image against the user's *original* prompt.
    `call` and `loading` are what the pipeline was called and loaded with, for a replay. `grade` says of how many of 100 images of the model the prediction is better, `interval` between which
    bounds eight of ten rewards lie. `image` is the finished picture, `image_file`
    the file that it was written to, `before` the picture of the prompt as it was.
    """

    prompt: str
    best_prompt: str
    unchanged: bool
    stop_reason: str
    tau: float | None
    rounds: int
    predicted_reward: float
    reward: float | None
    reward_label: str | None
    seed: int
    image_file: str | None
    heat_maps: str | None
    candidates: list[CandidateRecord]
    rewriter: str
    llm: dict[str, Any]
    denoiser_calls: dict[str, float]
    seconds: dict[str, float]
    settings: dict[str, Any]
    call: dict[str, Any]
    loading: dict[str, Any]
    notes: list[str]
    version: str
    grade: int | None = None
    interval: list[float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The record as plain values for JSON; `image` is the picture's file."""
        return _with_file(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], folder: Path | str = ".") -> RunRecord:
        """A record from `values` as JSON has them; its image's path is taken from `folder` on.

        Raises `InputError` when values are missing, as in records of other kinds.
        """
        known = {("image_file" if k == "image" else k): v for k, v in values.items()}
        names = [f.name for f in dataclasses.fields(cls)]
        needed = {
            f.name
            for f in dataclasses.fields(cls)
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        }
        missing = sorted(needed - set(known) - {"image_file", "heat_maps"})
        if missing:
            raise InputError(f"this is no record of an optimisation: it has no {missing[0]!r}")
        known = {"image_file": None, "heat_maps": None} | {n: known[n] for n in names if n in known}
        if known["image_file"] is not None:
            known["image_file"] = str(Path(folder) / known["image_file"])
        own = {f.name for f in dataclasses.fields(CandidateRecord)}
        known["candidates"] = [CandidateRecord(**{k: v for k, v in c.items() if k in own}) for c in known["candidates"]]
        return cls(**known)

    @property
    def before(self) -> Image.Image:
        """The picture of the prompt as it was, on the same seed: made when it is first asked for, for a full image's steps.

        Raises `InputError` where this record can't make pictures: one of a pipeline from Python that is gone.
        """
        if self.unchanged and self.image is not None:
            return self.image
        if self._before is None:
            if self._make_before is None:
                raise InputError(
                    "this record was read from a file and makes no pictures; promptprobe.generate(record.prompt) does"
                )
            self._before = self._make_before(self)
        return self._before

    def make_before(self, make: Callable[[RunRecord], Image.Image]) -> None:
        """Take what makes the picture `before`."""
        self._make_before = make

    def __repr__(self) -> str:
        to = "" if self.unchanged else f" → {short(self.best_prompt)}"
        return (
            f"<RunRecord {short(self.prompt)}{to} predicted {self.predicted_reward:.3f}, reward {figure(self.reward)}>"
        )

    def _repr_html_(self) -> str:
        facts = {
            "prompt": None if self.unchanged else self.prompt, "stopped because": self.stop_reason,
            "predicted reward": figure(self.predicted_reward), "reward": figure(self.reward), "seed": self.seed,
            "steps": f"{self.denoiser_calls['used']} of the denoiser, {self.denoiser_calls['full']} for making all",
        }  # fmt: skip
        rows = [
            (c.id, c.round, figure(c.score), figure(c.preview), c.prompt, c.rejected or c.strategy)
            for c in self.candidates
        ]
        head = ("", "round", "predicted", "seen", "wording", "")
        return piece(self.best_prompt, facts, head, rows, [(f"seed {self.seed}", picture_or_none(self))])


def _with_file(values: dict[str, Any]) -> dict[str, Any]:
    return {("image" if k == "image_file" else k): v for k, v in values.items()}


@dataclass(frozen=True)
class Origin:
    """Where images come from: all that a replay needs beside prompt and seed, and what every record says of it.

    `model` is a world's name, folder or hub name, or None for a pipeline handed over from Python; `loading` are the
    options that it was loaded with, `call` what its call is given at every image.
    """

    model: str | None
    steps: int
    scheduler: str
    call: Mapping[str, Any]
    loading: Mapping[str, Any]

    @classmethod
    def of(
        cls, pipeline: Any, model: str | None, steps: int, call: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Origin:
        """Of a pipeline that was loaded with `options`, of which those of loading are kept."""
        loading = {n: options[n] for n in names_of(LoadingOptions) if n in options and options[n] != default_of(n)}
        loading = {n: list(v) if isinstance(v, tuple) else v for n, v in loading.items()}
        if "device" in options:
            loading["device"] = options["device"]
        return cls(model, steps, type(pipeline.scheduler).__name__, dict(call), loading)

    def settings(self, **played: Any) -> dict[str, Any]:
        """What a record says of a run: where its images come from, and what else `played` a part in it."""
        return {"model": self.model, "steps": self.steps, "scheduler": self.scheduler, **played, **self.call}

    def image_record(self, prompt: str, seed: int, why: str, **played: Any) -> dict[str, Any]:
        """What an image of a prompt as it is carries, enough for `show` and `replay`."""
        return {
            "prompt": prompt, "best_prompt": prompt, "seed": seed, "unchanged": True, "stop_reason": why,
            "settings": self.settings(seed=seed, **played), "call": dict(self.call), "loading": dict(self.loading),
            "version": __version__,
        }  # fmt: skip


def carried(record: RunRecord) -> dict[str, Any]:
    """What an image carries of its record: all but times and paths, so that the same run gives the same file."""
    return {k: v for k, v in record.as_dict().items() if k not in ("seconds", "image", "heat_maps")}
