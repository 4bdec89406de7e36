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
    where: dict[str, Any] = {"local_files_only": Path(folder).is_dir(), "revision": revision}
    try:
        index = dict(diffusers.DiffusionPipeline.load_config(folder, **where))
    except Exception as error:  # the hub's and diffusers' own classes
        if where["local_files_only"] or folder.startswith((".", "/", "~")) or folder.count("/") != 1:
            raise ModelError(f"--config {folder!r} is no pipeline folder: {reason_of(error)}") from error
        raise ModelError(
            f"{str(file)!r} needs the configurations of {folder!r}, which the hub did not deliver ({reason_of(error)}); "
            "give a pipeline folder of the same kind as --config"
        ) from error
    kind = getattr(diffusers, str(index.get("_class_name")), None)
    if kind is None or not hasattr(kind, "from_single_file"):
        raise ModelError(
            f"{index.get('_class_name')} can't be loaded from one file; give the pipeline's folder as --model"
        )
    try:
        parts = {
            name: part.from_pretrained(folder, subfolder=name, dtype=dtype, use_safetensors=True, **where)
            for name, part in _lacking(file, index).items()
        }
        return kind.from_single_file(str(file), config=folder, dtype=dtype, **where, **parts)
    except Exception as error:
        raise ModelError(
            f"{str(file)!r} can't be loaded as {kind.__name__} ({reason_of(error)}); what the file lacks is taken from "
            "--config FOLDER, a whole pipeline of the same kind"
        ) from error


def _lacking(file: Path, index: dict[str, Any]) -> dict[str, Any]:
    """Names and classes of a pipeline's parts with weights that aren't in the file: text encoders, VAE."""
    import diffusers
    import transformers
    from diffusers.loaders.single_file_utils import is_clip_model_in_single_file, is_t5_in_single_file

    weights = header_of(file)
    lacking = {}
    for name, entry in index.items():
        if name == "vae" and not any(key.startswith(_VAE) for key in weights):
            lacking[name] = getattr(diffusers, entry[1])
        if name.startswith("text_encoder") and isinstance(entry, list | tuple) and entry[1]:
            kind = getattr(transformers, entry[1])
            if not is_clip_model_in_single_file(kind, weights) and not (
                entry[1].startswith("T5") and is_t5_in_single_file(weights)
            ):
                lacking[name] = kind
    return lacking
