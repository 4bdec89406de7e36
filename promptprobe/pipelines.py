"""Load a pipeline and the probe that belongs to it, and say clearly what is wrong when that can't be done."""

from __future__ import annotations

import importlib.util
import inspect
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import icons
from .backbones import backbone_of, denoiser_of
from .errors import InputError, ModelError, ProbeMismatchError, reason_of
from .options import LoadingOptions, names_of
from .probe import Probe

log = logging.getLogger("promptprobe")


OFFLOADS = ("none", "model", "sequential")


def load_pipeline(
    model: str | Path = icons.NAME,
    device: str = "cpu",
    dtype: str | None = None,
    *,
    offload: str = "none",
    lora: Sequence[str] = (),
    revision: str | None = None,
    variant: str | None = None,
):
    """A ready text-to-image pipeline: the icon world's, a local diffusers folder, or a hub name.

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
    source = _source(model)
    local = Path(source)
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            source, torch_dtype=getattr(torch, dtype) if dtype else None, use_safetensors=True,
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


def quiet_transformers() -> None:
    """No progress bars and notices of transformers among our own output."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def pipeline_settings(
    model: str | Path,
    guidance: float | None = None,
    *,
    height: int | None = None,
    width: int | None = None,
    negative: str | None = None,
    pipe_args: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What is passed to the pipeline's call; the icon world has its own guidance.

    Raises `InputError` for sizes below one pixel.
    """
    for name, size in (("height", height), ("width", width)):
        if size is not None and size < 1:
            raise InputError(f"{name} is {size}; it must be at least 1 pixel")
    if guidance is None and str(model) in (icons.NAME, str(icons.PIPELINE)):
        guidance = icons.GUIDANCE
    settings = {} if guidance is None else {"guidance_scale": float(guidance)}
    more = {"height": height, "width": width, "negative_prompt": negative}
    return settings | {k: v for k, v in more.items() if v is not None} | dict(pipe_args or {})


LOADING = frozenset(names_of(LoadingOptions))


def open_pipeline(model: str | Path = icons.NAME, pipeline: Any = None, **options: Any) -> tuple[Any, dict[str, Any]]:
    """A pipeline (loaded unless given) and the settings of its call.

    `options` are those of `load_pipeline` and `pipeline_settings`. Raises what these raise.
    """
    settings = pipeline_settings(model, **{k: v for k, v in options.items() if k not in LOADING})
    if pipeline is None:
        pipeline = load_pipeline(model, **{k: v for k, v in options.items() if k in LOADING})
    check_settings(pipeline, settings)
    return pipeline, settings


def load_probe(probe: str | Path | None, model: str | Path = icons.NAME) -> Probe:
    """The probe of a folder, or where `probe` is None the icon world's own, for its `model`.

    Raises `ModelError` when another pipeline is used without a probe.
    """
    if probe is None:
        if str(model) not in (icons.NAME, str(icons.PIPELINE)):
            _source(model)
            raise ModelError(f"--model {str(model)!r} needs a probe of its own: give --probe FOLDER; "
                             "`promptprobe collect` and `promptprobe train` make one")  # fmt: skip
        probe = icons.PROBE
    return Probe.load(probe)


def check_probe(probe: Probe, pipeline, *, steps: int, probe_step: int, settings: dict[str, Any]) -> list[str]:
    """Compare a probe's card with a run; return warnings.

    Raises `ProbeMismatchError` when backbone, blocks or steps differ: the maps would mean something else.
    """
    card = probe.card
    name = type(denoiser_of(pipeline)).__name__
    if name != card.denoiser:
        raise ProbeMismatchError(f"this probe was trained for {card.denoiser}, the pipeline has a {name}")
    have = set(dict(denoiser_of(pipeline).named_modules()))
    missing = [b for b in card.blocks if b not in have]
    if missing:
        raise ProbeMismatchError(
            f"this probe was trained on blocks {card.blocks[0]} ... {card.blocks[-1]}, "
            f"of which the pipeline lacks {missing[0]}"
        )
    trained = "/".join(str(k) for k in card.probe_steps)
    remedy = f"use --probe-step {card.default_step} --steps {card.steps} or a probe trained for your steps"
    if steps == card.steps and probe_step not in card.probe_steps:
        raise ProbeMismatchError(
            f"this probe was trained for step {trained} of {card.steps}, not step {probe_step} of {steps}; {remedy}"
        )
    # A probe of several steps knows the noise level: another number of steps passes through the levels that it knows.
    alike = probe_step * card.steps / steps
    if steps != card.steps and (
        len(card.probe_steps) < 2 or not min(card.probe_steps) - 0.5 <= alike <= max(card.probe_steps) + 0.5
    ):
        raise ProbeMismatchError(
            f"this probe was trained for step {trained} of {card.steps}, not step {probe_step} of {steps}; {remedy}"
        )
    warnings = []
    if steps != card.steps:
        warnings.append(f"the probe was trained with {card.steps} steps, this run takes {steps}")
    scheduler = type(pipeline.scheduler).__name__
    if scheduler != card.scheduler:
        warnings.append(f"the probe was trained with {card.scheduler}, this run uses {scheduler}")
    for key in ("guidance_scale", "height", "width"):
        trained_with, used = getattr(card, key), settings.get(key, getattr(card, key))
        if trained_with is not None and used != trained_with:
            warnings.append(f"the probe was trained with {key} {trained_with}, this run uses {used}")
    return warnings


def check_timestep(probe: Probe, steps: int, probe_step: int, timestep: float) -> str | None:
    """A warning when a step's timestep is not the one that the probe was trained at, or, with another number of steps
    than in training, is beyond those that it was trained at."""
    known = probe.card.timesteps
    if steps == probe.card.steps:
        trained = known.get(str(probe_step))
        if trained is not None and abs(trained - timestep) > 1:
            return f"step {probe_step} is at timestep {timestep:.0f} here, the probe was trained at {trained:.0f}"
        return None
    gap = (max(known.values()) - min(known.values())) / max(len(known) - 1, 1) if known else 0.0
    if known and not min(known.values()) - gap <= timestep <= max(known.values()) + gap:
        return (
            f"step {probe_step} is at timestep {timestep:.0f}, beyond those that the probe was trained at "
            f"({min(known.values()):.0f} to {max(known.values()):.0f})"
        )
    return None


def _source(model: str | Path) -> str:
    """Folder or hub name of a model; raises `ModelError` for what can be neither."""
    source = str(icons.PIPELINE if str(model) == icons.NAME else model)
    local = Path(source)
    if local.exists():
        _check_folder(local)
    elif source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise ModelError(f"--model {source!r} is no folder; give a diffusers pipeline folder, a hub name like "
                         "'stabilityai/stable-diffusion-xl-base-1.0', or 'icons'")  # fmt: skip
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


def check_weight_files(folder: Path) -> None:
    """Raise `ModelError` that names the first safetensors file under `folder` that is truncated or corrupt."""
    from safetensors import safe_open

    for file in sorted(folder.rglob("*.safetensors")):
        try:
            with safe_open(file, "pt") as opened:
                opened.keys()
        except Exception as error:  # safetensors' own class
            raise ModelError(f"{file} is corrupt or truncated ({reason_of(error)}); get it again") from error
