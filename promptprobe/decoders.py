"""Tiny decoders for previews: which one fits which latents, where it is from, and decoding with it.

Comes in: a pipeline and what was asked for (`auto`, `tiny`, `full`, a folder). Goes out: a decoder, or None for the
pipeline's own, and a line that says which.

A row is found by the pipeline's own autoencoder (class, channels, scaling and shift of its configuration), not by the
denoiser: every model with SDXL's latents (Kolors, AuraFlow, PixArt-Σ) takes SDXL's tiny decoder, all with FLUX.1's
(Chroma, Z-Image, Lumina 2) that one. An `AutoencoderTiny` takes latents as the denoiser has them, neither scaled nor
shifted back; packed 2x2 patches are unpacked first (https://github.com/madebyollin/taesd). Any other class stands in
for the pipeline's own autoencoder and is called by the pipeline.

Not in the table, since diffusers 0.42 has no class that loads them: TAEF2 for FLUX.2 (a middle block of its own,
madebyollin/taesd issue 35), TAEQI 2.1 and TAEHV's taew2_1 for Qwen-Image and Wan, TAESANA (`.pth` only). DC-AE-Lite for
Sana is an `AutoencoderDC` whose licence could not be looked up: give its folder.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from .backbones import denoiser_of, device_of
from .errors import InputError, ModelError, reason_of
from .loading import check_weight_files

WAYS = ("auto", "tiny", "full")
FILES = ("config.json", "diffusion_pytorch_model.safetensors")
MOST_PIXELS = 2**22  # of images decoded at once by a tiny decoder: about 2 GB at 16 bits


@dataclass(frozen=True)
class TinyDecoder:
    """A row of the table: a decoder on the hub, and the autoencoder whose latents it decodes.

    `kind` is its class in diffusers. The latents are those of an autoencoder of class `vae` with `channels`, `scaling`
    and `shift` in its configuration (None where there is none).
    """

    name: str
    latents: str
    source: str
    revision: str
    licence: str
    kind: str
    vae: str
    channels: int
    scaling: float | None = None
    shift: float | None = None

    def fits(self, vae: Any) -> bool:
        """Whether it decodes this autoencoder's latents."""
        config = vae.config
        return (
            type(vae).__name__ == self.vae
            and channels_of(vae) == self.channels
            and config.get("latents_mean") is None
            and math.isclose(config.get("scaling_factor") or 0, self.scaling or 0, rel_tol=1e-4)
            and math.isclose(config.get("shift_factor") or 0, self.shift or 0, rel_tol=1e-4)
        )


# Scaling and shift: vae/config.json of stabilityai/stable-diffusion-xl-base-1.0, stable-diffusion-3.5-large and
# black-forest-labs/FLUX.1-dev; 0.18215 is `AutoencoderKL`'s default and Stable Diffusion 1.x's.
DECODERS = (
    TinyDecoder("taesd", "Stable Diffusion 1.x, 2.x", "madebyollin/taesd", "614f76814bbe30edbe2e627ace1c2234c81a2c0e",
                "MIT", "AutoencoderTiny", "AutoencoderKL", 4, 0.18215),
    TinyDecoder("taesdxl", "SDXL", "madebyollin/taesdxl", "b20258aaef75ef61e659c1e0f14f251cf0ad153e",
                "MIT", "AutoencoderTiny", "AutoencoderKL", 4, 0.13025),
    TinyDecoder("taesd3", "Stable Diffusion 3, 3.5", "madebyollin/taesd3", "d58dcaccd2b36fcb7a6b9e93c1cc507acab5a778",
                "MIT", "AutoencoderTiny", "AutoencoderKL", 16, 1.5305, 0.0609),
    TinyDecoder("taef1", "FLUX.1", "madebyollin/taef1", "2d552378e58c9c94201075708d7de4e1163b2689",
                "MIT", "AutoencoderTiny", "AutoencoderKL", 16, 0.3611, 0.1159),
    TinyDecoder("small decoder", "FLUX.2", "black-forest-labs/FLUX.2-small-decoder",
                "a3efc24f613ef42d9428af62fdbd6f5fd8856c4a", "Apache-2.0", "AutoencoderKLFlux2", "AutoencoderKLFlux2", 32),
)  # fmt: skip


def known_decoder(pipeline: Any) -> TinyDecoder | None:
    """The row for a pipeline's latents; None when there is none, or its own autoencoder is tiny already."""
    vae = getattr(pipeline, "vae", None)
    return next((row for row in DECODERS if vae is not None and row.fits(vae)), None)


def decoder_for(
    pipeline: Any, which: str | Path = "auto", shipped: Path | None = None
) -> tuple[nn.Module | None, str | None]:
    """The decoder for previews (None: the pipeline's own), and a line that says what was chosen where that is news.

    `auto` takes the tiny one where it is on disk already, else the pipeline's own; `tiny` downloads it; `full` is the
    pipeline's own. A built-in world has its tiny one `shipped`. A folder has a decoder of the user's: an `AutoencoderTiny`, or one of the same class as the
    pipeline's. Raises `InputError` for a decoder of other latents or none known, `ModelError` when it can't be had or read.
    """
    which = str(which)
    if which not in WAYS:
        return _load(pipeline, _folder(which)), None
    vae = getattr(pipeline, "vae", None)
    if shipped is not None and which != "full":
        return shipped_decoder(pipeline, shipped), None
    if which == "full" or vae is None or type(vae).__name__ == "AutoencoderTiny":
        return None, None
    row = known_decoder(pipeline)
    if row is None:
        if which == "tiny":
            raise InputError(
                f"--preview-decoder tiny: no tiny decoder is known for the latents of {type(pipeline).__name__} "
                f"({type(vae).__name__}, {channels_of(vae)} channels); use full, or give the folder of one"
            )
        return None, "previews are decoded by the model's own decoder: no tiny one is known for its latents"
    folder = decoder_on_disk(row)
    if which == "tiny":
        return _load(pipeline, folder or _download(row), row), None
    if folder is None:
        return None, (
            f"previews are decoded by the model's own decoder: the tiny one, {row.source} ({row.licence}), is not on "
            "disk; --preview-decoder tiny downloads it"
        )
    return _load(pipeline, folder, row), (
        f"previews are decoded by {row.source}, found on disk; --preview-decoder full takes the model's own"
    )


def shipped_decoder(pipeline: Any, folder: Path) -> nn.Module:
    """A built-in world's other decoder of a pipeline's latents."""
    from diffusers import AutoencoderTiny

    own = pipeline.vae
    decoder = AutoencoderTiny.from_pretrained(folder, dtype=own.dtype, use_safetensors=True, local_files_only=True)
    decoder.register_to_config(scaling_factor=own.config.scaling_factor, shift_factor=own.config.shift_factor)
    return decoder.eval().requires_grad_(False)


@torch.no_grad()
def decode(decoder: Any, clean: torch.Tensor, device: torch.device | str = "cpu") -> torch.Tensor:
    """Images of an `AutoencoderTiny`, float32 `[batch, 3, height, width]` in 0..1 on the CPU.

    `clean` `[batch, channels, height, width]` are latents as the denoiser has them; four times the decoder's channels are
    packed 2x2 patches. A row that is not finite gives an image of nan.
    """
    if clean.shape[1] == 4 * channels_of(decoder):
        clean = nn.functional.pixel_shuffle(clean, 2)
    decoder.to(device)
    images = []
    at_once = max(1, MOST_PIXELS // (clean[0, 0].numel() * upscaling_of(decoder) ** 2))
    scale = decoder.config.get("scaling_factor") or 1
    for latents in clean.split(at_once):
        image = decoder.decode(latents.to(device, decoder.dtype) / scale, return_dict=False)[0]
        images.append((image.float() / 2 + 0.5).clamp(0, 1).cpu())
    return torch.cat(images)


@contextlib.contextmanager
def standing_in(pipeline: Any, decoder: Any | None) -> Iterator[None]:
    """While inside, `decoder` (None: nothing) is the pipeline's autoencoder."""
    if decoder is None:
        yield
        return
    own = pipeline.vae
    decoder.to(device_of(pipeline), own.dtype)
    pipeline.vae = decoder
    try:
        yield
    finally:
        pipeline.vae = own


def pictures(values: torch.Tensor) -> list[Image.Image]:
    """Images `[batch, 3, height, width]` in 0..1 as 8 bits a channel."""
    return [Image.fromarray(i) for i in (values.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()]


def is_tiny(decoder: Any) -> bool:
    """Whether `decode` is for this decoder; any other stands in for the pipeline's own."""
    return type(decoder).__name__ == "AutoencoderTiny"


def channels_of(vae: Any) -> int:
    """Channels of an autoencoder's latents; 0 when its configuration doesn't say."""
    return int(vae.config.get("latent_channels") or vae.config.get("z_dim") or 0)


def upscaling_of(decoder: Any) -> int:
    """How many pixels wide a latent cell of an `AutoencoderTiny` is."""
    levels = len(decoder.config.decoder_block_out_channels) - 1
    return int(decoder.config.upsampling_scaling_factor**levels)


def markdown_table() -> str:
    """The table of tiny decoders for docs/BACKBONES.md, in Markdown."""
    rows: list[tuple[str, ...]] = [("latents of", "decoder", "revision", "licence", "class"), ("---",) * 5]
    rows += [(d.latents, f"`{d.source}`", f"`{d.revision[:12]}`", d.licence, f"`{d.kind}`") for d in DECODERS]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _folder(given: str) -> Path:
    if not Path(given).is_dir():
        raise InputError(f"--preview-decoder is {given!r}; give auto, tiny, full, or the folder of a decoder")
    return Path(given)


def decoder_on_disk(row: TinyDecoder) -> Path | None:
    """The folder of a decoder in the hub's cache, at its revision or else as a download of `main` left it."""
    from huggingface_hub import try_to_load_from_cache

    for revision in (row.revision, "main"):
        found = [try_to_load_from_cache(row.source, name, revision=revision) for name in FILES]
        if all(isinstance(path, str) for path in found):
            return Path(str(found[0])).parent
    return None


def _download(row: TinyDecoder) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        files = [hf_hub_download(row.source, name, revision=row.revision) for name in FILES]
        return Path(files[0]).parent
    except Exception as error:  # network, hub and file system have their own classes
        raise ModelError(
            f"--preview-decoder tiny needs {row.source}, and the hub did not deliver it ({reason_of(error)}); "
            "use full, or download it and give its folder"
        ) from error


def _load(pipeline: Any, folder: Path, row: TinyDecoder | None = None) -> nn.Module:
    """The decoder in a folder, checked against the pipeline's latents."""
    import diffusers

    option = f"--preview-decoder {str(folder)!r}"
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        kind, named = str(config["_class_name"]), str(config.get("_name_or_path", ""))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{option} is no decoder: its config.json can't be read ({reason_of(error)}); give a folder of "
            "config.json and a .safetensors file"
        ) from error
    vae = getattr(pipeline, "vae", None)
    own = type(vae).__name__
    if kind not in ("AutoencoderTiny", own):
        fitting = " or an ".join(dict.fromkeys(("AutoencoderTiny", own)))
        raise InputError(f"{option} is of class {kind}; {type(pipeline).__name__} takes an {fitting}")
    source = row.source if row else next((d.source for d in DECODERS if _is_from(d.source, folder, named)), None)
    known = known_decoder(pipeline)
    if source is not None and not is_tiny(vae) and source != (known.source if known else None):
        fitting = f"{known.source} fits" if known else "none is known for them: use full"
        raise InputError(
            f"{option} is {source}, which decodes other latents than those of {type(pipeline).__name__}; {fitting}"
        )
    check_weight_files(folder)
    dtype = denoiser_of(pipeline).dtype if pipeline.device.type != "cpu" else torch.float32
    try:
        decoder, told = getattr(diffusers, kind).from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # diffusers, safetensors and torch have their own classes
        raise ModelError(f"{option} can't be loaded as {kind}: {reason_of(error)}") from error
    missing = [key for key in told["missing_keys"] if key.startswith("decoder.")]
    if missing:
        raise ModelError(f"{option} lacks weights of a decoder, the first is {missing[0]!r}; get it again")
    _check_shapes(pipeline, decoder, option)
    return decoder.eval().requires_grad_(False)


def _check_shapes(pipeline: Any, decoder: Any, option: str) -> None:
    """Raise `InputError` for a decoder with other channels, or of another enlargement, than the pipeline's own."""
    channels, own = channels_of(decoder), channels_of(pipeline.vae)
    if channels != own:
        raise InputError(
            f"{option} decodes latents of {channels} channels; those of {type(pipeline).__name__} have {own}"
        )
    if is_tiny(decoder) and (scale := getattr(pipeline, "vae_scale_factor", None)) not in (None, upscaling_of(decoder)):
        raise InputError(
            f"{option} enlarges latents {upscaling_of(decoder)} times; {type(pipeline).__name__} needs {scale} times"
        )


def _is_from(source: str, folder: Path, named: str) -> bool:
    """Whether a folder is a copy of a hub repository, by its configuration or its place in the hub's cache."""
    return named == source or f"models--{source.replace('/', '--')}" in folder.resolve().parts
