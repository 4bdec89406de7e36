"""Where a pipeline's weights are kept, and how small: on the device, moved to it when needed, or quantised.

Comes in: a loaded pipeline and the options `offload` and `quantize`. Goes out: the pipeline in its place, and a line that
says what was chosen.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

from .errors import InputError, ModelError
from .loading import header_of, settle_offload, weight_files

LARGE = 1_000_000_000  # parameters from which a text encoder is quantised: T5-XXL, Gemma 2B and Qwen 7B are, CLIP isn't


def check_place(device: str, offload: str, quantize: str) -> None:
    """Raise `InputError` or `ModelError` for ways to keep weights that a device or installation has not."""
    kind = device.split(":")[0]
    if offload not in ("auto", "none") and kind == "cpu":
        raise InputError(f"--offload {offload} moves weights from memory to a GPU; --device is {device!r}")
    if quantize == "none":
        return
    if kind != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            f"--quantize {quantize} needs a CUDA GPU (--device is {device!r}) and the package bitsandbytes: "
            "pip install 'promptprobe[quantize]'"
        )
    if offload == "sequential":
        raise InputError(
            "--offload sequential can't move quantised weights; use --offload model, or leave --quantize out"
        )


def quantization(quantize: str, folder: Path, dtype: str, one_file: bool = False) -> Any:
    """diffusers' `PipelineQuantizationConfig` for a pipeline's folder; None when nothing is quantised."""
    if quantize == "none":
        return None
    if one_file:
        raise InputError(f"--quantize {quantize} needs a pipeline folder or hub name, and --model is one file")
    import torch
    from diffusers import BitsAndBytesConfig
    from diffusers.quantizers import PipelineQuantizationConfig
    from transformers import BitsAndBytesConfig as TextConfig

    own: dict[str, Any] = {"load_in_8bit": True}
    if quantize == "4bit":
        own = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": getattr(torch, dtype)}
    return PipelineQuantizationConfig(
        quant_mapping={
            name: (TextConfig if name.startswith("text_encoder") else BitsAndBytesConfig)(**own)
            for name in quantised_parts(folder)
        }
    )


def quantised_parts(folder: Path, large: int = LARGE) -> list[str]:
    """The parts of a pipeline's folder that are quantised: the denoiser, and text encoders of `large` parameters or more."""
    parts = [name for name in ("transformer", "unet") if (folder / name).is_dir()]
    for part in sorted(folder.glob("text_encoder*")):
        sizes = [math.prod(t["shape"]) for file in weight_files(part) for t in header_of(file).values()]
        parts += [part.name] if sum(sizes) >= large else []
    return parts


def place(pipeline: Any, device: str, offload: str = "auto", quantized: bool = False) -> tuple[str, str | None]:
    """Put a pipeline's weights where they belong; how it was done (none, model or sequential), and what to tell people.

    `auto` compares the weights with the free memory of a CUDA device, and goes on layer by layer when that runs out
    nevertheless; part by part when weights are `quantized`, which can't be moved by layers. Raises `InputError` when memory
    runs out with what was asked for.
    """
    import torch

    way, why = offload, None
    if offload == "auto":
        way = "none"
        if device.split(":")[0] == "cuda":
            way, why = settle_offload(*_sizes(pipeline, device), layers=not quantized)
            why = None if way == "none" else f"offload {way}: {why} (--offload)"
    try:
        _put(pipeline, device, way)
        return way, why
    except torch.OutOfMemoryError:
        if offload != "auto":
            raise InputError(
                f"the device is out of memory with --offload {way}; use --offload sequential, --quantize 4bit or a smaller model"
            ) from None
    # Outside of the handler: there, the error's frames would still hold what was moved.
    pipeline.to("cpu")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    way, how = ("model", "part by part") if quantized else ("sequential", "layer by layer, slowly")
    _put(pipeline, device, way)
    return way, f"out of memory while moving the weights to the device: they are moved {how} (--offload)"


def _put(pipeline: Any, device: str, way: str) -> None:
    if way == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif way == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)


def _sizes(pipeline: Any, device: str) -> tuple[int, int, int]:
    """Bytes of all weights, of the largest part, and of the memory that a CUDA device has for them.

    Counted in memory, after any change of type or size; quantised parts lie on the device already.
    """
    import torch

    parts = [m for m in pipeline.components.values() if isinstance(m, torch.nn.Module)]
    sizes = [sum(p.numel() * p.element_size() for p in m.parameters()) for m in parts]
    there = sum(p.numel() * p.element_size() for m in parts for p in m.parameters() if p.device.type == "cuda")
    return sum(sizes), max(sizes, default=0), torch.cuda.mem_get_info(device)[0] + there
