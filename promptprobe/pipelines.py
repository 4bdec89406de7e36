"""Load a pipeline, and say clearly what is wrong when that can't be done."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .backbones import backbone_of
from .calling import check_settings
from .decoders import shipped_decoder, upscaling_of
from .errors import InputError, ModelError, reason_of
from .loading import (
    check_device,
    check_weight_files,
    quiet_transformers,
    settle_device,
    settle_dtype,
    stored_bytes,
    weight_files,
)
from .options import LoadingOptions, check, names_of
from .placing import check_place, place, quantization
from .single_file import is_checkpoint, load_file
from .sizes import check_world_size, with_size
from .solver import choose_scheduler
from .sources import source_of
from .tokens import with_length
from .worlds import DEFAULT, call_of, guidance_of, world_of


@dataclass(frozen=True)
class Loaded:
    """What a pipeline was loaded with, every `auto` resolved, and what people should know of it, a line each; `model` is
    its name as it was asked for."""

    options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    model: str | None = None


def loaded_of(pipeline: Any) -> Loaded:
    """How `load_pipeline` made a pipeline; empty for one that it did not make."""
    return getattr(pipeline, "_promptprobe_loaded", Loaded())


def load_pipeline(
    model: str | Path = DEFAULT,
    device: str = "auto",
    dtype: str | None = "auto",
    *,
    offload: str = "auto",
    quantize: str = "none",
    scheduler: str = "auto",
    config: str | Path | None = None,
    lora: Sequence[str] = (),
    revision: str | None = None,
    variant: str | None = None,
):
    """A ready text-to-image pipeline: a built-in world's, a local diffusers folder, a checkpoint file, or a hub name.

    `device` auto is cuda, else mps, else the CPU. `dtype`, float32, float16 or bfloat16, is that of all parts; auto (or
    None) is a built-in world's own, else float32 on a CPU and the best that another device has. `offload` moves weights to
    the device when they are needed: "model" by parts, "sequential" by layers; auto as far as the device's free memory
    asks for it. `quantize` to 8bit or 4bit makes the denoiser and large text encoders smaller, on a GPU. `scheduler` names
    the solver; auto keeps the pipeline's own where it can be paused. `config` is a pipeline folder or hub name with what a
    checkpoint file lacks. `lora` names adapter files, folders or hub names, each with an optional strength behind an
    equals sign (`style.safetensors=0.8`). `revision` is a hub model's branch, tag or commit, `variant` that of its weight
    files, such as fp16. `loaded_of` has what was chosen, with the reasons. Raises `InputError` for options that can't be
    used here, and `ModelError` when the model is no pipeline, a weight file is corrupt, the name can't be reached, the
    denoiser is not in the table of backbones or an adapter doesn't fit.
    """
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    quiet_transformers()
    asked = {"dtype": dtype or "auto", "offload": offload, "quantize": quantize, "scheduler": scheduler}
    for name, value in asked.items():
        check(name, value)
    where, why = settle_device(device)
    check_place(where, offload, quantize)
    world = world_of(model)
    source = source_of(model)
    one_file = is_checkpoint(source)
    if config is not None and not one_file:
        raise InputError(f"--config is for a checkpoint file, and --model {source!r} is none; leave it out")
    if revision is not None and Path(source).exists():
        raise InputError(f"--revision is for a hub model, and --model {source!r} is on this machine; leave it out")
    folder = source if one_file else _folder_of(source, revision, variant)
    stored = stored_bytes(weight_files(Path(folder), variant))
    kind, more = (
        (world.dtype, "") if world and asked["dtype"] == "auto" else settle_dtype(asked["dtype"], where, stored)
    )
    pipeline = _loaded(folder, source, kind, config, variant, quantization(quantize, Path(folder), kind, one_file))
    if world is not None and world.vae is not None:
        _draw_with(pipeline, world.vae)
    backbone_of(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    notes = []
    if "auto" in (device, asked["dtype"]) and (where != "cpu" or not world):
        notes.append(f"computing on {where} in {kind}{more}" + (f": {why}" if device == "auto" else ""))
    solver, told = choose_scheduler(pipeline, scheduler)
    notes += [told] if told else []
    _load_lora(pipeline, lora)
    placed, told = place(pipeline, where, offload, quantize != "none")
    notes += [told] if told else []
    options = {
        "device": where, "dtype": kind, "offload": placed, "quantize": quantize, "scheduler": solver,
        "config": None if config is None else str(config), "lora": tuple(lora), "revision": revision, "variant": variant,
    }  # fmt: skip
    pipeline._promptprobe_loaded = Loaded(options, tuple(notes), str(model))
    return pipeline


def _folder_of(source: str, revision: str | None, variant: str | None) -> str:
    """A local folder as it is; of a hub name the folder that it was downloaded to."""
    from diffusers import DiffusionPipeline

    if Path(source).exists():
        return source
    try:
        folder = DiffusionPipeline.download(source, use_safetensors=True, revision=revision, variant=variant)
    except Exception as error:  # the hub's and diffusers' own classes
        raise ModelError(
            f"--model {source!r} is no local folder, and the hub did not deliver it ({reason_of(error)}); "
            "download it first and give the folder, or check the name and HF_TOKEN"
        ) from error
    check_weight_files(Path(folder))
    return folder


def _loaded(
    folder: str, source: str, dtype: str, config: str | Path | None, variant: str | None, quantized: Any
) -> Any:
    """The pipeline of a folder or checkpoint file, in memory; every part has one type."""
    import torch
    from diffusers import DiffusionPipeline

    if Path(folder).is_file():
        return load_file(Path(folder), None if config is None else str(config), getattr(torch, dtype))
    more = {} if quantized is None else {"quantization_config": quantized}
    try:
        return DiffusionPipeline.from_pretrained(
            folder, dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=True, variant=variant, **more
        )
    except torch.OutOfMemoryError as error:
        raise InputError("the device is out of memory while loading; use --quantize 4bit or a smaller model") from error
    except Exception as error:  # every library on the way has its own classes
        raise ModelError(f"{source!r} can't be loaded as a diffusers pipeline: {reason_of(error)}") from error


def _draw_with(pipeline: Any, folder: Path) -> None:
    """Another decoder of the same latents in place of the pipeline's own."""
    pipeline.vae = shipped_decoder(pipeline, folder)
    pipeline.vae_scale_factor = upscaling_of(pipeline.vae)
    pipeline.register_modules(vae=pipeline.vae)


def _load_lora(pipeline: Any, adapters: Sequence[str]) -> None:
    names, strengths = [], []
    for i, adapter in enumerate(adapters):
        source, _, strength = adapter.partition("=")
        try:
            strengths.append(float(strength or 1))
        except ValueError as error:
            raise InputError(f"--lora {adapter!r}: the strength must be a number") from error
        if importlib.util.find_spec("peft") is None:
            raise ModelError(f"--lora {source!r} needs the package peft: pip install 'promptprobe[lora]'")
        if not hasattr(pipeline, "load_lora_weights"):
            raise ModelError(f"{type(pipeline).__name__} takes no LoRA adapters")
        names.append(f"lora{i}")
        path = Path(source)
        where = {"weight_name": path.name} if path.is_file() else {}
        try:
            pipeline.load_lora_weights(
                str(path.parent if path.is_file() else source), adapter_name=names[-1], use_safetensors=True, **where
            )
        except Exception as error:  # peft, diffusers and the hub have classes of their own
            raise ModelError(f"--lora {source!r} can't be loaded: {reason_of(error)}") from error
    if names:
        pipeline.set_adapters(names, strengths)


def pipeline_settings(
    model: str | Path,
    guidance: float | None = None,
    *,
    height: int | None = None,
    width: int | None = None,
    negative: str | None = None,
    pipe_args: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What is passed to the pipeline's call; a built-in world, or a folder with a file `promptprobe.json`, has settings of
    its own, which those given replace.

    Raises `InputError` for sizes below one pixel, and for a damaged file.
    """
    for name, size in (("height", height), ("width", width)):
        if size is not None and size < 1:
            raise InputError(f"{name} is {size}; it must be at least 1 pixel")
    world = world_of(model)
    settings = dict(world.settings) if world else call_of(model)
    if guidance is not None:
        settings[guidance_of(settings)] = float(guidance)
    more = {"height": height, "width": width, "negative_prompt": negative}
    more = {k: v for k, v in more.items() if v is not None}
    twice = set(pipe_args or {}) & {*more, *(settings if guidance is not None else ())}
    if twice:
        raise InputError(f"{min(twice)} is given twice, as an option and as pipe arg; leave one of them out")
    return settings | more | dict(pipe_args or {})


def loading_here(recorded: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The loading options of a record, as far as this machine has what they name; and what differs, a line each.

    Records made before the options of `auto` say less: they were made in float32.
    """
    loading = {"device": "cpu", "dtype": "float32", "offload": "none", **recorded}
    try:
        check_device(str(loading["device"]))
        return loading, []
    except InputError as error:
        device = settle_device()[0]
        left_out = {n: loading.pop(n) for n in ("offload", "quantize") if loading.get(n, "none") != "none"}
        loading |= {"device": device, "offload": "none" if device == "cpu" else "auto"}
        more = f", without {' and '.join(f'--{n} {v}' for n, v in left_out.items())}" if left_out else ""
        return loading, [f"made on {recorded['device']}, made again on {device}{more}: {error}; pixels may differ"]


LOADING = frozenset(names_of(LoadingOptions))


def open_pipeline(model: str | Path = DEFAULT, pipeline: Any = None, **options: Any) -> tuple[Any, dict[str, Any]]:
    """A pipeline (loaded unless given) and the settings of its call.

    `options` are those of `load_pipeline` and `pipeline_settings`. Raises what these raise.
    """
    settings = pipeline_settings(model, **{k: v for k, v in options.items() if k not in LOADING})
    if pipeline is None:
        check_world_size(model, settings)
        pipeline = load_pipeline(model, **{k: v for k, v in options.items() if k in LOADING})
    check_settings(pipeline, settings)
    return pipeline, with_length(pipeline, with_size(pipeline, settings))
