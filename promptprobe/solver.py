"""What the engine asks of a pipeline's solver: go on from where it was, count evaluations, say what it predicted.

Comes in: a scheduler of diffusers and a `Paused`. Goes out: the scheduler that hands out only the remaining timesteps,
how many denoiser evaluations a step takes, and the clean latents that a step predicted.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from .backbones import backbone_of
from .errors import ModelError
from .paused import Paused


@contextlib.contextmanager
def resuming(
    pipeline, paused: Paused, chosen: list[int], nothing_left: bool = False
) -> Iterator[tuple[list[torch.Generator], torch.Tensor]]:
    """While inside, the pipeline has the paused scheduler; gives the generators and latents to go on with.

    With `nothing_left` the scheduler says that every step is done.
    """
    generators = []
    for i in chosen:
        generators.append(torch.Generator("cpu"))
        generators[-1].set_state(paused.generator_states[i])
    own_scheduler = pipeline.scheduler
    latents = backbone_of(pipeline).unpack(pipeline, paused.latents[chosen], paused.settings)
    try:
        pipeline.scheduler = _resumed(paused, chosen, nothing_left)
        yield generators, latents
    finally:
        pipeline.scheduler = own_scheduler


def copy_of(scheduler):
    """A copy that hands out all timesteps again."""
    copied = copy.deepcopy(scheduler)
    if isinstance(copied, _Resumed):
        copied.put_back()
    return copied


def evaluations(scheduler, paused: Paused, step: int | None = None) -> int:
    """How many denoiser evaluations `step` steps take (default: those done): one each, or two but for the last.

    Raises `ModelError` for a solver with another rhythm.
    """
    step = paused.step if step is None else step
    full = len(scheduler.timesteps)
    if full == paused.steps:
        return step
    if full == 2 * paused.steps - 1:
        return min(2 * step, full)
    raise ModelError(
        f"{type(scheduler).__name__} evaluates the denoiser {full} times for {paused.steps} steps; "
        "pausing is supported for one or two evaluations a step: choose another scheduler"
    )


def ends_of(scheduler, paused: Paused) -> dict[int, int]:
    """The step that each evaluation ends; second-order solvers have some that end none."""
    return {evaluations(scheduler, paused, k): k for k in range(1, paused.steps + 1)}


def predicted_clean(
    scheduler, before: torch.Tensor | None, after: torch.Tensor, step: int, steps: int
) -> torch.Tensor | None:
    """The clean latents that a step predicted, from the latents before and after it; None for a solver of unknown kind.

    With x = a clean + s noise before and after a first-order step, clean and noise are the same in both. For solvers of
    higher order, and those that add noise, this is an estimate.
    """
    twice = len(scheduler.timesteps) > steps
    places = [max(0, 2 * k - 1) if twice else k for k in (step - 1, step)]
    try:
        (a1, s1), (a2, s2) = (_signal_and_noise(scheduler, k) for k in places)
    except (AttributeError, TypeError, IndexError):
        return None
    turn = s1 * a2 - s2 * a1
    if before is None or abs(turn) < 1e-8:
        return None
    return (s1 * after.float() - s2 * before.float()) / turn


def on_grid(latents: torch.Tensor | None, grid: Sequence[int]) -> torch.Tensor | None:
    """Latents `[batch, channels, height, width]`, of packed ones `[batch, image tokens, channels]` too; None for others."""
    if latents is None or latents.ndim == 4:
        return latents
    if latents.ndim == 5 and latents.shape[2] == 1:
        return latents[:, :, 0]
    if latents.ndim == 3 and latents.shape[1] == grid[0] * grid[1]:
        return latents.transpose(1, 2).unflatten(2, tuple(grid))
    return None


def _signal_and_noise(scheduler, step: int) -> tuple[float, float]:
    """What clean latents and noise are multiplied by at a place in the solver's list of noise levels."""
    name = type(scheduler).__name__.removeprefix("Resumed")
    sigmas = getattr(scheduler, "sigmas", None)
    if name.startswith("FlowMatch") or getattr(scheduler.config, "prediction_type", "") == "flow_prediction":
        sigma = float(sigmas[step])  # type: ignore[index]
        return 1 - sigma, sigma
    if name.startswith(("Euler", "Heun", "LMS", "KDPM2")):
        return 1.0, float(sigmas[step])  # type: ignore[index]
    if step >= len(scheduler.timesteps):
        return 1.0, 0.0
    kept = float(scheduler.alphas_cumprod[int(scheduler.timesteps[step])])
    return kept**0.5, (1 - kept) ** 0.5


class _Resumed:
    """Marks a scheduler that hands out only the remaining timesteps; `put_back()` makes it what it was."""

    put_back: Callable[[], None]


def _resumed(paused: Paused, chosen: list[int], nothing_left: bool = False):
    """The saved scheduler, cut to the chosen samples, that hands out only the remaining timesteps.

    A pipeline asks for timesteps once and iterates over its own copy; from the first step on the solver sees the
    full list again, since multistep solvers look ahead to its end.
    """
    scheduler = copy.deepcopy(paused.scheduler)
    batch = paused.latents.shape
    for name, value in vars(scheduler).items():
        if isinstance(value, torch.Tensor) and value.shape == batch:
            setattr(scheduler, name, value[chosen])
        elif isinstance(value, list):
            cut = [v[chosen] if isinstance(v, torch.Tensor) and v.shape == batch else v for v in value]
            setattr(scheduler, name, cut)
    full = scheduler.timesteps
    solver = type(scheduler)
    rest = full[:0] if nothing_left else full[evaluations(paused.scheduler, paused) :]

    def put_back(self):
        self.timesteps = full
        self.__class__ = solver

    def set_timesteps(self, num_inference_steps=None, device=None, timesteps=None, sigmas=None, mu=None, **_):
        self.timesteps = rest

    def set_begin_index(self, begin_index=0):
        self.timesteps = full

    def scale_model_input(self, sample, *args, **kwargs):
        self.timesteps = full
        # Bria asks whatever is not exactly its own solver; flow matching has nothing to scale.
        scale = getattr(solver, "scale_model_input", None)
        return sample if scale is None else scale(self, sample, *args, **kwargs)

    def step(self, *args, **kwargs):
        self.timesteps = full
        return solver.step(self, *args, **kwargs)

    methods: dict[str, Any] = {
        "set_timesteps": set_timesteps, "step": step, "set_begin_index": set_begin_index, "put_back": put_back,
        "scale_model_input": scale_model_input,
    }  # fmt: skip
    methods["init_noise_sigma"] = property(lambda self: 1.0, lambda self, value: None)
    # Pipelines look at step's signature to learn whether it takes `eta` and `generator`.
    step.__signature__ = inspect.signature(solver.step)  # type: ignore[attr-defined]
    scheduler.__class__ = type("Resumed" + solver.__name__, (_Resumed, solver), methods)
    return scheduler
