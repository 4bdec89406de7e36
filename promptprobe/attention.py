"""Watch the probed blocks' attention and return token maps; the model's output is never changed.

A forward pre-hook on each probed attention module turns on a `TorchFunctionMode` that sees the module's own call of
`scaled_dot_product_attention` with the final q and k; a post-hook turns it off. The maps are computed beside it, for
the prompt's own tokens only, and reduced to a mean over heads at once. When not armed, the hooks return immediately.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from .backbones import backbone_of, denoiser_of, probed_blocks
from .errors import CaptureError


class AttentionTap:
    """A pipeline under watch. Use as a context manager; `arm` it before the denoiser call to be read.

    After that call, `token_maps()` gives float32 `[batch, tokens, blocks, height, width]`, the mean over heads of the
    attention probability from each image position to each of the prompt's tokens. Rows of prompts with fewer tokens
    than the longest end in zeros.
    """

    def __init__(self, pipeline, blocks: Sequence[str] | None = None):
        self.denoiser: Any = denoiser_of(pipeline)
        self.backbone = backbone_of(pipeline)
        self.blocks = list(blocks) if blocks is not None else probed_blocks(pipeline)
        modules = dict(self.denoiser.named_modules())
        missing = [b for b in self.blocks if b not in modules]
        if missing:
            raise CaptureError(f"{type(self.denoiser).__name__} has no block {missing[0]!r}")
        self._modules = {name: modules[name] for name in self.blocks}
        self._columns: list[tuple[int, ...]] | None = None
        self._maps: dict[str, torch.Tensor] = {}
        self._embeddings: torch.Tensor | None = None
        self._size = (0, 0)
        self._handles: list = []
        self._watch: _Watch | None = None

    def __enter__(self) -> AttentionTap:
        if getattr(self.denoiser, "_promptprobe_tap", None) is not None:
            raise CaptureError("this denoiser is being watched already; leave the other tap first")
        if getattr(self.denoiser, "is_cache_enabled", False):
            raise CaptureError("a step cache is enabled and skips blocks; call disable_cache() on the denoiser first")
        self.denoiser._promptprobe_tap = self
        self._handles.append(self.denoiser.register_forward_pre_hook(self._on_denoiser, with_kwargs=True))
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_pre_hook(self._start_watch(name)))
            self._handles.append(module.register_forward_hook(self._stop_watch, always_call=True))
        return self

    def __exit__(self, *exc) -> None:
        self._stop_watch()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.denoiser._promptprobe_tap = None

    def arm(self, columns: Sequence[tuple[int, ...]]) -> None:
        """Read the next denoiser calls: `columns[i]` are the text positions to keep for sample i of the batch."""
        self._columns = list(columns)
        self._maps = {}
        self._embeddings = None

    def disarm(self) -> None:
        """Stop reading; the maps read so far stay."""
        self._columns = None

    def token_maps(self) -> torch.Tensor:
        """The maps of the last armed call, on the CPU; maps of coarser blocks are enlarged to the finest grid.

        Raises `CaptureError` when a probed block's attention was not seen.
        """
        missing = [b for b in self.blocks if b not in self._maps]
        if missing:
            raise CaptureError(
                f"no attention was seen in {len(missing)} of {len(self.blocks)} probed blocks (first: {missing[0]}); "
                "use the default attention processors with PyTorch 2 scaled-dot-product attention, and no step cache"
            )
        height = max(m.shape[-2] for m in self._maps.values())
        width = max(m.shape[-1] for m in self._maps.values())
        planes = [F.interpolate(self._maps[b], size=(height, width), mode="nearest") for b in self.blocks]
        return torch.stack(planes, 2).float().cpu()

    def token_embeddings(self) -> torch.Tensor:
        """What the denoiser was told of each token in the last armed call: float32 `[batch, tokens, size]`, on the CPU.

        Raises `CaptureError` when no text reached the denoiser.
        """
        if self._embeddings is None:
            raise CaptureError(f"no text embeddings reached {type(self.denoiser).__name__}")
        return self._embeddings

    def _on_denoiser(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        sample = args[0] if args else kwargs["sample"]
        self._size = tuple(sample.shape[-2:])
        text = kwargs.get("encoder_hidden_states")
        if self._columns is not None and text is not None:
            text = text[len(text) - len(self._columns) :].detach().float().cpu()  # guided: [negative, positive]
            self._embeddings = text.new_zeros(len(text), max(map(len, self._columns)), text.shape[-1])
            for i, own in enumerate(self._columns):
                self._embeddings[i, : len(own)] = text[i, list(own)]

    def _start_watch(self, name: str):
        def hook(module: nn.Module, args: tuple) -> None:
            if self._columns is not None:
                self._watch = _Watch(lambda q, k, scale, mask: self._record(name, q, k, scale, mask))
                self._watch.__enter__()

        return hook

    def _stop_watch(self, *_) -> None:
        if self._watch is not None:
            watch, self._watch = self._watch, None
            watch.__exit__(None, None, None)

    @torch.no_grad()
    def _record(self, name: str, q: torch.Tensor, k: torch.Tensor, scale: float | None, mask) -> None:
        # q [batch, heads, image, dim], k [batch, heads, text, dim]
        columns = self._columns or []
        samples = len(columns)
        if q.shape[0] not in (samples, 2 * samples):
            raise CaptureError(f"a batch of {q.shape[0]} reached {name}, but {samples} samples are watched")
        if max(max(c) for c in columns) >= k.shape[-2]:
            raise CaptureError(f"{name} attends to {k.shape[-2]} text positions, fewer than the prompt has")
        first = q.shape[0] - samples  # guided batches are [negative, positive]
        q, k = q[first:], k[first:]
        scores = q @ k.transpose(-2, -1) * (scale if scale is not None else q.shape[-1] ** -0.5)
        if mask is not None:
            mask = mask[first:] if mask.shape[0] == first + samples else mask
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        maps = scores.float().softmax(-1).mean(1)  # [samples, image, text]
        tokens = max(len(c) for c in columns)
        height, width = _grid(self._size, maps.shape[1], name)
        kept = maps.new_zeros(samples, tokens, height, width)
        for i, own in enumerate(columns):
            kept[i, : len(own)] = maps[i][:, list(own)].T.unflatten(-1, (height, width))
        self._maps[name] = kept


class _Watch(TorchFunctionMode):
    """Reports q and k of every scaled-dot-product attention, which then runs as if nobody looked."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            given = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | kwargs
            self.seen(given["query"], given["key"], given.get("scale"), given.get("attn_mask"))
        return func(*args, **kwargs)


def _grid(latents: tuple[int, int], positions: int, name: str) -> tuple[int, int]:
    """Height and width of an attention grid with `positions` cells, from the latents' size."""
    height, width = latents
    while height * width > positions:
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    if height * width != positions:
        raise CaptureError(f"{name} has {positions} image positions, which does not fit latents of {latents}")
    return height, width
