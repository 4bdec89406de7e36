"""What comes before any weights are loaded, pipelines' and reward models' alike: device, type and place, whole files.

The choices of `auto` are made here, each with a line that says why; nothing is loaded or printed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from .errors import InputError, ModelError, reason_of

HALVES = {"F16": "float16", "BF16": "bfloat16"}  # names in safetensors' headers
ROOM = 0.2  # share of the free memory that is left to activations
_VARIANT = re.compile(r"\.(fp16|bf16|fp32|ema|non_ema)[.-]")


def quiet_transformers() -> None:
    """No progress bars and notices of transformers among our own output."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def check_weight_files(folder: Path) -> None:
    """Raise `ModelError` that names the first safetensors file under `folder`, or the file itself, that is truncated or corrupt."""
    from safetensors import safe_open

    for file in sorted(folder.rglob("*.safetensors")) if folder.is_dir() else [folder]:
        try:
            with safe_open(file, "np") as opened:
                opened.keys()
        except Exception as error:  # safetensors' own class
            raise ModelError(f"{file} is corrupt or truncated ({reason_of(error)}); get it again") from error


def header_of(file: Path) -> dict[str, dict]:
    """Each tensor of a safetensors file with its `dtype`, `shape` and `data_offsets`; no weights are read.

    Format: https://github.com/huggingface/safetensors#format
    """
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    header.pop("__metadata__", None)
    return header


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The safetensors files of a pipeline's folder that are loaded, or the file itself."""
    if folder.is_file():
        return [folder]
    files = sorted(folder.rglob("*.safetensors"))
    wanted = [f for f in files if f".{variant}." in f.name or f".{variant}-" in f.name] if variant else []
    return wanted or [f for f in files if not _VARIANT.search(f.name)]


def stored_bytes(files: Iterable[Path]) -> dict[str, int]:
    """Bytes of weights by the type that they are stored in, as the headers name it."""
    found: dict[str, int] = {}
    for file in files:
        for tensor in header_of(file).values():
            first, last = tensor["data_offsets"]
            found[tensor["dtype"]] = found.get(tensor["dtype"], 0) + last - first
    return found


def check_device(device: str) -> None:
    """Raise `InputError` that says what to install or choose when a torch device can't be used here."""
    import torch

    said = f"--device {device!r} can't be used here"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = "meta"
    if kind == "meta":  # a device that computes nothing
        raise InputError(f"{said}: it is no device of PyTorch's; give auto, cpu, cuda, cuda:1 or mps")
    if device.split(":")[0] == "cuda" and not torch.cuda.is_available():
        if torch.version.cuda is None and torch.version.hip is None:
            raise InputError(
                f"{said}: PyTorch {torch.__version__} is built for CPUs only; install a build for your GPU "
                "(https://pytorch.org/get-started/locally), or leave --device out"
            )
        raise InputError(f"{said}: PyTorch finds no GPU; see whether nvidia-smi lists one, or leave --device out")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"{said}: {reason_of(error)}") from error


def settle_device(device: str = "auto") -> tuple[str, str]:
    """The torch device to use, and why in words; `auto` takes cuda, else mps, else the CPU. Raises as `check_device`."""
    import torch

    if device != "auto":
        check_device(device)
        return device, "as asked for"
    if torch.cuda.is_available():
        return "cuda", torch.cuda.get_device_name()
    if torch.backends.mps.is_available():
        return "mps", "Apple's GPU"
    if torch.version.cuda is None and torch.version.hip is None:
        return "cpu", f"PyTorch {torch.__version__} is built for CPUs only"
    return "cpu", "PyTorch finds no GPU"


def settle_dtype(dtype: str, device: str, stored: Collection[str] = ()) -> tuple[str, str]:
    """The weights' type on a device, and what to tell people of it; `auto` takes the best that the device has.

    `stored` are the types in the headers: on a CPU, halves are computed with as float32.
    """
    if dtype != "auto":
        return dtype, ""
    if device.split(":")[0] == "cpu":
        halves = [name for key, name in HALVES.items() if key in stored]
        more = (
            f", though stored as {' and '.join(halves)} (--dtype {halves[0]} takes half the memory)" if halves else ""
        )
        return "float32", more
    return next((name for name in ("bfloat16", "float16") if has_type(device, name)), "float32"), ""


def has_type(device: str, dtype: str) -> bool:
    """Whether a device computes in a type itself."""
    import torch

    if device.split(":")[0] == "cuda" and dtype == "bfloat16":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        ones = torch.ones(2, 2, dtype=getattr(torch, dtype), device=device)
        return bool((ones @ ones).isfinite().all())
    except (RuntimeError, TypeError):
        return False


def settle_offload(whole: int, largest: int, free: int, layers: bool = True) -> tuple[str, str]:
    """How weights are kept, and why, from bytes: of all weights, of the largest part, and of free GPU memory.

    A fifth of what is free stays for activations. Without `layers`, parts can't be moved by layers.
    """
    room = (1 - ROOM) * free
    said = f"{gigabytes(whole)} of weights, {gigabytes(free)} of GPU memory free"
    if whole <= room:
        return "none", said
    if largest <= room or not layers:
        return "model", f"{said}: weights are moved to the GPU part by part"
    return (
        "sequential",
        f"{said}, and the largest part has {gigabytes(largest)}: weights are moved layer by layer, slowly",
    )


def gigabytes(count: int) -> str:
    """Bytes in words for people."""
    return f"{count / 1e9:.1f} GB"
