"""Watch the probed blocks' attention and return token maps; the model's output is never changed.

A forward pre-hook on each probed attention module turns on a `TorchFunctionMode` that sees the module's own call of
`scaled_dot_product_attention` with the final q and k; a post-hook turns it off. The maps are computed beside it, for
the prompt's own tokens only, and reduced to a mean over heads at once. There are hooks only while a call is to be read; a
compiled denoiser runs that call uncompiled, and all others as it is.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from torch import nn
from torch.overrides import TorchFunctionMode

from .backbones import Layout, backbone_of, denoiser_of, is_compiled, probed_blocks
from .errors import CaptureError

# diffusers' names of backends that call PyTorch's own attention; each asks for one of its kernels, or for any.
_WATCHED_BACKENDS = (None, "native", "_native_cudnn", "_native_efficient", "_native_flash", "_native_math")


class CutOff(Exception):
    """Leaves a denoiser call whose rest nobody needs."""


class AttentionTap:
    """A pipeline under watch. Use as a context manager; `arm` it before the denoiser call to be read.

    After that call, `token_maps()` gives float32 `[batch, tokens, blocks, height, width]`, the mean over heads of the
    attention probability from each image position to each of the prompt's tokens. Rows of prompts with fewer tokens
    than the longest end in zeros. Of a step with two denoiser calls the one for the prompt is read. Armed with `cut`, the
    call goes no further than the last probed block: `CutOff` leaves the denoiser then.

    Told to watch no `blocks`, it computes no attention: the maps have no planes and tell the grid alone.
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
        self._arguments = inspect.signature(self.denoiser.forward)
        self._columns: list[tuple[int, ...]] | None = None
        self._reading = False  # inside the denoiser call that is read
        self._cut = False
        self._pass = ""
        self._maps: dict[str, torch.Tensor] = {}
        self._embeddings: torch.Tensor | None = None
        self._layout: Layout | None = None
        self._handles: list = []
        self._watch: _Watch | None = None
        self._compiled = is_compiled(pipeline)
        self._uncompiled: Any = (
            None  # while a compiled denoiser's call is read, PyTorch's stance to run without compiling
        )

    def __enter__(self) -> AttentionTap:
        if getattr(self.denoiser, "_promptprobe_tap", None) is not None:
            raise CaptureError("this denoiser is being watched already; leave the other tap first")
        self._refuse_what_hides_attention()
        self.denoiser._promptprobe_tap = self
        if hasattr(self.denoiser, "cache_context"):
            self.denoiser.cache_context = self._named_pass(self.denoiser.cache_context)
        return self

    def __exit__(self, *exc) -> None:
        self._stop_watch()
        self.disarm()
        self.denoiser.__dict__.pop("cache_context", None)
        self.denoiser._promptprobe_tap = None
        self._reading = False

    def arm(self, columns: Sequence[tuple[int, ...]], cut: bool = False) -> None:
        """Read the next denoiser call: `columns[i]` are the text positions to keep for sample i of the batch."""
        if not self._handles:
            self._attach()
        self._columns = list(columns)
        self._cut = cut
        self._maps = {}
        self._embeddings = None

    def disarm(self) -> None:
        """Stop reading; the maps read so far stay."""
        self._columns = None
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self._uncompiled is not None:
            uncompiled, self._uncompiled = self._uncompiled, None
            uncompiled.__exit__(None, None, None)

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
        if not self.blocks:
            assert self._layout is not None and self._columns is not None
            return torch.zeros(len(self._columns), max(map(len, self._columns)), 0, *self._layout.grid)
        height = max(m.shape[-2] for m in self._maps.values())
        width = max(m.shape[-1] for m in self._maps.values())
        # Block by block: all at once they would stand on the device twice.
        planes = [F.interpolate(self._maps[b], size=(height, width), mode="nearest").float().cpu() for b in self.blocks]
        return torch.stack(planes, 2)

    def token_embeddings(self) -> torch.Tensor:
        """What the denoiser was told of each token in the last armed call: float32 `[batch, tokens, size]`, on the CPU.

        Raises `CaptureError` when no text reached the denoiser.
        """
        if self._embeddings is None:
            raise CaptureError(f"no text embeddings reached {type(self.denoiser).__name__}")
        return self._embeddings

    def _attach(self) -> None:
        if self._compiled:
            self._uncompiled = torch.compiler.set_stance("force_eager")
        self._handles.append(self.denoiser.register_forward_pre_hook(self._on_denoiser, with_kwargs=True))
        self._handles.append(self.denoiser.register_forward_hook(self._after_denoiser, always_call=True))
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_pre_hook(self._start_watch(name)))
            self._handles.append(module.register_forward_hook(self._stop_watch, always_call=True))
            self._handles.append(module.register_forward_hook(self._cut_off))

    def _refuse_what_hides_attention(self) -> None:
        if self.blocks and getattr(self.denoiser, "is_cache_enabled", False):
            raise CaptureError("a step cache is enabled and skips blocks; call disable_cache() on the denoiser first")
        for name, module in self._modules.items():
            processor = getattr(module, "processor", None)
            backend = _backend_of(processor)
            if backend not in _WATCHED_BACKENDS:
                raise CaptureError(
                    f"{name} uses the attention backend {backend!r}, which can't be watched; "
                    "call set_attention_backend('native') on the denoiser for probing"
                )
            if getattr(processor, "_parallel_config", None) is not None:
                raise CaptureError(
                    f"{name} runs in parallel over devices and shows each only a part; probe on one device"
                )
            if "IPAdapter" in type(processor).__name__:
                raise CaptureError("an IP-Adapter is loaded; unload it, its image tokens would pass for text")

    def _named_pass(self, original):
        @contextlib.contextmanager
        def cache_context(name, *args, **kwargs):
            before, self._pass = self._pass, name
            try:
                with original(name, *args, **kwargs):
                    yield
            finally:
                self._pass = before

        return cache_context

    def _on_denoiser(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if self._columns is None or self._maps or self._pass == "uncond":
            return
        call = self._arguments.bind_partial(*args, **kwargs).arguments
        self._layout = self.backbone.layout(module, call)
        if not self.blocks:
            return
        self._reading = True
        rows = self._conditional(call[self.backbone.text_argument], f"{type(module).__name__}'s text")
        rows = [row.flatten(1) for row in rows]  # some are told several layers of the text encoder for each token
        sizes = rows[0].shape[-1]
        self._embeddings = torch.zeros(len(rows), max(map(len, self._columns)), sizes)
        for i, own in enumerate(self._columns):
            if max(own) >= len(rows[i]) or -min(own) > len(rows[i]):
                raise CaptureError(f"the denoiser was told {len(rows[i])} text tokens, fewer than the prompt has")
            own = self._columns[i] = tuple(c % len(rows[i]) for c in own)
            self._embeddings[i, : len(own)] = rows[i][list(own)].detach().float().cpu()

    def _after_denoiser(self, *_) -> None:
        self._reading = False

    def _conditional(self, batch, what: str):
        """The samples that carry the prompt, of a batch that may be doubled for guidance."""
        samples = len(self._columns or [])
        if len(batch) not in (samples, 2 * samples):
            raise CaptureError(f"{what} has a batch of {len(batch)}, but {samples} samples are watched")
        first = len(batch) - samples if self.backbone.conditional == "last half" else 0
        return batch[first : first + samples]

    def _start_watch(self, name: str):
        def hook(module: nn.Module, args: tuple) -> None:
            if self._reading:
                self._watch = _Watch(
                    lambda q, k, scale, mask, normaliser: self._record(name, q, k, scale, mask, normaliser)
                )
                self._watch.__enter__()

        return hook

    def _stop_watch(self, *_) -> None:
        if self._watch is not None:
            watch, self._watch = self._watch, None
            watch.__exit__(None, None, None)

    def _cut_off(self, *_) -> None:
        if self._cut and self._reading and len(self._maps) == len(self.blocks):
            raise CutOff

    @torch.no_grad()
    def _record(self, name: str, q: torch.Tensor, k: torch.Tensor, scale: float | None, mask, normaliser) -> None:
        # q [batch, heads, queries, dim], k [batch, heads, keys, dim], normaliser [batch, heads, queries] or None
        columns, layout = self._columns or [], self._layout
        assert layout is not None
        if layout.keys is not None and k.shape[-2] != layout.keys:
            raise CaptureError(f"{name} attends to {k.shape[-2]} positions where image and prompt make {layout.keys}")
        batch = len(q)
        q, k = self._conditional(q, name), self._conditional(k, name)
        if mask is not None:
            mask = mask.expand(batch, *mask.shape[1:]) if mask.ndim == 4 else mask.expand(batch, 1, *mask.shape[-2:])
            mask = self._conditional(mask, name)
        if layout.keys is not None or layout.image or layout.text:
            height, width = layout.grid
        else:  # a UNet's block, on a grid of its own
            height, width = _grid(layout.grid, q.shape[-2], name)
        if max(max(c) for c in columns) + layout.text >= k.shape[-2]:
            raise CaptureError(f"{name} attends to {k.shape[-2]} positions, fewer than the prompt needs")
        if normaliser is not None:
            normaliser = self._conditional(normaliser, name)
        count, first = height * width, layout.image
        if isinstance(first, tuple):
            q = torch.stack([own[:, a : a + count] for own, a in zip(q, first, strict=True)])
            if normaliser is not None:
                normaliser = torch.stack([own[:, a : a + count] for own, a in zip(normaliser, first, strict=True)])
            if mask is not None and mask.shape[-2] != 1:
                raise CaptureError(f"{name} has a mask for each query, which is not supported where samples differ")
            first = 0
        else:
            q = q[:, :, first : first + count]
            normaliser = None if normaliser is None else normaliser[:, :, first : first + count]
        tokens = max(map(len, columns))
        places = torch.tensor([[*own, *[own[0]] * (tokens - len(own))] for own in columns], device=k.device)
        real = torch.tensor([[i < len(own) for i in range(tokens)] for own in columns], device=k.device)
        chances = attention_to(q, k, places + layout.text, scale, mask, first, normaliser)
        self._maps[name] = (chances.transpose(1, 2) * real[..., None]).unflatten(-1, (height, width))


_CHUNK_SCORES = 2**24  # attention scores held at once: 64 MB in float32


def attention_to(
    q: torch.Tensor,
    k: torch.Tensor,
    places: torch.Tensor,
    scale: float | None,
    mask: torch.Tensor | None,
    first: int = 0,
    normaliser: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean over heads of softmax(q kᵀ · scale) at a few keys, float32 `[batch, queries, places]`.

    `q` is `[batch, heads, queries, dim]`, `k` `[batch, heads, keys, dim]`, `places` `[batch, places]`; the softmax runs
    over all keys, a chunk of queries at a time, so that memory grows with queries x places. `mask` `[batch, heads or 1,
    queries or 1, keys]` is boolean or added; `first` is the row of the mask that belongs to the first query.
    `normaliser` `[batch, heads, queries]` is the logarithm of the softmax's denominator where the attention kernel has
    told it: then only the wanted keys are multiplied. It is not believed where it does not fit (and there is no mask).
    """
    batch, heads, queries, dim = q.shape
    factor = scale if scale is not None else dim**-0.5
    if normaliser is not None and mask is None and _fits(q, k, factor, normaliser):
        wanted = k.gather(2, places[:, None, :, None].expand(-1, heads, -1, dim)).float().transpose(-2, -1)
        rows = max(1, _CHUNK_SCORES // (batch * heads * max(dim, places.shape[1])))
        return torch.cat(
            [(_scores(part, wanted, factor) - n.float()[..., None]).exp().mean(1)
             for part, n in zip(q.split(rows, 2), normaliser.split(rows, 2), strict=True)], 1
        )  # fmt: skip
    chunk = max(1, _CHUNK_SCORES // (batch * heads * k.shape[-2]))
    parts = []
    keys = k.float().transpose(-2, -1)
    for start in range(0, queries, chunk):
        scores = _scores(q[:, :, start : start + chunk], keys, factor)
        if mask is not None:
            own = mask if mask.shape[-2] == 1 else mask[:, :, first + start : first + start + scores.shape[2]]
            scores = scores.masked_fill(~own, -math.inf) if own.dtype == torch.bool else scores + own
        normaliser = scores.logsumexp(-1, keepdim=True)
        index = places[:, None, None].expand(-1, heads, scores.shape[2], -1)
        parts.append((scores.gather(-1, index) - normaliser).exp().mean(1))
    return torch.cat(parts, 1)


def _scores(q: torch.Tensor, keys: torch.Tensor, factor: float) -> torch.Tensor:
    """Scores `[batch, heads, queries, keys]` in float32; `keys` `[batch, heads, dim, keys]` are float32 already."""
    return q.float() @ keys * factor


def _fits(q: torch.Tensor, k: torch.Tensor, factor: float, normaliser: torch.Tensor) -> bool:
    """Whether a kernel's normaliser is the softmax's, tried on a few queries: kernels differ in base and padding."""
    rows = torch.linspace(0, q.shape[2] - 1, min(4, q.shape[2]), device=q.device).long()
    true = _scores(q[:, :, rows], k.float().transpose(-2, -1), factor).logsumexp(-1)
    return bool(torch.allclose(true, normaliser[:, :, rows].float(), atol=0.02 if q.dtype != torch.float32 else 1e-4))


_FLASH = 1  # SDPBackend.FLASH_ATTENTION, as torch._fused_sdp_choice tells it


def _with_normaliser(given: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Attention by the very kernel that PyTorch would choose, with the normaliser that it computes anyway.

    None when the choice is another kernel than flash attention, or the call has a mask, dropout or gradients.
    """
    q, k, v = given["query"], given["key"], given["value"]
    plain = given.get("attn_mask") is None and not given.get("dropout_p") and not given.get("is_causal")
    if not plain or given.get("enable_gqa") or q.ndim != 4 or (torch.is_grad_enabled() and q.requires_grad):
        return None
    scale = given.get("scale")
    if q.device.type not in ("cpu", "cuda"):  # nobody is asked on others: MPS has no `_fused_sdp_choice`
        return None
    if torch._fused_sdp_choice(q, k, v, scale=scale) != _FLASH:
        return None
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, scale=scale)
    if q.device.type == "cuda" and q.shape[-1] % 8 == 0:
        return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, scale=scale)[:2]
    return None


def _backend_of(processor: Any) -> str | None:
    """Name of the backend that diffusers' dispatcher takes for a processor, its global one included; None without one."""
    if not hasattr(processor, "_attention_backend"):
        return None
    backend = processor._attention_backend or _AttentionBackendRegistry.get_active_backend()[0]
    return str(getattr(backend, "value", backend))


class _Watch(TorchFunctionMode):
    """Reports q, k and, where the kernel tells it, the normaliser of every scaled-dot-product attention.

    The attention itself runs as if nobody looked.
    """

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            given = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | kwargs
            fused = _with_normaliser(given)
            self.seen(given["query"], given["key"], given.get("scale"), given.get("attn_mask"), fused and fused[1])
            if fused is not None:
                return fused[0]
        return func(*args, **kwargs)


def _grid(latents: tuple[int, int], positions: int, name: str) -> tuple[int, int]:
    """Height and width of an attention grid with `positions` cells, from the latents' size."""
    height, width = latents
    while height * width > positions:
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    if height * width != positions:
        raise CaptureError(f"{name} has {positions} image positions, which does not fit latents of {latents}")
    return height, width
