"""The judge `preview`: what a step predicts is decoded and measured with a reward model. Nothing is trained."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..observation import Observation
from ..rewards import RewardFunction, measure, reward_name
from ..trajectory import preview
from .base import Judge, Judgement, Needs, by_row


class PreviewJudge(Judge):
    """Measures the image that a trajectory is heading for, against `Observation.against`: the user's own prompt, when a
    rewrite of it is judged. The decoder is the pipeline's own."""

    name = "preview"
    needs = Needs(clean=True)

    def __init__(self, pipeline: Any, reward: RewardFunction, label: str | None = None):
        self.pipeline, self.reward = pipeline, reward
        self.label = label or reward_name(reward)

    def judge(self, seen: Observation) -> list[Judgement]:
        """Raises `InputError` for what shows no trajectories, or no clean latents."""
        if seen.paused is None or seen.against is None:
            raise InputError("a preview is made of paused trajectories; a data set's rows have none")
        images = preview(self.pipeline, seen.paused, seen.rows, seen.step)
        return by_row(measure(self.reward, images, seen.against).tolist())
