"""The judge `preview`: what a step predicts is decoded and measured with a reward model. Nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from ..decoders import pictures
from ..errors import InputError, reason_of
from ..observation import Observation
from ..rewards import RewardFunction, measure, reward_name
from ..trajectory import preview_values
from .base import Judge, Judgement, Needs, by_row


class PreviewJudge(Judge):
    """Measures the image that a trajectory is heading for, against `Observation.against`: the user's own prompt, when a
    rewrite of it is judged. `decoder` is one of `decoders.decoder_for`, None the pipeline's own.

    A preview that is no number, or that the reward fails on, is judged nan, and `warning` says so.
    """

    name = "preview"
    needs = Needs(clean=True, maps=False)

    def __init__(self, pipeline: Any, reward: RewardFunction, label: str | None = None, decoder: Any | None = None):
        self.pipeline, self.reward, self.decoder = pipeline, reward, decoder
        self.label = label or reward_name(reward)
        self._measured = False  # whether the reward has given a number yet
        self._failure: str | None = None  # the last one, and whether it was told
        self._told = False

    def judge(self, seen: Observation) -> list[Judgement]:
        """Raises `InputError` for what shows no trajectories or no clean latents, and when no preview can be measured."""
        if seen.paused is None or seen.against is None:
            raise InputError("a preview is made of paused trajectories; a data set's rows have none")
        values = preview_values(self.pipeline, seen.paused, seen.rows, seen.step, decoder=self.decoder)
        finite = [i for i, image in enumerate(values) if bool(image.isfinite().all())]
        if len(finite) < len(values):
            self._failure = "previews are not finite: try --dtype float32, or another --preview-decoder"
        predicted = [math.nan] * len(values)
        measured = self._measure(pictures(values[finite]), [seen.against[i] for i in finite])
        for i, value in zip(finite, measured, strict=True):
            predicted[i] = value
        self._measured = self._measured or not all(map(math.isnan, predicted))
        if not self._measured:
            raise InputError(f"none of {len(predicted)} previews could be measured: {self._failure}")
        return by_row(predicted)

    def _measure(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """The reward of each image, nan where it fails."""
        if not images:
            return []
        try:
            return measure(self.reward, images, prompts).tolist()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a reward of the user's own may raise anything
            if len(images) > 1:
                return [value for i, p in zip(images, prompts, strict=True) for value in self._measure([i], [p])]
            told = str(error) if isinstance(error, InputError) else reason_of(error)
            self._failure = f"the reward {self.label!r} failed on the preview of {prompts[0]!r} ({told})"
            return [math.nan]

    def warning(self, seen: Observation) -> str | None:
        if self._failure is None or self._told:
            return None
        self._told = True
        return f"some images could not be judged and are out: {self._failure}"
