"""What a run leaves behind: plain dataclasses that become JSON, and nothing secret in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .options import LoadingOptions, default_of, names_of
from .version import __version__


def whole(calls: float) -> float:
    """A number of denoiser calls for a record: an integer unless one of them was cut off."""
    return int(calls) if calls == int(calls) else round(calls, 2)


@dataclass
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


@dataclass
class RunRecord:
    """A whole optimisation. Predicted rewards are the judge's, `tau` is None for one without a threshold; `reward` is measured on the image, None when it isn't.

    `reward` and `reward_label` judge the image against the user's *original* prompt.
    `call` and `loading` are what the pipeline was called and loaded with, for a replay.
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
    image: str | None
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

    def as_dict(self) -> dict[str, Any]:
        """The record as plain values for JSON."""
        return dataclasses.asdict(self)


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
