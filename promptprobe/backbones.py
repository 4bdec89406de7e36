"""One table: for each denoiser class, which attention blocks to probe and where image and text lie in them.

A new backbone is a new row, added with `register`. Comes in: a diffusers pipeline. Goes out: its `Backbone` row and
block names; `Layout` says where the image's queries and the text's keys are in one denoiser call.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .errors import CaptureError, ModelError

MAX_BLOCKS = 10  # Diffusion Probe, arXiv:2602.23783, §4.1: ten blocks


@dataclass(frozen=True)
class Layout:
    """Where things lie in the probed attention of one denoiser call.

    `grid` is height and width of the image tokens; `image` and `text` are where the first image query and the first
    text key stand, `image` one for each sample where they differ. `keys` is how many keys there should be, None where
    blocks differ (UNets work on several grids) or that is not known.
    """

    grid: tuple[int, int]
    image: int | tuple[int, ...] = 0
    text: int = 0
    keys: int | None = None


@dataclass(frozen=True)
class Backbone:
    """A row of the table.

    `find_blocks` lists the attention modules that are probed by default, by name and in order, `find_all` every one
    that looks at text. `layout` reads a denoiser call's arguments; `text_argument` names the one with the text.
    `conditional` says which part of a guided batch carries the prompt: the first or the last half. `tokenizer` names
    the pipeline's tokenizer of the probed text, `wrap` puts a prompt into the pipeline's template, `dropped` counts
    leading tokens that never reach the denoiser, `before` text columns that come from another encoder. `length` is
    how many tokens the text encoder takes. `shared` are places in `encode_prompt`'s output that have no batch.
    `defaults` are settings of the pipeline's call that differ from its own.
    `blocks`, `guided` and `solvers` tell people which blocks are probed, what of a guided step is read and which solvers
    were tested.
    `right_aligned` says whether padding stands before the text, where that is the tokenizer's business of a pipeline.
    `unpack` turns a callback's latents into the ones that the pipeline takes.
    `pipeline` names the class that the row is for, where pipelines of one denoiser class differ in what they tell it.
    `later` makes the settings of a call that begins after `done` of `full` evaluations (of a run of `steps`), for
    pipelines whose guidance goes by the place in their own loop, which then begins at 0 again.
    """

    family: str
    denoiser: str
    find_blocks: Callable[[nn.Module], list[str]]
    find_all: Callable[[nn.Module], list[str]]
    layout: Callable[[nn.Module, Mapping[str, Any]], Layout]
    text_position: str
    text_argument: str = "encoder_hidden_states"
    conditional: str = "last half"
    tokenizer: Callable[[Any], str] = lambda pipeline: "tokenizer"
    wrap: Callable[[Any, str, Mapping[str, Any]], str] = lambda pipeline, prompt, settings: prompt
    dropped: Callable[[Any, Mapping[str, Any]], int] = lambda pipeline, settings: 0
    before: Callable[[Any], int] = lambda pipeline: 0
    length: Callable[[Any, Mapping[str, Any]], int] = lambda pipeline, settings: int(
        pipeline.tokenizer.model_max_length
    )
    shared: frozenset[int] = frozenset()
    right_aligned: bool | Callable[[Any], bool] = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    blocks: str = "ten consecutive ones from the middle"
    guided: str = "the last half of the batch"
    solvers: str = "FlowMatch Euler"
    unpack: Callable[[Any, Any, Mapping[str, Any]], Any] = lambda pipeline, latents, settings: latents
    pipeline: str | None = None
    later: Callable[[Any, Mapping[str, Any], int, int, int], dict[str, Any]] = (
        lambda pipeline, settings, done, full, steps: dict(settings)
    )


def unet_encoder_blocks(denoiser: nn.Module) -> list[str]:
    """The last ten cross-attention modules (`attn2`) of the down blocks (paper §4.1: encoder side)."""
    return [n for n in unet_all_blocks(denoiser) if n.startswith("down_blocks.")][-MAX_BLOCKS:]


def unet_all_blocks(denoiser: nn.Module) -> list[str]:
    """Every cross-attention module (`attn2`)."""
    return [n for n, _ in denoiser.named_modules() if n.endswith(".attn2")]


def blocks_named(*patterns: str) -> tuple[Callable[[nn.Module], list[str]], Callable[[nn.Module], list[str]]]:
    """`find_blocks` and `find_all` of a transformer whose attention modules match one of `patterns`, in this order.

    Probed by default are ten consecutive ones from the middle (paper §4.1), or all when there are fewer.
    """

    def every(denoiser: nn.Module) -> list[str]:
        names = [n for n, _ in denoiser.named_modules()]
        return [n for p in patterns for n in names if re.fullmatch(p, n)]

    def middle(denoiser: nn.Module) -> list[str]:
        found = every(denoiser)
        first = max(0, (len(found) - MAX_BLOCKS) // 2)
        return found[first : first + MAX_BLOCKS]

    return middle, every


def _latent_grid(denoiser: nn.Module, call: Mapping[str, Any]) -> Layout:
    return Layout(tuple(call["sample"].shape[-2:]))


def _patched(denoiser: Any, call: Mapping[str, Any]) -> tuple[int, int]:
    patch = denoiser.config.patch_size
    height, width = call["hidden_states"].shape[-2:]
    return height // patch, width // patch


def _cross(denoiser: Any, call: Mapping[str, Any]) -> Layout:
    return Layout(_patched(denoiser, call), keys=call["encoder_hidden_states"].shape[1])


def _image_first(denoiser: Any, call: Mapping[str, Any]) -> Layout:
    height, width = _patched(denoiser, call)
    text = call["encoder_hidden_states"].shape[1]
    return Layout((height, width), text=height * width, keys=height * width + text)


def _text_first(grid: tuple[int, int], text: int) -> Layout:
    return Layout(grid, image=text, keys=text + grid[0] * grid[1])


def _flux(denoiser: Any, call: Mapping[str, Any]) -> Layout:
    places = call["img_ids"]
    places = places[0] if places.ndim == 3 else places  # [image, axes]: time or reference, row, column, ...
    if len(places[:, 0].unique()) > 1:
        raise CaptureError("the image tokens include a reference image's; probe a text-to-image call without one")
    grid = (int(places[:, 1].max()) + 1, int(places[:, 2].max()) + 1)
    return _text_first(grid, call["encoder_hidden_states"].shape[1])


def _qwen(denoiser: Any, call: Mapping[str, Any]) -> Layout:
    shapes = call["img_shapes"][0]
    shapes = shapes if isinstance(shapes, list) else [shapes]
    if len(shapes) > 1:
        raise CaptureError("the image tokens include a reference image's; probe a text-to-image call without one")
    _, height, width = shapes[0]
    return _text_first((int(height), int(width)), call["encoder_hidden_states"].shape[1])


def _qwen_length(pipeline: Any, settings: Mapping[str, Any]) -> int:
    # The text encoder takes more than the pipeline then hands on.
    own = min(int(pipeline.tokenizer_max_length), _max_sequence_length(pipeline, settings))
    return own + int(pipeline.prompt_template_encode_start_idx)


def _flux2_latents(pipeline: Any, latents: Any, settings: Mapping[str, Any]) -> Any:
    """Packed `[batch, image, channels]` to `[batch, channels, height, width]`."""
    unit = 2 * pipeline.vae_scale_factor
    default = pipeline.default_sample_size * pipeline.vae_scale_factor
    height = int(settings.get("height") or default) // unit
    return latents.transpose(1, 2).unflatten(-1, (height, -1))


_Z_MULTIPLE = 32  # Z-Image pads image and caption to multiples of this many tokens


def _z_image(denoiser: Any, call: Mapping[str, Any]) -> Layout:
    patch = call.get("patch_size", 2)
    height, width = (int(n) // patch for n in call["x"][0].shape[-2:])
    return Layout((height, width), text=-(-height * width // _Z_MULTIPLE) * _Z_MULTIPLE)


def default_setting(pipeline: Any, name: str) -> Any:
    """What a pipeline's own call takes when a setting is not given."""
    return inspect.signature(pipeline.__call__).parameters[name].default


def _max_sequence_length(pipeline: Any, settings: Mapping[str, Any]) -> int:
    """As given, else the default of the pipeline's own call: pipelines of one denoiser differ (PixArt-α 120, Σ 300)."""
    return int(settings.get("max_sequence_length") or default_setting(pipeline, "max_sequence_length"))


def _chat(thinking: bool) -> Callable[[Any, str, Mapping[str, Any]], str]:
    def wrap(pipeline: Any, prompt: str, settings: Mapping[str, Any]) -> str:
        return pipeline.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )

    return wrap


def _sd3_tokenizer(pipeline: Any) -> str:
    return "tokenizer" if pipeline.text_encoder_3 is None else "tokenizer_3"


def _sd3_length(pipeline: Any, settings: Mapping[str, Any]) -> int:
    clip = int(pipeline.tokenizer.model_max_length)
    return clip if pipeline.text_encoder_3 is None else _max_sequence_length(pipeline, settings)


def _sd3_later(pipeline: Any, settings: Mapping[str, Any], done: int, full: int, steps: int) -> dict[str, Any]:
    """Layers are skipped in evaluations i with n start < i < n stop; n is `steps`, or the evaluations of given `sigmas`."""
    names = ("skip_layer_guidance_start", "skip_layer_guidance_stop")
    if settings.get("skip_guidance_layers") is None:
        return dict(settings)
    begin, end = (float(settings.get(name, default_setting(pipeline, name))) for name in names)
    own = settings.get("sigmas") is not None
    n = full if own else steps
    left = [i - done for i in range(done, full) if n * begin < i < n * end]
    if not left:
        return {**settings, "skip_guidance_layers": None}
    n = full - done if own else steps  # half-way between two, where nothing is rounded over
    return {**settings, names[0]: (left[0] - 0.5) / n, names[1]: (left[-1] + 0.5) / n}


def _lumina_later(pipeline: Any, settings: Mapping[str, Any], done: int, full: int, steps: int) -> dict[str, Any]:
    """Guidance ends with the first evaluation i with (i + 1) / n > `cfg_trunc_ratio`; n are those of the call."""
    ratio = float(settings.get("cfg_trunc_ratio", default_setting(pipeline, "cfg_trunc_ratio")))
    guided = [i for i in range(full) if (i + 1) / full <= ratio]
    if len(guided) == full or done == full:
        return dict(settings)
    return {**settings, "cfg_trunc_ratio": (len(guided) - done + 0.5) / (full - done)}


def _lowered(pipeline: Any, prompt: str, settings: Mapping[str, Any]) -> str:
    return prompt.lower()


def _sana_instruction(pipeline: Any, settings: Mapping[str, Any]) -> str:
    name = "complex_human_instruction"
    return "\n".join(settings.get(name, default_setting(pipeline, name)) or [])


def _sana_length(pipeline: Any, settings: Mapping[str, Any]) -> int:
    return _max_sequence_length(pipeline, settings) + _sana_dropped(pipeline, settings)


def _sana_dropped(pipeline: Any, settings: Mapping[str, Any]) -> int:
    # The denoiser is told the begin mark and the last tokens; all but two of the instruction's fall away.
    instruction = _sana_instruction(pipeline, settings)
    return len(pipeline.tokenizer.encode(instruction)) - 2 if instruction else 0


def _aura(denoiser: Any, call: Mapping[str, Any]) -> Layout:
    registers = denoiser.register_tokens.shape[1]  # learned tokens before the text
    text = call["encoder_hidden_states"].shape[1]
    height, width = _patched(denoiser, call)
    return Layout((height, width), image=registers + text, text=registers, keys=registers + text + height * width)


def _cogview(denoiser: Any, call: Mapping[str, Any]) -> Layout:
    return _text_first(_patched(denoiser, call), call["encoder_hidden_states"].shape[1])


def _lumina(denoiser: Any, call: Mapping[str, Any]) -> Layout:
    # Every sample's image follows its own caption at once; padding comes last.
    starts = tuple(int(n) for n in call["encoder_attention_mask"].sum(1))
    height, width = _patched(denoiser, call)
    return Layout((height, width), image=starts, keys=max(starts) + height * width)


def _lumina_prompt(pipeline: Any, prompt: str, settings: Mapping[str, Any]) -> str:
    return f"{settings.get('system_prompt') or pipeline.system_prompt} <Prompt Start> {prompt}"


def _ovis_prompt(pipeline: Any, prompt: str, settings: Mapping[str, Any]) -> str:
    return _chat(False)(pipeline, pipeline.system_prompt + prompt, settings)


def _ovis_length(pipeline: Any, settings: Mapping[str, Any]) -> int:
    return _max_sequence_length(pipeline, settings) + int(pipeline.user_prompt_begin_id)


def _krea(denoiser: Any, call: Mapping[str, Any]) -> Layout:
    text = call["encoder_hidden_states"].shape[1]
    places = call["position_ids"][text:]  # [image, axes]: time, row, column
    return _text_first((int(places[:, 1].max()) + 1, int(places[:, 2].max()) + 1), text)


def _krea_length(pipeline: Any, settings: Mapping[str, Any]) -> int:
    # The template's end stands behind the padding, within the length that was asked for.
    own = _max_sequence_length(pipeline, settings) - int(pipeline.prompt_template_encode_num_suffix_tokens)
    return own + int(pipeline.prompt_template_encode_start_idx)


def _pads_left(pipeline: Any) -> bool:
    return bool(pipeline.tokenizer.padding_side == "left")


def _hunyuan_dit(denoiser: Any, call: Mapping[str, Any]) -> Layout:
    # Keys are BERT's tokens, then T5's; the prompt is read in T5's, which has room for more.
    bert, t5 = call["encoder_hidden_states"].shape[1], call["encoder_hidden_states_t5"].shape[1]
    return Layout(_patched(denoiser, call), text=bert, keys=bert + t5)


# Cleaning a caption (links, HTML, punctuation) moves its words: the prompt goes in as it was typed.
_AS_TYPED = {"clean_caption": False}
_FLUX_BLOCKS = blocks_named(r"transformer_blocks\.\d+\.attn", r"single_transformer_blocks\.\d+\.attn")
_JOINT_BLOCKS = blocks_named(r"transformer_blocks\.\d+\.attn")
_CROSS_BLOCKS = blocks_named(r"transformer_blocks\.\d+\.attn2")

# Text-to-image pipelines that also take reference images.
_IMAGE_IS_OPTIONAL = re.compile(r"^Flux2(Klein)?Pipeline$")

# Pipelines whose denoiser has a row, but for other text.
_UNREADABLE = {"KolorsPipeline": "its tokenizer doesn't tell where tokens stand in the prompt"}

BACKBONES: dict[str, Backbone] = {}


def register(row: Backbone) -> None:
    """Add a row for a denoiser class (or for one pipeline of it), or replace the one that is there."""
    BACKBONES[row.pipeline or row.denoiser] = row


for _row in (
    Backbone(
        "Stable Diffusion 1.x/2.x, SDXL and other UNets", "UNet2DConditionModel", unet_encoder_blocks, unet_all_blocks,
        _latent_grid, "all keys", blocks="the last ten attn2 of the down blocks",
        solvers="DDIM, Euler, Euler ancestral, DPM++ 2M, DPM++ 2M SDE, UniPC, LCM, Heun",
    ),
    Backbone(
        "Stable Diffusion 3, 3.5", "SD3Transformer2DModel", *_JOINT_BLOCKS, _image_first, "after the image; 77 CLIP columns, then T5",
        tokenizer=_sd3_tokenizer, length=_sd3_length, later=_sd3_later,
        before=lambda p: 0 if p.text_encoder_3 is None else int(p.tokenizer.model_max_length),
    ),
    Backbone(
        "FLUX.1", "FluxTransformer2DModel", *_FLUX_BLOCKS, _flux, "before the image (T5)", guided='the call in `cache_context("cond")`',
        tokenizer=lambda p: "tokenizer_2", length=_max_sequence_length, shared=frozenset({2}),
    ),
    Backbone(
        "FLUX.2 klein", "Flux2Transformer2DModel", *_FLUX_BLOCKS, _flux, "before the image, in a chat template", guided='the call in `cache_context("cond")`', wrap=_chat(False),
        length=_max_sequence_length, unpack=_flux2_latents, pipeline="Flux2KleinPipeline",
    ),
    Backbone(
        "Chroma", "ChromaTransformer2DModel", *_FLUX_BLOCKS, _flux, "before the image (T5, masked)", guided="the first of two calls",
        length=_max_sequence_length, shared=frozenset({1, 4}),
    ),
    Backbone(
        "Qwen-Image", "QwenImageTransformer2DModel", *_JOINT_BLOCKS, _qwen, "before the image; 34 template tokens dropped", guided='the call in `cache_context("cond")`',
        wrap=lambda p, prompt, settings: p.prompt_template_encode.format(prompt),
        dropped=lambda p, settings: int(p.prompt_template_encode_start_idx),
        length=_qwen_length,
    ),
    Backbone(
        "Z-Image", "ZImageTransformer2DModel", *blocks_named(r"layers\.\d+\.attention"), _z_image, "after the image padded to a multiple of 32", guided="the first half of the batch",
        text_argument="cap_feats", conditional="first half", wrap=_chat(True), length=_max_sequence_length,
    ),
    Backbone(
        "PixArt-α, PixArt-Σ", "PixArtTransformer2DModel", *_CROSS_BLOCKS, _cross, "all (`attn2`)",
        length=_max_sequence_length, wrap=_lowered, defaults=_AS_TYPED, solvers="DPM++ 2M",
    ),
    Backbone(
        "Sana", "SanaTransformer2DModel", *_CROSS_BLOCKS, _cross, "all (`attn2`); an instruction before the prompt", length=_sana_length,
        wrap=lambda p, prompt, settings: _sana_instruction(p, settings) + prompt.lower(), dropped=_sana_dropped,
        defaults=_AS_TYPED,
    ),
    Backbone(
        "AuraFlow", "AuraFlowTransformer2DModel",
        *blocks_named(r"joint_transformer_blocks\.\d+\.attn", r"single_transformer_blocks\.\d+\.attn"), _aura,
        "before the image, behind eight registers", length=_max_sequence_length,
    ),
    Backbone(
        "CogView4", "CogView4Transformer2DModel", *blocks_named(r"transformer_blocks\.\d+\.attn1"), _cogview,
        "before the image; padding stands before the text", guided='the call in `cache_context("cond")`', length=_max_sequence_length, right_aligned=True,
    ),
    Backbone(
        "Lumina 2", "Lumina2Transformer2DModel", *blocks_named(r"layers\.\d+\.attn"), _lumina,
        "before the image, which begins at another place for each sample", guided="the first of two calls", length=_max_sequence_length, wrap=_lumina_prompt,
        later=_lumina_later,
    ),
):  # fmt: skip
    register(_row)

for _row in (
    Backbone(
        "Ovis-Image", "OvisImageTransformer2DModel", *_FLUX_BLOCKS, _flux, "before the image; 28 template tokens dropped", guided='the call in `cache_context("cond")`',
        wrap=_ovis_prompt, dropped=lambda p, settings: int(p.user_prompt_begin_id), length=_ovis_length, shared=frozenset({2, 3}),
    ),
    Backbone(
        "Bria 3", "BriaTransformer2DModel", *_FLUX_BLOCKS, _flux, "before the image (T5)", length=_max_sequence_length,
    ),
    Backbone(
        "Krea 2", "Krea2Transformer2DModel", *blocks_named(r"transformer_blocks\.\d+\.attn"), _krea, "before the image; 34 template tokens dropped, the template's end behind the padding",
        guided="the first of two calls", wrap=lambda p, prompt, settings: p.prompt_template_encode_prefix + prompt,
        dropped=lambda p, settings: int(p.prompt_template_encode_start_idx), length=_krea_length,
    ),
    Backbone(
        "CogView3-Plus", "CogView3PlusTransformer2DModel", *blocks_named(r"transformer_blocks\.\d+\.attn1"), _cogview, "before the image (T5)",
        length=_max_sequence_length, solvers="CogVideoX DDIM",
    ),
    Backbone(
        "HunyuanDiT", "HunyuanDiT2DModel", *blocks_named(r"blocks\.\d+\.attn2"), _hunyuan_dit, "all (`attn2`): BERT's, then T5's, which are read",
        text_argument="encoder_hidden_states_t5", tokenizer=lambda p: "tokenizer_2", length=lambda p, settings: 256, solvers="DDPM",
    ),
    Backbone(
        "Lumina-Next", "LuminaNextDiT2DModel", *blocks_named(r"layers\.\d+\.attn2"), _cross, "all (`attn2`)", guided="the first half of the batch",
        conditional="first half", length=lambda p, settings: int(p.max_sequence_length), wrap=_lowered, defaults=_AS_TYPED, right_aligned=_pads_left,
    ),
):  # fmt: skip
    register(_row)


def share_until(pipeline, blocks: Sequence[str]) -> float:
    """About how much of a denoiser call has run after the last of `blocks`, by the attention modules passed: 0..1."""
    places = ("down_blocks.", "mid_block.", "up_blocks.")  # a UNet lists its middle last
    names = backbone_of(pipeline).find_all(denoiser_of(pipeline))
    names.sort(key=lambda n: next((i for i, place in enumerate(places) if n.startswith(place)), 0))
    return (1 + max(names.index(b) for b in blocks)) / len(names) if set(blocks) <= set(names) else 1.0


def denoiser_of(pipeline) -> nn.Module:
    """The pipeline's `unet` or `transformer`; of one that `torch.compile` wraps, what it wraps.

    Raises `ModelError` when there is neither.
    """
    for name in ("unet", "transformer"):
        module = getattr(pipeline, name, None)
        if module is not None:  # a compiled module has no truth value
            return getattr(module, "_orig_mod", module)
    raise ModelError(f"{type(pipeline).__name__} has no unet and no transformer: it is no text-to-image pipeline")


def device_of(pipeline) -> torch.device:
    """Where a pipeline computes, an accelerator with its number (`cuda` is `cuda:0`).

    Under offload that is not `pipeline.device`: the weights wait on the CPU.
    """
    own = getattr(pipeline, "_execution_device", None)
    device = torch.device(own if own is not None else getattr(pipeline, "device", "cpu"))
    return device if device.type == "cpu" or device.index is not None else torch.device(device.type, 0)


def is_compiled(pipeline) -> bool:
    """Whether the denoiser, or a part of it, runs through `torch.compile`."""
    given = {name: getattr(pipeline, name, None) for name in ("unet", "transformer")}
    return any(hasattr(m, "_orig_mod") for m in given.values()) or any(
        getattr(m, "_compiled_call_impl", None) is not None or hasattr(m, "_orig_mod")
        for m in denoiser_of(pipeline).modules()
    )


def backbone_of(pipeline) -> Backbone:
    """The row for a pipeline's denoiser.

    Raises `ModelError` that lists the supported classes when there is no row, or for a pipeline that starts from an
    image or makes a video.
    """
    call = inspect.signature(type(pipeline).__call__).parameters if callable(pipeline) else {}
    needed = [n for n, p in call.items() if n in ("image", "mask_image", "strength", "video", "num_frames")]
    if needed and not _IMAGE_IS_OPTIONAL.search(type(pipeline).__name__):
        what = "makes a video" if "num_frames" in needed else "starts from an image"
        raise ModelError(f"{type(pipeline).__name__} {what}; probes are for text-to-image pipelines")
    name = type(denoiser_of(pipeline)).__name__
    if (reason := _UNREADABLE.get(type(pipeline).__name__)) is not None:
        raise ModelError(f"{type(pipeline).__name__} is not supported: {reason}")
    own = next((c.__name__ for c in type(pipeline).__mro__ if c.__name__ in BACKBONES), name)
    if own not in BACKBONES:
        raise ModelError(
            f"denoiser {name} of {type(pipeline).__name__} is not supported; supported are: {', '.join(BACKBONES)}; "
            "docs/BACKBONES.md says how to add one"
        )
    return BACKBONES[own]


def probed_blocks(pipeline, which: str = "default") -> list[str]:
    """Names of attention modules to probe: `default`, the backbone's own after the paper; `all`, every one that looks
    at text; or names, comma-separated.

    Raises `CaptureError` when the denoiser has no attention to text.
    """
    if which not in ("default", "all"):
        return [name.strip() for name in which.split(",")]
    row, denoiser = backbone_of(pipeline), denoiser_of(pipeline)
    blocks = row.find_blocks(denoiser) if which == "default" else row.find_all(denoiser)
    if not blocks:
        raise CaptureError(f"{type(denoiser).__name__} has no attention to text in the blocks that are probed")
    return blocks


def markdown_table() -> str:
    """The table of backbones for docs/BACKBONES.md, in Markdown."""
    head = ("family", "denoiser", "probed blocks", "text keys stand", "of a guided step is read", "seen to resume with")
    rows: list[tuple[str, ...]] = [head, ("---",) * len(head)]
    rows += [(b.family, f"`{b.denoiser}`", b.blocks, b.text_position, b.guided, b.solvers) for b in BACKBONES.values()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
