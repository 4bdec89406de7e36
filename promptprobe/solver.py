"""What the engine asks of a pipeline's solver: go on from where it was, count evaluations, draw each trajectory's noise
from its own generator, say what it predicted.

Comes in: a scheduler of diffusers and a `Paused`. Goes out: the scheduler that hands out only the remaining timesteps,
how many denoiser evaluations a step takes, and the clean latents that a step predicted.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from .backbones import backbone_of
from .errors import InputError, ModelError
from .paused import Paused
from .schedulers import AUTO, SOLVERS, names_for, stand_in


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
    vars(copied).pop("step", None)  # of `listening`
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
        "pausing is supported for one or two evaluations a step: choose another scheduler, such as "
        f"{', '.join(names_for(is_flow(scheduler)))}"
    )


# They keep one source of noise for the whole batch, which can't be cut to the rows that go on.
_NOISE_OF_THE_BATCH = ("DPMSolverSDEScheduler", "CosineDPMSolverMultistepScheduler")


def is_flow(scheduler) -> bool:
    """Whether a scheduler is one of flow matching."""
    if _is_flow_match(scheduler):
        return True
    config = scheduler.config
    return bool(config.get("prediction_type") == "flow_prediction" or config.get("use_flow_sigmas"))


def can_be_paused(scheduler, steps: int = 25) -> bool:
    """Whether a scheduler evaluates the denoiser once or twice a step, and can go on with some rows of a batch.

    True, too, for one that sets no timesteps without a pipeline's arguments: the engine then asks during the run.
    """
    if _hinders(scheduler):
        return False
    tried = copy.deepcopy(scheduler)
    try:
        tried.set_timesteps(steps, **({"mu": 1.0} if tried.config.get("use_dynamic_shifting") else {}))
        return len(tried.timesteps) in (steps, 2 * steps - 1)
    except Exception:  # each scheduler has its own classes
        return True


def _hinders(scheduler) -> str:
    """What of a solver can't be kept over a pause, with another to choose; empty where nothing is."""
    name = type(scheduler).__name__.removeprefix("Resumed")
    if hasattr(scheduler, "noise_sampler") or name in _NOISE_OF_THE_BATCH:
        return (
            f"{name} draws one noise for a whole batch, so its images depend on what else is in it and can't be paused; "
            "choose another scheduler, such as DPMSolverMultistepScheduler with algorithm_type 'sde-dpmsolver++'"
        )
    if "old_pred_original_sample" in inspect.signature(scheduler.step).parameters:
        return (
            f"{name} has the pipeline remember its last step, which a pause would forget; choose another scheduler, such "
            f"as {name.replace('DPM', 'DDIM')}"
        )
    return ""


def choose_scheduler(pipeline, name: str = AUTO) -> tuple[str, str | None]:
    """Give a pipeline the scheduler of a name in `SOLVERS`, made from the configuration of its own.

    `auto` keeps its own when that can be paused. Returns the name that gives the same again, and what to tell people. Raises `InputError` for a solver of another kind of model, or one that
    doesn't take what the pipeline passes to it.
    """
    own = pipeline.scheduler
    flow = is_flow(own)
    if name == AUTO:
        if can_be_paused(own):
            return AUTO, None
        name = stand_in(flow)
        pipeline.scheduler = _made(own, name)
        return name, (
            f"{type(own).__name__} can't be paused; {name} ({SOLVERS[name].scheduler}), made from its configuration, "
            "denoises instead (--scheduler)"
        )
    troubles = {n: _trouble(pipeline, n, flow) for n in SOLVERS}
    if why := troubles[name]:
        fitting = [n for n, trouble in troubles.items() if not trouble]
        raise InputError(
            f"--scheduler {name!r} does not fit: {type(pipeline).__name__} {why}; choose {', '.join([AUTO, *fitting])}"
        )
    pipeline.scheduler = _made(own, name)
    return name, None


def _made(own, name: str):
    """A scheduler of the table from the configuration of another."""
    row = SOLVERS[name]
    changes = dict(row.changes)
    shift = own.config.get("shift", own.config.get("flow_shift"))
    if row.flow and shift is not None:  # one thing with two names
        changes |= {"shift": shift, "flow_shift": shift}
    return _class_of(name).from_config(own.config, **changes)


def _class_of(name: str) -> Any:
    import diffusers

    return getattr(diffusers, SOLVERS[name].scheduler)


def _trouble(pipeline, name: str, flow: bool) -> str:
    """Why a solver of the table doesn't fit a pipeline, in words that follow its name; empty where it does."""
    row = SOLVERS[name]
    if row.flow != flow:
        return "is a flow-matching model" if flow else "predicts noise, not a flow"
    if not row.own_levels and _sets_levels(pipeline):
        return "sets noise levels of its own"
    if _class_of(name).order > 1 and "callback_on_step_end" not in inspect.signature(pipeline.__call__).parameters:
        return "can't be paused with a solver of two evaluations a step"  # its older callback leaves out every other
    return ""


def _sets_levels(pipeline) -> bool:
    """Whether a pipeline's call sets noise levels itself and passes them to the scheduler, as FLUX's does."""
    try:
        source = inspect.getsource(type(pipeline).__call__)
    except (OSError, TypeError):
        return False
    before = source.split("retrieve_timesteps(")[0]
    return re.search(r"^\s*sigmas = (?!None)", before, re.MULTILINE) is not None


def ends_of(scheduler, paused: Paused) -> dict[int, int]:
    """The step that each evaluation ends; second-order solvers have some that end none."""
    return {evaluations(scheduler, paused, k): k for k in range(1, paused.steps + 1)}


@contextlib.contextmanager
def listening(
    scheduler, generators: Sequence[torch.Generator], told: Callable[[torch.Tensor | None], None] | None = None
) -> Iterator[None]:
    """While inside, the solver draws its noise from the trajectories' generators, and `told` hears what each evaluation
    predicted the clean latents to be (shaped as the sample, float32; None for a solver of unknown kind).

    Raises `ModelError` for a solver that draws one noise for a whole batch (no trajectory could go on without the others),
    and for one whose memory is a variable of the pipeline's own call.
    """
    if why := _hinders(scheduler):
        raise ModelError(why)
    original = scheduler.step
    signature = inspect.signature(original)

    @functools.wraps(original)  # pipelines look at step's signature to learn whether it takes `eta` and `generator`
    def step(*args, **kwargs):
        given = signature.bind(*args, **kwargs)
        if "generator" in signature.parameters and given.arguments.get("generator") is None:
            given.arguments["generator"] = list(generators)
        if told is None or "return_dict" not in signature.parameters:
            if told is not None:
                told(None)
            return original(*given.args, **given.kwargs)
        as_dict = given.arguments.get("return_dict", True)
        given.arguments["return_dict"] = True
        out = original(*given.args, **given.kwargs)
        told(_predicted_clean(scheduler, out, *(given.arguments[k] for k in ("model_output", "timestep", "sample"))))
        return out if as_dict else out.to_tuple()  # PixArt-α's one-step models take the second of it

    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step


def _predicted_clean(scheduler, out, predicted: torch.Tensor, timestep, sample: torch.Tensor) -> torch.Tensor | None:
    """What an evaluation that was just made predicted the clean latents to be; None for a solver of unknown kind.

    Solvers that say it themselves are believed (DDIM, DDPM, Euler, Heun, LCM, ...). For the others it follows from
    sample = a clean + s noise and what the denoiser predicts: noise, clean, v = a noise - s clean, or the flow noise - clean.
    """
    for name in ("denoised", "pred_original_sample"):
        own = getattr(out, name, None)
        if own is not None:
            return own.float()
    if hasattr(scheduler, "precondition_outputs"):  # EDM: noise is added to clean latents of deviation `sigma_data`
        sigma = scheduler.sigmas[scheduler.step_index - 1]
        return scheduler.precondition_outputs(sample.float(), predicted.float(), sigma)
    a, s = _signal_and_noise(scheduler, timestep)
    if not (a or s):
        return None
    x, y = sample.float(), predicted[:, : sample.shape[1]].float()  # a learned variance may follow
    kind = "flow_prediction" if _is_flow_match(scheduler) else getattr(scheduler.config, "prediction_type", "epsilon")
    if kind == "epsilon":
        clean = (x - s * y) / a
    elif kind == "sample":
        clean = y
    elif kind == "v_prediction":
        clean = a * x - s * y
    elif kind == "flow_prediction":
        clean = x - s * y
    else:
        return None
    return scheduler._threshold_sample(clean) if getattr(scheduler.config, "thresholding", False) else clean


def _signal_and_noise(scheduler, timestep) -> tuple[float, float]:
    """What clean latents and noise were multiplied by in the last evaluation's sample; (0, 0) when that is not known."""
    if _is_flow_match(scheduler):
        sigma = float(scheduler.sigmas[scheduler.step_index - 1])
        return 1 - sigma, sigma
    if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):
        a, s = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[scheduler.step_index - 1])
        return float(a), float(s)
    if hasattr(scheduler, "alphas_cumprod") and not hasattr(scheduler, "sigmas"):
        kept = float(scheduler.alphas_cumprod[int(timestep)])
        return kept**0.5, (1 - kept) ** 0.5
    return 0.0, 0.0


def _is_flow_match(scheduler) -> bool:
    return type(scheduler).__name__.removeprefix("Resumed").startswith("FlowMatch")


def on_grid(latents: torch.Tensor | None, grid: Sequence[int]) -> torch.Tensor | None:
    """Latents `[batch, channels, height, width]`, of packed ones `[batch, image tokens, channels]` too; None for others."""
    if latents is None or latents.ndim == 4:
        return latents
    if latents.ndim == 5 and latents.shape[2] == 1:
        return latents[:, :, 0]
    if latents.ndim == 3 and latents.shape[1] == grid[0] * grid[1]:
        return latents.transpose(1, 2).unflatten(2, tuple(grid))
    return None


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
