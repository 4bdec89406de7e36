"""Flow matching with noise: the step of Flow-GRPO's stochastic differential equation, and what was how likely.

Comes in: a sample, the denoiser's velocity, two noise levels. Goes out: mean and deviation of the next sample, its
log-probability; a solver for pipelines that walks so and keeps its path. Source: Flow-GRPO, arXiv:2505.05470, §4.2.
"""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

import torch

from ..calling import Stopped
from ..errors import ModelError
from ..solver import is_flow


def sde_mean(
    sample: torch.Tensor, velocity: torch.Tensor, sigma: float, following: float, level: float, largest: float
) -> tuple[torch.Tensor, float]:
    """Mean `[batch, ...]` and deviation of the sample at noise level `following`, from one at `sigma` > `following`.

    σ_t = `level` sqrt(t / (1 - t)), with `largest` (the second level of the schedule) in place of t = 1; with `level` 0 it is
    the Euler step. All in float32, or float64 where the sample is.
    """
    x = sample if sample.dtype == torch.float64 else sample.float()
    v = velocity.to(x.dtype)
    at = largest if sigma >= 1 else sigma
    spread = level * math.sqrt(sigma / (1 - at))
    dt = following - sigma
    drift = spread**2 / (2 * sigma)
    mean = x * (1 + drift * dt) + v * (1 + drift * (1 - sigma)) * dt
    return mean, spread * math.sqrt(-dt)


def log_probability(taken: torch.Tensor, mean: torch.Tensor, deviation: float) -> torch.Tensor:
    """Log-density of `taken` under a normal distribution, the mean over all elements of each sample: `[batch]`.

    A mean, not a sum: so it has one scale for all image sizes, as in Flow-GRPO's own code.
    """
    z = (taken.to(mean.dtype) - mean) / deviation
    density = -0.5 * z.square() - math.log(deviation) - 0.5 * math.log(2 * math.pi)
    return density.flatten(1).mean(1)


class Sde:
    """What a solver of `sde_solver` has beside its scheduler: noise `level` in steps below `noisy`, and, of those steps as
    far as they are taken, the samples that they began from, and the one that they ended with (`path`), and the means (`means`).

    With `only` set it hands out that evaluation alone, keeps its `velocity` and stops the pipeline.
    """

    level: float
    noisy: int
    path: list[torch.Tensor]
    means: list[torch.Tensor]
    only: int | None
    velocity: torch.Tensor | None

    def levels_of(self, step: int) -> tuple[float, float, float]:
        """σ before and after the step of index `step`, and the schedule's second."""
        sigmas: Any = self.sigmas  # type: ignore[attr-defined]
        return float(sigmas[step]), float(sigmas[step + 1]), float(sigmas[1])


def sde_solver(scheduler: Any, level: float, noisy: int) -> Any:
    """A copy of a pipeline's flow-matching Euler scheduler that adds noise in its first `noisy` steps.

    Raises `ModelError` for another kind of scheduler: only of a straight Euler step is the probability known.
    """
    name = type(scheduler).__name__
    if not is_flow(scheduler) or name != "FlowMatchEulerDiscreteScheduler" or scheduler.config.get("invert_sigmas"):
        raise ModelError(
            f"{name} is no flow-matching Euler scheduler, and GRPO needs one to know how likely a step was; "
            "give a flow-matching model such as SD3, FLUX.1 or Qwen-Image"
        )
    made = copy.deepcopy(scheduler)
    kind: Any = type(scheduler)
    made.__class__ = _class_of(kind)
    made.level, made.noisy, made.path, made.means, made.only, made.velocity = level, noisy, [], [], None, None
    return made


@functools.cache
def _class_of(base: Any) -> type:
    """One class for each scheduler's, so that a paused batch's and the pipeline's are the same."""
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
        FlowMatchEulerDiscreteSchedulerOutput as Output,
    )
    from diffusers.utils.torch_utils import randn_tensor

    @functools.wraps(base.set_timesteps)
    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        base.set_timesteps(self, *args, **kwargs)
        self.path, self.means = [], []
        if self.only is not None:
            self.timesteps = self.timesteps[self.only : self.only + 1]

    def set_begin_index(self, begin_index: int = 0) -> None:
        base.set_begin_index(self, begin_index + (self.only or 0))

    @functools.wraps(base.step)  # pipelines and the engine look at its signature
    def step(self, model_output, timestep, sample, *args: Any, **kwargs: Any):
        generator, as_dict = kwargs.get("generator"), kwargs.get("return_dict", True)
        if self.only is not None:
            self.velocity = model_output
            raise Stopped
        if self.step_index is None:
            self._init_step_index(timestep)
        at = self.step_index
        level = self.level if at < self.noisy else 0.0
        sigma, below, largest = self.levels_of(at)
        mean, deviation = sde_mean(sample, model_output, sigma, below, level, largest)
        following = mean
        if at <= self.noisy:
            self.path.append(sample.detach())
        if level:
            noise = randn_tensor(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
            following = mean + deviation * noise
            self.means.append(mean.detach())
        following = following.to(model_output.dtype)
        self._step_index += 1
        return Output(prev_sample=following) if as_dict else (following,)

    return type("FlowMatchSde" + base.__name__, (Sde, base), {
        "set_timesteps": set_timesteps, "set_begin_index": set_begin_index, "step": step,
    })  # fmt: skip
