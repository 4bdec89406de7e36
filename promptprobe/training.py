"""Train a probe on collected data: squared error, low rewards oversampled, the best epoch by validation kept.

Source: Diffusion Probe, arXiv:2602.23783, §3.3 (loss) and §4.1 (oversampling of low scores).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from . import evaluation
from .dataset import Items
from .errors import InputError, ProbeMismatchError
from .probe import Probe, ProbeCard


def train(
    data: Items,
    validation: Items,
    *,
    labels: Sequence[str] | None = None,
    variant: str | None = None,
    features: int = 16,
    dropout: float = 0.2,
    epochs: int = 30,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    oversample: float = 2.0,
    seed: int = 0,
    on_epoch: Callable[[int, float, float], None] | None = None,
) -> Probe:
    """Train a probe on `data` and keep the epoch with the best mean validation SRCC.

    `variant` defaults to the one that reads all there is. The lowest reward is drawn `oversample` times as often as the highest. `on_epoch` gets (epoch, training loss,
    validation SRCC). Raises `InputError` when training and validation share a prompt or differ in settings.
    """
    shared = set(data.prompts) & set(validation.prompts)
    if shared:
        raise InputError(f"training and validation share {len(shared)} prompts, such as {sorted(shared)[0]!r}")
    if data.settings != validation.settings:
        raise InputError("training and validation data were collected with different settings")
    labels = list(labels or sorted(data.rewards))
    unknown = [name for name in labels if name not in data.rewards]
    if unknown:
        raise InputError(f"the data has no reward {unknown[0]!r}; it has {', '.join(sorted(data.rewards))}")
    if epochs < 1 or batch_size < 1 or oversample < 1 or not 0 <= dropout < 1:
        raise InputError("epochs, batch size and oversampling must be at least 1, dropout from 0 to below 1")
    if variant is None:
        variant = "latents" if data.latents else "words"
    torch.manual_seed(seed)
    rewards = torch.stack([data.rewards[name] for name in labels], 1)  # [items, heads]
    probe = Probe(_card(data, labels, rewards, variant=variant, features=features, dropout=dropout))
    chances = _oversampling(rewards, oversample)
    steps = sorted(data.maps)
    per_epoch = math.ceil(len(data) / batch_size)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=epochs * per_epoch, pct_start=0.1
    )
    generator = torch.Generator().manual_seed(seed)
    best, best_state = -2.0, copy.deepcopy(probe.state_dict())
    for epoch in range(1, epochs + 1):
        probe.train()
        total = 0.0
        for i in range(per_epoch):
            rows = torch.multinomial(chances, min(batch_size, len(data)), replacement=False, generator=generator)
            step = steps[(epoch * per_epoch + i) % len(steps)]
            predicted = probe(*_inputs(data, rows, step))
            loss = ((predicted - rewards[rows]) / probe.scale[:, 1]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        scores = predict(probe, validation, steps[-1])
        figure = float(np.mean([evaluation.srcc(scores[name], validation.rewards[name].numpy()) for name in labels]))
        if figure > best:
            best, best_state = figure, copy.deepcopy(probe.state_dict())
            probe.card.figures["best epoch"] = epoch
        if on_epoch:
            on_epoch(epoch, total / per_epoch, figure)
    probe.load_state_dict(best_state)
    probe.eval()
    scores = predict(probe, validation, steps[-1])
    for name in labels:
        probe.card.quantiles[name] = [round(float(q), 5) for q in np.quantile(scores[name], np.linspace(0, 1, 101))]
        probe.card.figures[f"validation {name}"] = evaluation.as_dict(
            evaluation.agreement(scores[name], validation.rewards[name].numpy(), resamples=200)
        )
    probe.card.data = {
        "training items": len(data), "training prompts": len(set(data.prompts)), "validation items": len(validation),
        "validation prompts": len(set(validation.prompts)), "epochs": epochs, "seed": seed, "oversample": oversample,
        "collected with": data.settings,
    }  # fmt: skip
    return probe


@torch.no_grad()
def predict(probe: Probe, data: Items, step: int, batch_size: int = 256) -> dict[str, np.ndarray]:
    """Predicted rewards of a data set at one step, per head."""
    if step not in data.maps:
        raise InputError(f"the data has no maps of step {step}; it has {', '.join(map(str, sorted(data.maps)))}")
    probe.eval()
    rows = torch.arange(len(data))
    parts = [probe(*_inputs(data, chunk, step)) for chunk in rows.split(batch_size)]
    values = torch.cat(parts).numpy()
    return {name: values[:, i] for i, name in enumerate(probe.card.labels)}


def check_data(probe: Probe, data: Items) -> None:
    """Raise `ProbeMismatchError` or `InputError` unless `data` was collected as the probe's training data was."""
    for key in ("denoiser", "blocks", "steps"):
        if data.settings[key] != getattr(probe.card, key):
            raise ProbeMismatchError(
                f"this probe was trained with {key} {getattr(probe.card, key)!r}, the data has {data.settings[key]!r}"
            )
    missing = [name for name in probe.card.labels if name not in data.rewards]
    if missing:
        raise InputError(f"the probe predicts {missing[0]!r}, which the data has no rewards for")


def _inputs(data: Items, rows: torch.Tensor, step: int) -> tuple[torch.Tensor | None, ...]:
    counts = data.counts[rows]
    maps = data.maps[step][rows, : int(counts.max())].float()
    latents = data.latents[step][rows].float() if step in data.latents else None
    return maps, counts, data.timesteps[step][rows], data.embeddings[rows, : maps.shape[1]], latents


def _oversampling(rewards: torch.Tensor, factor: float) -> torch.Tensor:
    """Drawing weights that fall linearly with the rank of the mean standardised reward, from `factor` to 1."""
    standard = ((rewards - rewards.mean(0)) / (rewards.std(0) + 1e-6)).mean(1)
    rank = standard.argsort().argsort().float() / max(len(rewards) - 1, 1)
    return factor - (factor - 1) * rank


def _card(data: Items, labels: list[str], rewards: torch.Tensor, **network: Any) -> ProbeCard:
    made: dict[str, Any] = data.settings
    return ProbeCard(
        denoiser=made["denoiser"], blocks=made["blocks"], steps=made["steps"], probe_steps=made["probe_steps"],
        timesteps={str(k): round(float(t[0]), 3) for k, t in data.timesteps.items()}, scheduler=made["scheduler"],
        guidance_scale=made["settings"].get("guidance_scale"), height=made["settings"].get("height"),
        width=made["settings"].get("width"), labels=labels, **network,
        embedding_size=data.embeddings.shape[-1],
        latent_channels=next((x.shape[1] for x in data.latents.values()), 0),
        reward_scale={
            name: [round(float(rewards[:, i].mean()), 6), round(float(rewards[:, i].std()) + 1e-6, 6)]
            for i, name in enumerate(labels)
        },
    )  # fmt: skip
