"""Checkpoints of one file: `--model FILE.safetensors`.

Comes in: the file, and a pipeline folder or hub name whose configurations fit it (default: those of its kind, from the
hub). Goes out: the pipeline. What the file lacks, such as FLUX's text encoders, comes from that folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import ModelError, reason_of
from .loading import check_weight_files, header_of

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")
_VAE = ("first_stage_model.", "vae.", "encoder.", "decoder.")  # how a VAE's weights begin, in one file


def is_checkpoint(source: str) -> bool:
    """Whether a model's name is that of a checkpoint file; raises `ModelError` for a kind of file that isn't opened.

    Pickles (.ckpt, .bin and others) can run code when they are opened.
    """
    path = Path(source)
    if path.is_dir():
        return False
    kind = path.suffix.lower()
    if kind in PICKLES:
        raise ModelError(
            f"--model {source!r} is a pickle, which can run code when it is opened; give the model's .safetensors file or folder"
        )
    if kind == ".gguf":
        raise ModelError(
            f"--model {source!r} is GGUF, which is not read; give the .safetensors file or the pipeline folder, "
            "and --quantize 4bit for weights as small"
        )
    if kind == ".safetensors" and not path.is_file():
        raise ModelError(f"--model {source!r} is no file")
    if path.is_file() and kind != ".safetensors":
        raise ModelError(f"--model {source!r} is no checkpoint; give a .safetensors file or a pipeline folder")
    return path.is_file()


def kind_of(file: Path) -> str:
    """The hub name of the pipeline that a checkpoint is one of, by its weights' names; raises `ModelError` for others."""
    import torch
    from diffusers.loaders.single_file_utils import fetch_diffusers_config, infer_diffusers_model_type

    weights = {name: torch.empty(t["shape"], device="meta") for name, t in header_of(file).items()}
    try:
        kind = infer_diffusers_model_type(weights)
        # What it does not know it takes for Stable Diffusion 1.
        known = kind != "v1" or any(name.startswith("model.diffusion_model.") for name in weights)
        source = fetch_diffusers_config(weights) if known else {}
    except Exception:  # it looks into values, too
        source = {}
    if not source or "subfolder" in source:
        first = ", ".join(list(weights)[:2]) or "none"
        raise ModelError(
            f"{str(file)!r} is no checkpoint of a known text-to-image model (its first weights: {first}); give the pipeline's "
            "folder as --model, or a folder with fitting configurations as --config"
        )
    return str(source["pretrained_model_name_or_path"])


def load_file(file: Path, config: str | None, dtype: Any, revision: str | None = None) -> Any:
    """The pipeline of a checkpoint file, all parts as `dtype`; raises `ModelError`."""
    import diffusers

    check_weight_files(file)
    folder = config or kind_of(file)
    local = Path(folder).is_dir()
    try:
        name = diffusers.DiffusionPipeline.load_config(folder, local_files_only=local, revision=revision)["_class_name"]
    except Exception as error:  # the hub's and diffusers' own classes
        if config and (local or folder.count("/") != 1):
            raise ModelError(f"--config {folder!r} is no pipeline folder: {reason_of(error)}") from error
        raise ModelError(
            f"{str(file)!r} needs the configurations of {folder!r}, which the hub did not deliver ({reason_of(error)}); "
            "give a pipeline folder of the same kind as --config"
        ) from error
    kind = getattr(diffusers, name, None)
    if kind is None or not hasattr(kind, "from_single_file"):
        raise ModelError(f"{name} can't be loaded from one file; give the pipeline's folder as --model")
    try:
        parts = _vae_of(folder, local, dtype, revision) if _lacks_vae(file) else {}
        return kind.from_single_file(
            str(file), config=folder, dtype=dtype, local_files_only=local, revision=revision, **parts
        )
    except Exception as error:
        raise ModelError(
            f"{str(file)!r} can't be loaded as {name} ({reason_of(error)}); a part that the file lacks is taken from "
            "--config FOLDER, a whole pipeline of the same kind"
        ) from error


def _lacks_vae(file: Path) -> bool:
    return not any(name.startswith(_VAE) for name in header_of(file))


def _vae_of(folder: str, local: bool, dtype: Any, revision: str | None) -> dict[str, Any]:
    import diffusers

    index = diffusers.DiffusionPipeline.load_config(folder, local_files_only=local, revision=revision)
    kind = getattr(diffusers, index["vae"][1])
    return {
        "vae": kind.from_pretrained(
            folder, subfolder="vae", dtype=dtype, local_files_only=local, revision=revision, use_safetensors=True
        )
    }
