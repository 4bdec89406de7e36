"""Load a pipeline, and say clearly what is wrong when that can't be done."""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .backbones import backbone_of
from .errors import InputError, ModelError, reason_of
from .loading import check_weight_files, quiet_transformers
from .options import LoadingOptions, names_of
from .worlds import DEFAULT, WORLDS, world_of

OFFLOADS = ("none", "model", "sequential")


def load_pipeline(
    model: str | Path = DEFAULT,
    device: str = "cpu",
    dtype: str | None = None,
    *,
    offload: str = "none",
    lora: Sequence[str] = (),
    revision: str | None = None,
    variant: str | None = None,
):
    """A ready text-to-image pipeline: a built-in world's, a local diffusers folder, or a hub name.

    Without `dtype` a built-in world is loaded in its own, anything else as its files and libraries have it.

    `dtype` is the weights' type: float32, float16 or bfloat16. `offload` moves weights to the device when they are
    needed: "model" by whole models, "sequential" by layers. `lora` names adapter files, folders or hub names, each with
    an optional strength behind an equals sign (`style.safetensors=0.8`). `revision` is a hub model's branch, tag or
    commit, `variant` that of its weight files, such as fp16. Raises `ModelError` when the folder is no pipeline, a weight file is corrupt, the name can't be reached, the
    denoiser is not in the table of backbones or an adapter doesn't fit.
    """
    import torch
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    quiet_transformers()
    if dtype not in (None, "float32", "float16", "bfloat16"):
        raise InputError(f"--dtype is {dtype!r}; it must be float32, float16 or bfloat16")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device!r} can't be used here: {reason_of(error)}") from error
    if offload not in OFFLOADS:
        raise InputError(f"--offload is {offload!r}; it must be one of {', '.join(OFFLOADS)}")
    if offload != "none" and torch.device(device).type == "cpu":
        raise InputError(f"--offload {offload} moves weights from memory to a GPU; --device is {device!r}")
    world = world_of(model)
    dtype = dtype or (world.dtype if world else None)
    source = source_of(model)
    local = Path(source)
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            source, dtype=getattr(torch, dtype) if dtype else None, use_safetensors=True,
            local_files_only=local.exists(), revision=revision, variant=variant,
        )  # fmt: skip
    except Exception as error:  # every library on the way has its own classes
        if not local.exists():
            raise ModelError(
                f"--model {source!r} is no local folder, and the hub did not deliver it ({reason_of(error)}); "
                "download it first and give the folder, or check the name and HF_TOKEN"
            ) from error
        raise ModelError(f"{source!r} can't be loaded as a diffusers pipeline: {reason_of(error)}") from error
    backbone_of(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    _load_lora(pipeline, lora)
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
    return pipeline


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


def check_settings(pipeline: Any, settings: Mapping[str, Any]) -> None:
    """Raise `InputError` for a setting that the pipeline's call doesn't take."""
    taken = inspect.signature(pipeline.__call__).parameters
    for key in settings:
        if key not in taken:  # some also take and ignore anything
            raise InputError(f"{type(pipeline).__name__} takes no {key!r}")


def pipeline_settings(
    model: str | Path,
    guidance: float | None = None,
    *,
    height: int | None = None,
    width: int | None = None,
    negative: str | None = None,
    pipe_args: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What is passed to the pipeline's call; a built-in world has settings of its own, which those given replace.

    Raises `InputError` for sizes below one pixel.
    """
    for name, size in (("height", height), ("width", width)):
        if size is not None and size < 1:
            raise InputError(f"{name} is {size}; it must be at least 1 pixel")
    world = world_of(model)
    settings = dict(world.settings) if world else {}
    if guidance is not None:
        settings[world.guidance if world else "guidance_scale"] = float(guidance)
    more = {"height": height, "width": width, "negative_prompt": negative}
    return settings | {k: v for k, v in more.items() if v is not None} | dict(pipe_args or {})


LOADING = frozenset(names_of(LoadingOptions))


def open_pipeline(model: str | Path = DEFAULT, pipeline: Any = None, **options: Any) -> tuple[Any, dict[str, Any]]:
    """A pipeline (loaded unless given) and the settings of its call.

    `options` are those of `load_pipeline` and `pipeline_settings`. Raises what these raise.
    """
    settings = pipeline_settings(model, **{k: v for k, v in options.items() if k not in LOADING})
    if pipeline is None:
        pipeline = load_pipeline(model, **{k: v for k, v in options.items() if k in LOADING})
    check_settings(pipeline, settings)
    return pipeline, settings


def source_of(model: str | Path) -> str:
    """Folder or hub name of a model; raises `ModelError` for what can be neither."""
    world = world_of(model)
    source = str(world.pipeline if world else model)
    local = Path(source)
    if local.exists():
        _check_folder(local)
    elif source.startswith((".", "/", "~")) or source.count("/") != 1:
        own = " or ".join(repr(w.name) for w in WORLDS)
        raise ModelError(f"--model {source!r} is no folder; give a diffusers pipeline folder, a hub name like "
                         f"'stabilityai/stable-diffusion-xl-base-1.0', or {own}")  # fmt: skip
    return source


def _check_folder(folder: Path) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        raise ModelError(f"{str(folder)!r} is no diffusers pipeline: it has no model_index.json")
    try:
        json.loads(index.read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"{index} is not valid JSON: {error}") from error
    check_weight_files(folder)
