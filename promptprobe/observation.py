"""What a judge is shown of trajectories at a step: one frozen value.

Comes in: a paused batch and a step that was watched. Goes out: an `Observation`, whose shapes are checked once, here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from .errors import InputError
from .paused import Paused
from .tokens import PromptTokens


@dataclass(frozen=True, eq=False)
class Observation:
    """A batch at a denoising step. Everything is by row; what nobody watched, or a data set doesn't keep, is None.

    - `maps` `[batch, tokens, blocks, height, width]`: attention from places to the prompt's tokens, `blocks` names them.
    - `counts` `[batch]`: how many of the tokens are real, from 1 on; the rest is padding.
    - `timesteps` `[batch]`: the scheduler's, in 0..1000; `step` of `steps` is where in the run that is.
    - `embeddings` `[batch, tokens, size]`: what the denoiser was told of each token.
    - `clean` `[batch, channels, height, width]`: the clean latents that the step predicts.
    - `gap` `[batch]`: how far the prompt pulled so far, the guidance gap summed over the steps (`guidance.GapMeter`).
    - `tokens`, `against`: each prompt's words, and the prompt that the finished image will be measured against.
    - `paused`, `rows`: the trajectories themselves, for a judge that decodes.
    """

    maps: torch.Tensor
    counts: torch.Tensor
    timesteps: torch.Tensor
    step: int
    steps: int
    embeddings: torch.Tensor | None = None
    clean: torch.Tensor | None = None
    gap: torch.Tensor | None = None
    blocks: tuple[str, ...] = ()
    tokens: tuple[PromptTokens, ...] | None = field(default=None, repr=False)
    against: tuple[str, ...] | None = None
    paused: Paused | None = field(default=None, repr=False)
    rows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Raise `InputError` when shapes don't fit each other."""
        if self.maps.ndim != 5:
            raise InputError(
                f"token maps have shape {tuple(self.maps.shape)}; give [batch, tokens, blocks, height, width]"
            )
        batch, tokens, blocks = self.maps.shape[:3]
        for name, values in (("counts", self.counts), ("timesteps", self.timesteps)):
            if values.shape != (batch,):
                raise InputError(
                    f"{name} have shape {tuple(values.shape)} for {batch} rows of token maps; give [batch]"
                )
        if batch and not 1 <= int(self.counts.min()) <= int(self.counts.max()) <= tokens:
            raise InputError(f"counts are {self.counts.tolist()}; the maps have 1 to {tokens} tokens")
        if self.embeddings is not None and (self.embeddings.ndim != 3 or self.embeddings.shape[:2] != (batch, tokens)):
            raise InputError(
                f"text embeddings have shape {tuple(self.embeddings.shape)}; give [{batch}, {tokens}, size], as the maps"
            )
        if self.clean is not None and (self.clean.ndim != 4 or len(self.clean) != batch):
            raise InputError(
                f"clean latents have shape {tuple(self.clean.shape)}; give [{batch}, channels, height, width]"
            )
        if self.blocks and len(self.blocks) != blocks:
            raise InputError(f"{len(self.blocks)} blocks are named, the maps have {blocks}")
        for what, given in (("prompts", self.tokens), ("prompts to measure against", self.against)):
            if given is not None and len(given) != batch:
                raise InputError(f"{len(given)} {what} for {batch} rows of token maps")

    def __len__(self) -> int:
        return len(self.maps)

    def select(self, chosen: Sequence[int]) -> Observation:
        """The same of some rows, in the order of `chosen`."""
        at = list(chosen)
        return replace(
            self, maps=self.maps[at], counts=self.counts[at], timesteps=self.timesteps[at],
            embeddings=None if self.embeddings is None else self.embeddings[at],
            clean=None if self.clean is None else self.clean[at],
            gap=None if self.gap is None else self.gap[at],
            tokens=None if self.tokens is None else tuple(self.tokens[i] for i in at),
            against=None if self.against is None else tuple(self.against[i] for i in at),
            rows=tuple(self.rows[i] for i in at) if self.rows else (),
        )  # fmt: skip

    def only(self, blocks: Sequence[str]) -> Observation:
        """The same with the maps of some blocks, in their order; unchanged where the blocks have no names.

        Raises `InputError` for a block that was not watched.
        """
        if tuple(blocks) == self.blocks or (not self.blocks and self.maps.shape[2]):
            return self
        missing = [b for b in blocks if b not in self.blocks]
        if missing:
            raise InputError(f"block {missing[0]!r} was not watched; watched were {', '.join(self.blocks) or 'none'}")
        return replace(self, maps=self.maps[:, :, [self.blocks.index(b) for b in blocks]], blocks=tuple(blocks))


def observe(
    paused: Paused, step: int, rows: Sequence[int] | None = None, against: Sequence[str] | None = None
) -> Observation:
    """What the watched `step` of a paused batch shows, of some rows (default: all).

    `against` are the prompts that the finished images will be measured against (default: each one's own). Raises
    `InputError` for a step that was not watched.
    """
    if step not in paused.token_maps:
        known = ", ".join(map(str, sorted(paused.token_maps))) or "none"
        raise InputError(f"step {step} was not watched; watched were {known}")
    maps = paused.token_maps[step]
    whole = Observation(
        maps=maps, counts=torch.tensor([len(t.columns) for t in paused.tokens]),
        timesteps=torch.full((len(maps),), float(paused.timesteps[step])), step=step, steps=paused.steps,
        embeddings=paused.token_embeddings, clean=paused.clean_latents.get(step),
        gap=paused.gap if step == paused.step else None, blocks=tuple(paused.blocks),
        tokens=tuple(paused.tokens), against=tuple(paused.prompts), paused=paused, rows=tuple(range(len(maps))),
    )  # fmt: skip
    seen = whole if rows is None else whole.select(rows)
    return seen if against is None else replace(seen, against=tuple(against))
