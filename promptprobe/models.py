"""Load a pipeline and the probe that belongs to it, and say clearly what is wrong when that can't be done."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from . import icons
from .backbones import backbone_of, denoiser_of
from .errors import InputError, ModelError, ProbeMismatchError
from .probe import Probe

log = logging.getLogger("promptprobe")


def load_pipeline(model: str | Path = icons.NAME, device: str = "cpu", dtype: str | None = None):
    """A ready text-to-image pipeline: the icon world's, a local diffusers folder, or a hub name.

    Raises `ModelError` when the folder is no pipeline, a weight file is corrupt, the name can't be reached or the
    denoiser is not in the table of backbones.
    """
    import torch
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if dtype not in (None, "float32", "float16", "bfloat16"):
        raise InputError(f"--dtype is {dtype!r}; it must be float32, float16 or bfloat16")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device!r} can't be used here: {_reason(error)}") from error
    source = _source(model)
    local = Path(source)
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            source, torch_dtype=getattr(torch, dtype) if dtype else None, use_safetensors=True,
            local_files_only=local.exists(),
        )  # fmt: skip
    except Exception as error:  # every library on the way has its own classes
        if not local.exists():
            raise ModelError(
                f"--model {source!r} is no local folder, and the hub did not deliver it ({_reason(error)}); "
                "download it first and give the folder, or check the name and HF_TOKEN"
            ) from error
        raise ModelError(f"{source!r} can't be loaded as a diffusers pipeline: {_reason(error)}") from error
    backbone_of(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def pipeline_settings(model: str | Path, guidance: float | None = None, **more: Any) -> dict[str, Any]:
    """What is passed to the pipeline's call; the icon world has its own guidance."""
    if guidance is None and str(model) in (icons.NAME, str(icons.PIPELINE)):
        guidance = icons.GUIDANCE
    settings = {} if guidance is None else {"guidance_scale": float(guidance)}
    return settings | {k: v for k, v in more.items() if v is not None}


def load_probe(probe: str | Path | None, model: str | Path = icons.NAME) -> Probe:
    """The probe of a folder, or the icon world's own.

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
    if steps != card.steps or probe_step not in card.probe_steps:
        trained = "/".join(str(k) for k in card.probe_steps)
        raise ProbeMismatchError(
            f"this probe was trained for step {trained} of {card.steps}, not step {probe_step} of {steps}; "
            f"use --probe-step {card.probe_steps[0]} --steps {card.steps} or a probe trained for your steps"
        )
    warnings = []
    scheduler = type(pipeline.scheduler).__name__
    if scheduler != card.scheduler:
        warnings.append(f"the probe was trained with {card.scheduler}, this run uses {scheduler}")
    for key in ("guidance_scale", "height", "width"):
        trained_with, used = getattr(card, key), settings.get(key, getattr(card, key))
        if trained_with is not None and used != trained_with:
            warnings.append(f"the probe was trained with {key} {trained_with}, this run uses {used}")
    return warnings


def check_timestep(probe: Probe, probe_step: int, timestep: float) -> str | None:
    """A warning when the step's timestep is not the one that the probe was trained at."""
    trained = probe.card.timesteps.get(str(probe_step))
    if trained is not None and abs(trained - timestep) > 1:
        return f"step {probe_step} is at timestep {timestep:.0f} here, the probe was trained at {trained:.0f}"
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
            raise ModelError(f"{file} is corrupt or truncated ({_reason(error)}); get it again") from error


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
