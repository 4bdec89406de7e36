"""Run a batch of (prompt, seed) to step k, pause, resume any subset, and finish.

The pipeline's own `__call__` does the denoising both times. Pausing interrupts it from `callback_on_step_end`;
resuming puts the saved scheduler back, so that solvers with a memory continue exactly where they were.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from PIL import Image

from .attention import AttentionTap, CutOff
from .backbones import backbone_of, denoiser_of
from .errors import InputError, ModelError
from .tokens import PromptTokens, clean_prompt, tokenize_prompt

STEPS = 25  # Diffusion Probe, arXiv:2602.23783, §4.1
PROBE_STEP = 5


@dataclass
class Paused:
    """A batch of trajectories stopped after `step` of `steps`.

    `token_maps[k]` is `[batch, tokens, blocks, height, width]` of step k, for each watched step; `timesteps[k]` is the
    scheduler's timestep of that step. `token_embeddings` `[batch, tokens, size]` is what the denoiser was told of the
    tokens, None when nothing was watched. `clean_latents[k]` `[batch, channels, height, width]` are what step k
    predicted the finished image's latents to be.

    A batch that was cut off (`cut` of `start` and `advance`) has the maps of step `step` + 1, and no clean latents.
    """

    prompts: list[str]
    seeds: list[int]
    tokens: list[PromptTokens]
    step: int
    steps: int
    latents: torch.Tensor
    token_maps: dict[int, torch.Tensor]
    token_embeddings: torch.Tensor | None
    clean_latents: dict[int, torch.Tensor]
    timesteps: dict[int, float]
    settings: dict[str, Any]
    scheduler: Any = field(repr=False)
    denoiser: Any = field(repr=False)
    generator_states: list[torch.Tensor] = field(repr=False)
    encoded: _EncodedPrompts = field(repr=False)

    def __len__(self) -> int:
        return len(self.prompts)


def check_steps(steps: int, probe_step: int) -> None:
    """Raise `InputError` unless 1 <= probe_step <= steps."""
    if steps < 1:
        raise InputError(f"steps is {steps}; it must be at least 1")
    if not 1 <= probe_step <= steps:
        raise InputError(f"probe step is {probe_step}; it must be between 1 and {steps}, the number of steps")


def start(
    pipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int = STEPS,
    stop: int = PROBE_STEP,
    watch: Collection[int] | None = None,
    blocks: Sequence[str] | None = None,
    on_step: Callable[[int], None] | None = None,
    cut: bool = False,
    **settings: Any,
) -> Paused:
    """Denoise each of `prompts` with the seed of the same place in `seeds` to step `stop`.

    Token maps are read at the steps in `watch` (default: `stop`) of the modules named in `blocks` (default: those of
    the pipeline's row in `backbones.py`). `on_step` is told each finished step, the first is 1.
    With `cut`, step `stop` goes no further than its last probed block: the result has the step's maps, but is paused
    before it, and what goes on makes it anew. `settings` go to the pipeline as they are (`guidance_scale`, `height`,
    `negative_prompt`, ...). Raises `InputError` for empty prompts, unequal lengths or steps out of range.
    """
    check_steps(steps, stop)
    if len(prompts) != len(seeds) or not prompts:
        raise InputError(f"{len(prompts)} prompts and {len(seeds)} seeds; give as many seeds as prompts, at least one")
    for key in settings:
        if key in ("num_images_per_prompt", "latents", "prompt_embeds", "generator"):
            raise InputError(f"{key} is set by the engine; for several images of a prompt give it once for each seed")
    wanted = set(watch if watch is not None else (stop,))
    for k in wanted:
        check_steps(stop, k)
    prompts = [clean_prompt(p) for p in prompts]
    generators = [torch.Generator("cpu").manual_seed(s) for s in seeds]
    paused = Paused(
        prompts=prompts, seeds=list(seeds), tokens=[tokenize_prompt(pipeline, p, settings) for p in prompts], step=0,
        steps=steps, latents=torch.empty(0), token_maps={}, token_embeddings=None, clean_latents={}, timesteps={},
        settings=dict(settings), scheduler=pipeline.scheduler, denoiser=denoiser_of(pipeline),
        generator_states=[], encoded=_EncodedPrompts.of(pipeline, prompts),
    )  # fmt: skip
    return _run(pipeline, paused, generators, stop, wanted, blocks, on_step, cut=cut and stop > 1)


def advance(
    pipeline,
    paused: Paused,
    chosen: Sequence[int] | None = None,
    *,
    stop: int,
    watch: Collection[int] | None = None,
    blocks: Sequence[str] | None = None,
    on_step: Callable[[int], None] | None = None,
    cut: bool = False,
) -> Paused:
    """Denoise the chosen trajectories of `paused` (default: all) on to step `stop`, and pause again; none is redone.

    The result holds only the chosen ones, with maps of the newly watched steps (default: `stop`). `pipeline` is the one
    that `paused` came from; `watch`, `blocks`, `on_step` and `cut` are as for `start`. Raises as `finish`.
    """
    chosen = _check_chosen(paused, chosen)
    wanted = set(watch if watch is not None else (stop,))
    for k in (stop, *wanted):
        if not paused.step < k <= min(stop, paused.steps):
            raise InputError(f"step {k} can't be reached from step {paused.step} of {paused.steps}")
    _check_same(pipeline, paused)
    part = replace(
        paused, prompts=[paused.prompts[i] for i in chosen], seeds=[paused.seeds[i] for i in chosen],
        tokens=[paused.tokens[i] for i in chosen], token_maps={}, clean_latents={}, timesteps={}, token_embeddings=None,
        encoded=paused.encoded.cut(chosen),
    )  # fmt: skip
    with _resuming(pipeline, paused, chosen) as (generators, latents):
        return _run(pipeline, part, generators, stop, wanted, blocks, on_step, latents, paused.latents[chosen], cut)


def _run(
    pipeline,
    paused: Paused,
    generators: list[torch.Generator],
    stop: int,
    wanted: set[int],
    blocks: Sequence[str] | None,
    on_step: Callable[[int], None] | None,
    latents: torch.Tensor | None = None,
    before: torch.Tensor | None = None,
    cut: bool = False,
) -> Paused:
    """Denoise all of `paused` from its step to `stop`; `before` are its latents as the solver left them."""
    columns = [t.columns for t in paused.tokens]
    result = replace(paused, token_maps={}, clean_latents={}, timesteps={})
    cut = cut and stop in wanted
    at_once = False  # whether the first denoiser call is the one to cut off
    if cut and stop == paused.step + 1:
        assert before is not None
        result.latents, result.scheduler = before.clone(), _copy_of(pipeline.scheduler)
        at_once = _evaluations(paused.scheduler, paused, stop) == _evaluations(paused.scheduler, paused) + 1
    tap = AttentionTap(pipeline, blocks) if wanted else None
    seen: dict[str, Any] = {"before": before}

    def after_step(pipe, index: int, timestep, tensors: dict) -> dict:
        # Second-order solvers evaluate the denoiser twice a step; what lies between belongs to no step.
        evaluation = _evaluations(pipe.scheduler, paused) + index + 1
        ends = _ends(pipe.scheduler, paused)
        step = ends.get(evaluation)
        if tap is not None:
            if step in wanted:
                maps = _read(tap, result, step, timestep)
                clean = predicted_clean(pipe.scheduler, seen["before"], tensors["latents"], step, paused.steps)
                clean = _on_grid(clean, maps.shape[-2:])
                if clean is not None:
                    result.clean_latents[step] = clean.detach().float().cpu()
            following = ends.get(evaluation + 1)
            tap.arm(columns, cut and following == stop) if following in wanted else tap.disarm()
        if step is None:
            return tensors
        seen["before"] = tensors["latents"]
        if on_step:
            on_step(step)
        if step == stop - cut:
            result.step = step
            result.latents = tensors["latents"].detach().clone()
            result.scheduler = _copy_of(pipe.scheduler)
        if step == stop:
            pipe._interrupt = True
            if not hasattr(type(pipe), "interrupt"):
                raise _Stopped
        return tensors

    first_noise = _initial_latents(pipeline, seen) if wanted and before is None else contextlib.nullcontext()
    more = {} if latents is None else {"latents": latents}
    with tap or contextlib.nullcontext(), first_noise, paused.encoded.used_by(pipeline, range(len(paused))):
        if tap is not None and paused.step + 1 in wanted:
            tap.arm(columns, at_once)
        with contextlib.suppress(CutOff):
            _call(
                pipeline, prompts=paused.prompts, generators=generators, steps=paused.steps, callback=after_step,
                output="latent", settings=paused.settings, **more,
            )  # fmt: skip
        if cut:
            assert tap is not None
            full = result.scheduler.timesteps
            _read(tap, result, stop, full[_evaluations(result.scheduler, paused, stop) - 1])
            if on_step:
                on_step(stop)
    result.generator_states = [g.get_state() for g in generators]
    return result


def _read(tap: AttentionTap, result: Paused, step: int, timestep) -> torch.Tensor:
    """Put what the tap saw at a step into `result`; its maps."""
    result.token_maps[step] = tap.token_maps()
    result.token_embeddings = tap.token_embeddings()
    result.timesteps[step] = float(timestep)
    return result.token_maps[step]


def _copy_of(scheduler):
    """A copy that hands out all timesteps again."""
    copied = copy.deepcopy(scheduler)
    if isinstance(copied, _Resumed):
        copied.put_back()
    return copied


def finish(
    pipeline,
    paused: Paused,
    chosen: Sequence[int] | None = None,
    *,
    output: str = "pil",
    on_step: Callable[[int], None] | None = None,
) -> list[Image.Image] | torch.Tensor:
    """Denoise the chosen trajectories (default: all) from where they are to the end.

    Returns images, or final latents `[chosen, channels, height, width]` with `output="latent"`. The paused batch stays
    as it is and can be finished again. Raises `ModelError` when the pipeline's solver is not the one it was paused in.
    """
    chosen = _check_chosen(paused, chosen)
    _check_same(pipeline, paused)

    before = _evaluations(paused.scheduler, paused)
    ends = _ends(paused.scheduler, paused)

    def after_step(pipe, index: int, timestep, tensors: dict) -> dict:
        if on_step and before + index + 1 in ends:
            on_step(ends[before + index + 1])
        return tensors

    with _resuming(pipeline, paused, chosen) as (generators, latents), paused.encoded.used_by(pipeline, chosen):
        return _call(
            pipeline, prompts=[paused.prompts[i] for i in chosen], generators=generators, steps=paused.steps,
            callback=after_step, output=output, settings=paused.settings, latents=latents,
        )  # fmt: skip


def preview(pipeline, paused: Paused, chosen: Sequence[int] | None = None) -> list[Image.Image]:
    """Images of what the chosen trajectories were heading for at their last step: no denoiser call, only decoding.

    Raises `InputError` when that step was not watched, and as `finish`.
    """
    chosen = _check_chosen(paused, chosen)
    _check_same(pipeline, paused)
    kept = paused.clean_latents.get(paused.step)
    if kept is None:
        raise InputError(f"what step {paused.step} predicted was not kept; watch it for a preview")
    clean = kept[chosen].to(paused.latents)
    if paused.latents.ndim == 3:
        clean = clean.flatten(2).transpose(1, 2)
    elif paused.latents.ndim == 5:
        clean = clean[:, :, None]
    with (
        _resuming(pipeline, paused, chosen, nothing_left=True) as (generators, _),
        paused.encoded.used_by(pipeline, chosen),
    ):
        return _call(
            pipeline, prompts=[paused.prompts[i] for i in chosen], generators=generators, steps=paused.steps,
            callback=lambda pipe, index, timestep, tensors: tensors, output="pil", settings=paused.settings,
            latents=backbone_of(pipeline).unpack(pipeline, clean, paused.settings),
        )  # fmt: skip


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


def _check_chosen(paused: Paused, chosen: Sequence[int] | None) -> list[int]:
    chosen = list(range(len(paused))) if chosen is None else list(chosen)
    if not chosen or not all(0 <= i < len(paused) for i in chosen):
        raise InputError(f"chosen trajectories {chosen} are not among the {len(paused)} paused ones")
    return chosen


def _check_same(pipeline, paused: Paused) -> None:
    if denoiser_of(pipeline) is not paused.denoiser:
        raise ModelError(
            f"paused in another pipeline than this {type(pipeline).__name__}; finish it with the one that began it"
        )
    if type(pipeline.scheduler) is not type(paused.scheduler):
        raise ModelError(
            f"paused with {type(paused.scheduler).__name__}, but the pipeline now has "
            f"{type(pipeline.scheduler).__name__}; put the first one back"
        )


@contextlib.contextmanager
def _resuming(
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


@contextlib.contextmanager
def _initial_latents(pipeline, seen: dict[str, Any]) -> Iterator[None]:
    """While inside, the noise that the pipeline starts from is kept as `seen["before"]`."""
    original = getattr(pipeline, "prepare_latents", None)
    if original is None:
        yield
        return

    def prepare_latents(*args, **kwargs):
        made = original(*args, **kwargs)
        seen["before"] = made[0] if isinstance(made, tuple) else made
        return made

    pipeline.prepare_latents = prepare_latents
    try:
        yield
    finally:
        del pipeline.prepare_latents


def _on_grid(latents: torch.Tensor | None, grid: Sequence[int]) -> torch.Tensor | None:
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


class _Stopped(Exception):
    """Raised in a callback of a pipeline that can't be interrupted otherwise."""


def _call(pipeline, *, prompts, generators, steps, callback, output, settings, **more):
    """One call of the pipeline, by keyword, without its own progress bar; None when the callback stopped it.

    Raises `ModelError` when the pipeline tells nobody after its steps.
    """
    taken = inspect.signature(pipeline.__call__).parameters
    if "callback_on_step_end" in taken:
        more["callback_on_step_end"] = callback
    elif "callback_steps" in taken:  # PixArt: an older kind of callback, and no way to interrupt

        def older(index: int, timestep, latents: torch.Tensor) -> None:
            callback(pipeline, index, timestep, {"latents": latents})

        more |= {"callback": older, "callback_steps": 1}
    else:
        raise ModelError(f"{type(pipeline).__name__} has no callback_on_step_end, so it can't be paused")
    negative = settings.get("negative_prompt")
    if (
        isinstance(negative, str)
        and "negative_prompt" not in inspect.signature(type(pipeline).encode_prompt).parameters
    ):
        # Pipelines with a second call for guidance encode it on its own, and want one for each prompt.
        settings = settings | {"negative_prompt": [negative] * len(prompts)}
    bar = dict(getattr(pipeline, "_progress_bar_config", {}))
    pipeline.set_progress_bar_config(disable=True)
    settings = {**backbone_of(pipeline).defaults, **settings}
    try:
        return pipeline(
            prompt=list(prompts),
            generator=generators,
            num_inference_steps=steps,
            output_type=output,
            **settings,
            **more,
        ).images
    except _Stopped:
        return None
    finally:
        pipeline.set_progress_bar_config(**{"disable": False, **bar})
        pipeline.maybe_free_model_hooks()


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
    rest = full[:0] if nothing_left else full[_evaluations(paused.scheduler, paused) :]

    def put_back(self):
        self.timesteps = full
        self.__class__ = solver

    def set_timesteps(self, num_inference_steps=None, device=None, timesteps=None, sigmas=None, mu=None, **_):
        self.timesteps = rest

    def set_begin_index(self, begin_index=0):
        self.timesteps = full

    def scale_model_input(self, *args, **kwargs):
        self.timesteps = full
        return solver.scale_model_input(self, *args, **kwargs)

    def step(self, *args, **kwargs):
        self.timesteps = full
        return solver.step(self, *args, **kwargs)

    methods: dict[str, Any] = {
        "set_timesteps": set_timesteps, "step": step, "set_begin_index": set_begin_index, "put_back": put_back,
    }  # fmt: skip
    methods["init_noise_sigma"] = property(lambda self: 1.0, lambda self, value: None)
    if hasattr(solver, "scale_model_input"):
        methods["scale_model_input"] = scale_model_input
    # Pipelines look at step's signature to learn whether it takes `eta` and `generator`.
    step.__signature__ = inspect.signature(solver.step)  # type: ignore[attr-defined]
    scheduler.__class__ = type("Resumed" + solver.__name__, (_Resumed, solver), methods)
    return scheduler


def _evaluations(scheduler, paused: Paused, step: int | None = None) -> int:
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


def _ends(scheduler, paused: Paused) -> dict[int, int]:
    """The step that each evaluation ends; second-order solvers have some that end none."""
    return {_evaluations(scheduler, paused, k): k for k in range(1, paused.steps + 1)}


@dataclass
class _EncodedPrompts:
    """Text encodings, computed once for each distinct prompt and handed to the pipeline by row."""

    rows: list[int]
    texts: list[str]
    outputs: dict[Any, tuple] = field(default_factory=dict)

    @classmethod
    def of(cls, pipeline, prompts: list[str]) -> _EncodedPrompts:
        texts = list(dict.fromkeys(prompts))
        return cls([texts.index(p) for p in prompts], texts)

    def cut(self, chosen: Sequence[int]) -> _EncodedPrompts:
        """The same encodings for a part of the rows."""
        return _EncodedPrompts([self.rows[i] for i in chosen], self.texts, self.outputs)

    @contextlib.contextmanager
    def used_by(self, pipeline, chosen: Sequence[int]) -> Iterator[None]:
        """While inside, the pipeline's `encode_prompt` of the chosen prompts reads from here."""
        original = getattr(pipeline, "encode_prompt", None)
        rows = [self.rows[i] for i in chosen]
        wanted = [self.texts[row] for row in rows]
        shared = backbone_of(pipeline).shared

        def encode_prompt(prompt, *args, **kwargs):
            given = [*args, *kwargs.values()]
            if prompt != wanted or any(isinstance(v, (list, torch.Tensor)) for v in given):
                return original(prompt, *args, **kwargs)
            key = repr((args, sorted(kwargs.items(), key=lambda kv: kv[0])))
            if key not in self.outputs:
                with torch.no_grad():
                    self.outputs[key] = tuple(original(list(self.texts), *args, **kwargs))
            return tuple(v if i in shared else _rows_of(v, rows) for i, v in enumerate(self.outputs[key]))

        if original is None:
            yield
            return
        pipeline.encode_prompt = encode_prompt
        try:
            yield
        finally:
            del pipeline.encode_prompt


def _rows_of(value, rows: list[int]):
    """Rows of a tensor or list; None and an empty list stay."""
    if isinstance(value, list):
        return [value[r] for r in rows] if value else value
    return value if value is None else value[rows]
