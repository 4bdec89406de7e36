"""What is learned from finished trajectories: group-relative advantages, the clipped ratio, the distance to the base.

Sources: GRPO, arXiv:2402.03300, §4.1; Flow-GRPO, arXiv:2505.05470, §4.1.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch

from ..errors import InputError
from .keeping import centred


def group_advantages(rewards: torch.Tensor, groups: Sequence[Hashable], most: float = 5.0) -> torch.Tensor:
    """Rewards `[n]` less the mean of their group, over the mean deviation within the groups, at most `most`: `[n]`.

    One deviation for all groups (Flow-GRPO's `global_std`): a group whose rewards hardly differ teaches little, not noise.
    Groups of one have no advantage. Raises `InputError` for rewards that are no numbers.
    """
    if not bool(torch.isfinite(rewards).all()):
        bad = float(rewards[~torch.isfinite(rewards)][0])
        raise InputError(f"a reward is {bad}, no number; rewards must be finite")
    away = centred(rewards[:, None], groups)[:, 0]
    deviation = away.square().mean().sqrt()
    if float(deviation) < 1e-6:
        return torch.zeros_like(away)
    return (away / deviation).clamp(-most, most)


def clipped_loss(now: torch.Tensor, before: torch.Tensor, advantages: torch.Tensor, clip: float) -> torch.Tensor:
    """Minus the clipped surrogate of each sample: `[n]` of log-probabilities now and when it was drawn, and advantages."""
    ratio = (now - before).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def divergence(mean: torch.Tensor, base: torch.Tensor, deviation: float) -> torch.Tensor:
    """KL between two normal distributions of one deviation, the mean over all elements of each sample: `[n]`."""
    return ((mean - base).square() / (2 * deviation**2)).flatten(1).mean(1)
