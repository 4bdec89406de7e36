"""How far classifier-free guidance pulls: the difference of the predictions with and without the prompt, by trajectory.

Comes in: a pipeline and its settings. Goes out: whether a call is guided by two predictions, and a meter that sums their
difference over the steps. Source of the measure: CFG-Rejection, arXiv:2505.23343, which keeps the trajectories with the
largest sum of squared differences.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from .backbones import backbone_of, denoiser_of


def is_guided(pipeline: Any, settings: Mapping[str, Any]) -> bool:
    """Whether a call with these settings makes two predictions a step, as far as that can be told before it is made."""
    taken = inspect.signature(pipeline.__call__).parameters
    defaults = {**{n: p.default for n, p in taken.items()}, **backbone_of(pipeline).defaults}
    if "true_cfg_scale" in taken:  # a distilled guidance beside it makes no second prediction
        scale = float(settings.get("true_cfg_scale", defaults["true_cfg_scale"]) or 0)
        return scale > 1 and settings.get("negative_prompt") is not None
    config: Any = denoiser_of(pipeline).config
    if config.get("guidance_embeds") or config.get("time_cond_proj_dim"):
        return False
    scale = settings.get("guidance_scale", defaults.get("guidance_scale"))
    return isinstance(scale, (int, float)) and scale > 1


class GapMeter:
    """While entered, sums up `total` `[samples]`: over the steps, the mean squared difference between the denoiser's
    predictions with and without the prompt. It stays None for a call that makes one prediction a step.

    A guided batch holds both predictions, the one after the other, or there are two denoiser calls a step.
    """

    def __init__(self, pipeline: Any, samples: int, before: torch.Tensor | None = None):
        self.denoiser: Any = denoiser_of(pipeline)
        self.samples = samples
        self.total = before
        self._first: torch.Tensor | None = None
        self._handle: Any = None

    def __enter__(self) -> GapMeter:
        self._handle = self.denoiser.register_forward_hook(self._seen)
        return self

    def __exit__(self, *exc: object) -> None:
        self._handle.remove()
        self._first = None

    def step_done(self) -> None:
        """A denoising step is over: a prediction without its counterpart has none."""
        self._first = None

    def _seen(self, module: Any, args: tuple, output: Any) -> None:
        predicted = output[0] if isinstance(output, (tuple, list)) else output.sample
        if isinstance(predicted, (tuple, list)):
            predicted = torch.stack(list(predicted))
        predicted = predicted.detach()
        if len(predicted) == 2 * self.samples:
            self._add(*predicted.chunk(2))
        elif self._first is None:
            self._first = predicted
        else:
            first, self._first = self._first, None
            if first.shape == predicted.shape:
                self._add(first, predicted)

    def _add(self, one: torch.Tensor, other: torch.Tensor) -> None:
        gap = (one.float() - other.float()).square().flatten(1).mean(1).cpu()
        self.total = gap if self.total is None else self.total + gap
