"""Run a batch of (prompt, seed) to step k, pause, resume any subset, and finish.

The pipeline's own `__call__` does the denoising both times. Pausing interrupts it from `callback_on_step_end`;
resuming puts the saved scheduler back, so that solvers with a memory continue exactly where they were.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from PIL import Image

from .attention import AttentionTap, CutOff
from .backbones import backbone_of, denoiser_of, device_of
from .calling import Stopped, call, check_settings
from .decoders import decode, is_tiny, pictures, standing_in
from .errors import InputError
from .guidance import GapMeter
from .paused import PROBE_STEP, STEPS, EncodedPrompts, Paused, check_chosen, check_same, check_steps
from .solver import copy_of, ends_of, evaluations, on_grid, resuming
from .tokens import clean_prompt, tokenize_prompt

__all__ = ["PROBE_STEP", "STEPS", "Paused", "advance", "check_steps", "finish", "preview", "start"]


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
    gap: bool = False,
    **settings: Any,
) -> Paused:
    """Denoise each of `prompts` with the seed of the same place in `seeds` to step `stop`.

    Token maps are read at the steps in `watch` (default: `stop`) of the modules named in `blocks` (default: those of
    the pipeline's row in `backbones.py`; none: no attention is computed, but what the steps predict is kept). `on_step` is told each finished step, the first is 1.
    With `cut`, step `stop` goes no further than its last probed block: the result has the step's maps, but is paused
    before it, and what goes on makes it anew. With `gap`, the guidance gap is summed up. `settings` go to the pipeline as they are (`guidance_scale`, `height`,
    `negative_prompt`, ...). Raises `InputError` for empty prompts, unequal lengths or steps out of range.
    """
    check_steps(steps, stop)
    if len(prompts) != len(seeds) or not prompts:
        raise InputError(f"{len(prompts)} prompts and {len(seeds)} seeds; give as many seeds as prompts, at least one")
    check_settings(pipeline, settings)
    if settings.get("sigmas") is not None and len(settings["sigmas"]) != steps:
        raise InputError(f"{len(settings['sigmas'])} sigmas are given for {steps} steps; give one for each step")
    wanted = set(watch if watch is not None else (stop,))
    for k in wanted:
        check_steps(stop, k)
    prompts = [clean_prompt(p) for p in prompts]
    generators = [torch.Generator("cpu").manual_seed(s) for s in seeds]
    paused = Paused(
        prompts=prompts, seeds=list(seeds), tokens=[tokenize_prompt(pipeline, p, settings) for p in prompts], step=0,
        steps=steps, latents=torch.empty(0), token_maps={}, token_embeddings=None, clean_latents={}, timesteps={},
        settings=dict(settings), scheduler=pipeline.scheduler, denoiser=denoiser_of(pipeline),
        generator_states=[], encoded=EncodedPrompts.of(pipeline, prompts),
    )  # fmt: skip
    meter = GapMeter(pipeline, len(paused)) if gap else None
    return _run(pipeline, paused, generators, stop, wanted, blocks, on_step, cut=cut and stop > 1, meter=meter)


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
    gap: bool = False,
) -> Paused:
    """Denoise the chosen trajectories of `paused` (default: all) on to step `stop`, and pause again; none is redone.

    The result holds only the chosen ones, with maps of the newly watched steps (default: `stop`). `pipeline` is the one
    that `paused` came from; `watch`, `blocks`, `on_step`, `cut` and `gap` are as for `start`. Raises as `finish`.
    """
    chosen = check_chosen(paused, chosen)
    wanted = set(watch if watch is not None else (stop,))
    for k in (stop, *wanted):
        if not paused.step < k <= min(stop, paused.steps):
            raise InputError(f"step {k} can't be reached from step {paused.step} of {paused.steps}")
    check_same(pipeline, paused)
    part = replace(
        paused, prompts=[paused.prompts[i] for i in chosen], seeds=[paused.seeds[i] for i in chosen],
        tokens=[paused.tokens[i] for i in chosen], token_maps={}, clean_latents={}, timesteps={}, token_embeddings=None,
        encoded=paused.encoded.cut(chosen, backbone_of(pipeline).shared), gap=None,
    )  # fmt: skip
    meter = GapMeter(pipeline, len(part), paused.gap[chosen]) if gap and paused.gap is not None else None
    with resuming(pipeline, paused, chosen) as (generators, latents):
        return _run(
            pipeline, part, generators, stop, wanted, blocks, on_step, latents, paused.latents[chosen], cut, meter
        )


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
    as it is and can be finished again. `on_step` is told each finished step. Raises `ModelError` when the pipeline's solver is not the one it was paused in.
    """
    chosen = check_chosen(paused, chosen)
    check_same(pipeline, paused)

    before = evaluations(paused.scheduler, paused)
    ends = ends_of(paused.scheduler, paused)

    def after_step(pipe, index: int, timestep, tensors: dict) -> dict:
        if on_step and before + index + 1 in ends:
            on_step(ends[before + index + 1])
        return tensors

    with resuming(pipeline, paused, chosen) as (generators, latents), paused.encoded.used_by(pipeline, chosen):
        return call(
            pipeline, prompts=[paused.prompts[i] for i in chosen], generators=generators, steps=paused.steps,
            callback=after_step, output=output, settings=_later(pipeline, paused), latents=latents,
        )  # fmt: skip


def preview(
    pipeline,
    paused: Paused,
    chosen: Sequence[int] | None = None,
    step: int | None = None,
    *,
    decoder: Any | None = None,
) -> list[Image.Image]:
    """Images of what the chosen trajectories were heading for at `step` (default: their last): only decoding is done.

    `decoder` is one of `decoders.decoder_for`, None the pipeline's own. Raises `InputError` when that step was not
    watched or an image is not finite, and as `finish`.
    """
    decoded = preview_values(pipeline, paused, chosen, step, decoder=decoder)
    bad = (~decoded.flatten(1).isfinite().all(1)).sum().item()
    if bad:
        raise InputError(
            f"{bad} of {len(decoded)} previews are not finite; try --dtype float32, or another --preview-decoder"
        )
    return pictures(decoded)


def preview_values(
    pipeline,
    paused: Paused,
    chosen: Sequence[int] | None = None,
    step: int | None = None,
    *,
    decoder: Any | None = None,
) -> torch.Tensor:
    """As `preview`, but float32 `[chosen, 3, height, width]` in 0..1; what can't be decoded to numbers is nan."""
    chosen = check_chosen(paused, chosen)
    check_same(pipeline, paused)
    step = paused.step if step is None else step
    kept = paused.clean_latents.get(step)
    if kept is None:
        if step in paused.token_maps and step <= paused.step:
            raise InputError(
                f"{type(paused.scheduler).__name__} doesn't say what it predicts the image to be, so there is no "
                "preview; choose another scheduler, such as DPMSolverMultistepScheduler"
            )
        raise InputError(f"what step {step} predicted was not kept; watch it for a preview")
    clean = kept[chosen]
    finite = clean.flatten(1).isfinite().all(1)
    clean = torch.where(finite[:, None, None, None], clean, 0.0)
    if decoder is not None and is_tiny(decoder):
        values = decode(decoder, clean, device_of(pipeline))
    else:
        values = _decoded_by_pipeline(pipeline, paused, chosen, clean.to(paused.latents), decoder)
    values[~finite] = torch.nan
    return values


def _decoded_by_pipeline(pipeline, paused: Paused, chosen: list[int], clean: torch.Tensor, decoder) -> torch.Tensor:
    """Clean latents `[chosen, channels, height, width]` through the pipeline's own last lines."""
    if paused.latents.ndim == 3:
        clean = clean.flatten(2).transpose(1, 2)
    elif paused.latents.ndim == 5:
        clean = clean[:, :, None]
    with (
        standing_in(pipeline, decoder),
        resuming(pipeline, paused, chosen, nothing_left=True) as (generators, _),
        paused.encoded.used_by(pipeline, chosen),
    ):
        images = call(
            pipeline, prompts=[paused.prompts[i] for i in chosen], generators=generators, steps=paused.steps,
            callback=lambda pipe, index, timestep, tensors: tensors, output="pt", settings=paused.settings,
            latents=backbone_of(pipeline).unpack(pipeline, clean, paused.settings),
        )  # fmt: skip
    return images.detach().float().cpu()


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
    meter: GapMeter | None = None,
) -> Paused:
    """Denoise all of `paused` from its step to `stop`; `before` are its latents as the solver left them."""
    columns = [t.columns for t in paused.tokens]
    result = replace(paused, token_maps={}, clean_latents={}, timesteps={})
    cut = cut and stop in wanted and (blocks is None or len(blocks) > 0)
    at_once = False  # whether the first denoiser call is the one to cut off
    if cut and stop == paused.step + 1:
        assert before is not None
        result.latents, result.scheduler = before.clone(), copy_of(pipeline.scheduler)
        at_once = evaluations(paused.scheduler, paused, stop) == evaluations(paused.scheduler, paused) + 1
    tap = AttentionTap(pipeline, blocks) if wanted else None
    thought: list[torch.Tensor | None] = [None]  # what the last evaluation predicted

    def after_step(pipe, index: int, timestep, tensors: dict) -> dict:
        if meter is not None:
            meter.step_done()
        # Second-order solvers evaluate the denoiser twice a step; what lies between belongs to no step.
        evaluation = evaluations(pipe.scheduler, paused) + index + 1
        ends = ends_of(pipe.scheduler, paused)
        step = ends.get(evaluation)
        if tap is not None:
            if step in wanted:
                maps = _read(tap, result, step, pipe.scheduler.timesteps[evaluation - 1])
                clean = on_grid(thought[0], maps.shape[-2:])
                if clean is not None:
                    result.clean_latents[step] = clean.detach().cpu()
            following = ends.get(evaluation + 1)
            tap.arm(columns, cut and following == stop) if following in wanted else tap.disarm()
        if step is None:
            return tensors
        if on_step:
            on_step(step)
        if step == stop - cut:
            result.step = step
            result.latents = tensors["latents"].detach().clone()
            result.scheduler = copy_of(pipe.scheduler)
        if step == stop:
            pipe._interrupt = True
            if not hasattr(type(pipe), "interrupt"):
                raise Stopped
        return tensors

    more = {} if latents is None else {"latents": latents}
    with (
        tap or contextlib.nullcontext(),
        meter or contextlib.nullcontext(),
        paused.encoded.used_by(pipeline, range(len(paused))),
    ):
        if tap is not None and paused.step + 1 in wanted:
            tap.arm(columns, at_once)
        with contextlib.suppress(CutOff):
            call(
                pipeline, prompts=paused.prompts, generators=generators, steps=paused.steps, callback=after_step,
                output="latent", settings=paused.settings if latents is None else _later(pipeline, paused),
                told=partial(thought.__setitem__, 0) if wanted else None, **more,
            )  # fmt: skip
        if cut:
            assert tap is not None
            full = result.scheduler.timesteps
            _read(tap, result, stop, full[evaluations(result.scheduler, paused, stop) - 1])
            if on_step:
                on_step(stop)
    result.generator_states = [g.get_state() for g in generators]
    result.gap = None if meter is None else meter.total
    return result


def _later(pipeline, paused: Paused) -> dict[str, Any]:
    """The settings of a call that goes on from where `paused` is."""
    done, full = evaluations(paused.scheduler, paused), len(paused.scheduler.timesteps)
    return backbone_of(pipeline).later(pipeline, paused.settings, done, full, paused.steps)


def _read(tap: AttentionTap, result: Paused, step: int, timestep) -> torch.Tensor:
    """Put what the tap saw at a step into `result`; its maps."""
    result.token_maps[step] = tap.token_maps()
    result.token_embeddings = tap.token_embeddings() if tap.blocks else None
    result.blocks = list(tap.blocks)
    result.timesteps[step] = float(timestep)
    return result.token_maps[step]
