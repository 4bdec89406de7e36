"""A paused batch of trajectories: a value that holds everything needed to go on, and is never changed by going on.

Comes in: what `trajectory.start` and `advance` saw. Goes out: `Paused`, and the checks of what is asked of one.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from .backbones import backbone_of, denoiser_of
from .errors import InputError, ModelError
from .options import default_of
from .tokens import PromptTokens

STEPS: int = default_of("steps")  # Diffusion Probe, arXiv:2602.23783, §4.1
PROBE_STEP: int = default_of("probe_step")

MEAN = "mean"  # stands for all blocks where only the mean of their maps was kept


@dataclass
class Paused:
    """A batch of trajectories stopped after `step` of `steps`.

    `token_maps[k]` is `[batch, tokens, blocks, height, width]` of step k, for each watched step; `timesteps[k]` is the
    scheduler's timestep of that step. `token_embeddings` `[batch, tokens, size]` is what the denoiser was told of the
    tokens, None when nothing was watched. `clean_latents[k]` `[batch, channels, height, width]` are what step k
    predicted the finished image's latents to be. `blocks` are those whose attention the maps show; without any,
    the maps have no planes and there are no embeddings. `gap` `[batch]` is the
    guidance gap, summed over all steps so far, where it was measured from the first step on.

    A batch that was cut off (`cut` of `start` and `advance`) has the maps of step `step` + 1, and no clean latents.
    """

    prompts: list[str]
    seeds: list[int]
    tokens: list[PromptTokens]
    step: int
    steps: int
    latents: torch.Tensor
    token_maps: dict[int, torch.Tensor]
    token_embeddings: torch.Tensor | None
    clean_latents: dict[int, torch.Tensor]
    timesteps: dict[int, float]
    settings: dict[str, Any]
    scheduler: Any = field(repr=False)
    denoiser: Any = field(repr=False)
    generator_states: list[torch.Tensor] = field(repr=False)
    encoded: EncodedPrompts = field(repr=False)
    blocks: list[str] = field(default_factory=list)
    gap: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    def reduced(self) -> Paused:
        """The same with what is still read once a judge has looked: maps are means over blocks, embeddings are gone."""
        if self.blocks == [MEAN]:
            return self
        if not self.blocks:
            return replace(self, token_embeddings=None)
        means = {k: maps.mean(2, keepdim=True) for k, maps in self.token_maps.items()}
        return replace(self, token_maps=means, token_embeddings=None, blocks=[MEAN])


@dataclass
class EncodedPrompts:
    """Text encodings, computed once for each distinct prompt and handed to the pipeline by row.

    `outputs[key]` are what `encode_prompt` gave for `texts` when it was called with `key`; `others` what it gave for other texts,
    the negative prompts of pipelines that encode them apart.
    """

    rows: list[int]
    texts: list[str]
    outputs: dict[Any, tuple] = field(default_factory=dict)
    others: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, pipeline, prompts: list[str]) -> EncodedPrompts:
        texts = list(dict.fromkeys(prompts))
        return cls([texts.index(p) for p in prompts], texts)

    def cut(self, chosen: Sequence[int], shared: Collection[int] = ()) -> EncodedPrompts:
        """The same encodings for a part of the rows, and no others; `shared` outputs of the pipeline's row go on whole."""
        rows = [self.rows[i] for i in chosen]
        needed = sorted(set(rows))
        if len(needed) == len(self.texts):
            return EncodedPrompts(rows, self.texts, self.outputs, self.others)
        outputs = {
            key: tuple(v if i in shared else _rows_of(v, needed) for i, v in enumerate(values))
            for key, values in self.outputs.items()
        }
        return EncodedPrompts([needed.index(r) for r in rows], [self.texts[r] for r in needed], outputs, self.others)

    @contextlib.contextmanager
    def used_by(self, pipeline, chosen: Sequence[int]) -> Iterator[None]:
        """While inside, the pipeline's `encode_prompt` of the chosen prompts reads from here."""
        original = getattr(pipeline, "encode_prompt", None)
        rows = [self.rows[i] for i in chosen]
        wanted = [self.texts[row] for row in rows]
        shared = backbone_of(pipeline).shared

        def encode_prompt(prompt, *args, **kwargs):
            given = [*args, *kwargs.values()]
            if any(isinstance(v, torch.Tensor) for v in given):
                return original(prompt, *args, **kwargs)
            if prompt != wanted or any(isinstance(v, list) for v in given):
                key = repr((prompt, args, sorted(kwargs.items())))
                if key not in self.others:
                    with torch.no_grad():
                        self.others[key] = original(prompt, *args, **kwargs)
                return self.others[key]
            call = inspect.signature(original).bind(list(self.texts), *args, **kwargs)
            key = repr(sorted((name, v) for name, v in call.arguments.items() if name != "prompt"))
            if key not in self.outputs:
                # Some take one negative prompt for all, some want one for each; all take one for each.
                for name, value in call.arguments.items():
                    if name.startswith("negative_prompt") and isinstance(value, str):
                        call.arguments[name] = [value] * len(self.texts)
                with torch.no_grad():
                    self.outputs[key] = tuple(original(*call.args, **call.kwargs))
            return tuple(v if i in shared else _rows_of(v, rows) for i, v in enumerate(self.outputs[key]))

        if original is None:
            yield
            return
        pipeline.encode_prompt = encode_prompt
        try:
            yield
        finally:
            del pipeline.encode_prompt


def check_steps(steps: int, probe_step: int) -> None:
    """Raise `InputError` unless 1 <= probe_step <= steps."""
    if steps < 1:
        raise InputError(f"steps is {steps}; it must be at least 1")
    if not 1 <= probe_step <= steps:
        raise InputError(f"probe step is {probe_step}; it must be between 1 and {steps}, the number of steps")


def check_chosen(paused: Paused, chosen: Sequence[int] | None) -> list[int]:
    chosen = list(range(len(paused))) if chosen is None else list(chosen)
    if not chosen or not all(0 <= i < len(paused) for i in chosen):
        raise InputError(f"chosen trajectories {chosen} are not among the {len(paused)} paused ones")
    return chosen


def check_same(pipeline, paused: Paused) -> None:
    if denoiser_of(pipeline) is not paused.denoiser:
        raise ModelError(
            f"paused in another pipeline than this {type(pipeline).__name__}; finish it with the one that began it"
        )
    if type(pipeline.scheduler) is not type(paused.scheduler):
        raise ModelError(
            f"paused with {type(paused.scheduler).__name__}, but the pipeline now has "
            f"{type(pipeline.scheduler).__name__}; put the first one back"
        )


def _rows_of(value, rows: list[int]):
    """Rows of a tensor or list; None and an empty list stay."""
    if isinstance(value, list):
        return [value[r] for r in rows] if value else value
    return value if value is None else value[rows]
