"""Train a probe on collected data: squared error, low rewards oversampled, the best epoch by validation kept.

Two things are added to the paper's loss where the data has them (but not for the paper's own network): the difference
between two seeds of a prompt is learned for itself, and, with a reward model that compares embeddings, those of the
finished image and of the prompt are learned as well: one number for an image says little about what went wrong in it.
Prompts without images (`collect --texts`) teach the second of these; they cost next to nothing, and prompts differ more
than images of one prompt do.

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
from .card import ProbeCard
from .dataset import Items
from .errors import InputError, ProbeMismatchError
from .observation import Observation
from .probe import Probe

WITHIN_WEIGHT = 0.5  # of the squared error in the difference between two seeds of a prompt
IMAGE_WEIGHT = 6.0  # of 1 minus the cosine between the predicted and the true embedding of the finished image
TEXT_WEIGHT = 6.0  # of the same for the prompt's
TEXTS = 2  # prompts without images that are read for each image
AVERAGE = 0.998  # of the weights that are kept, over steps


def train(
    data: Items,
    validation: Items,
    *,
    texts: Items | None = None,
    warm_start: Probe | None = None,
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

    `texts` are prompts without images. Weights begin with those of `warm_start`, a probe of the same network. `variant` defaults to the one that reads all there is. The lowest reward is drawn
    `oversample` times as often as the highest. `on_epoch` gets (epoch, training loss, validation SRCC). Raises
    `InputError` when training and validation share a prompt or differ in settings, or the network differs from `warm_start`'s.
    """
    _check_images(data)
    _check_images(validation)
    shared = set(data.prompts + (texts.prompts if texts else [])) & set(validation.prompts)
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
    ours = variant != "plain"  # the paper's network is trained with the paper's loss
    towers = {n: data.image_features[n].shape[1] for n in labels if variant == "latents" and n in data.text_features}
    if texts is not None:
        _check_texts(texts, data, towers)
    probe = Probe(_card(data, labels, rewards, variant=variant, features=features, dropout=dropout, towers=towers))
    if warm_start is not None:
        _begin_with(probe, warm_start)
    chances = _oversampling(rewards, oversample)
    mates = _mates(data.prompts)
    has_mate = mates != torch.arange(len(data))
    paired = ours and bool(has_mate.any())
    drawn = round(batch_size / (1 + float(has_mate.float().mean()))) if paired else batch_size
    steps = sorted(data.maps)
    per_epoch = math.ceil(len(data) / batch_size)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=epochs * per_epoch, pct_start=0.1
    )
    generator = torch.Generator().manual_seed(seed)
    best, best_state = -2.0, copy.deepcopy(probe.state_dict())
    averaged = copy.deepcopy(probe)
    for epoch in range(1, epochs + 1):
        probe.train()
        total = 0.0
        for i in range(per_epoch):
            rows = torch.multinomial(chances, min(drawn, len(data)), replacement=False, generator=generator)
            count, several = len(rows), has_mate[rows]
            if paired:
                rows = torch.cat([rows, mates[rows[several]]])
            step = steps[int(torch.randint(len(steps), (1,), generator=generator))]
            predicted, told = probe.outputs(observation_of(data, rows, step))
            errors = (predicted - rewards[rows]) / probe.scale[:, 1]
            loss = errors.square().mean()
            if paired and bool(several.any()):  # what tells two seeds apart is small beside what tells prompts apart
                loss = loss + WITHIN_WEIGHT * (errors[:count][several] - errors[count:]).square().mean()
            for name, (image, text) in told.items():
                seen = (image * data.image_features[name][rows].float()).sum(-1)
                loss = loss + IMAGE_WEIGHT * (1 - seen).mean()
                if texts is None:
                    read = (text * data.text_features[name][rows].float()).sum(-1)
                    loss = loss + TEXT_WEIGHT * (1 - read).mean()
            if texts is not None:
                loss = loss + TEXT_WEIGHT * _text_loss(probe, texts, TEXTS * batch_size, generator)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            done = (epoch - 1) * per_epoch + i
            with torch.no_grad():
                kept = min(AVERAGE, (done + 1) / (done + 10))
                own = dict(probe.state_dict())
                for name, value in averaged.state_dict().items():
                    value.lerp_(own[name], 1 - kept)
            total += float(errors.detach().square().mean())
        scores = predict(averaged, validation, averaged.card.default_step)
        figure = float(np.mean([evaluation.srcc(scores[name], validation.rewards[name].numpy()) for name in labels]))
        if math.isfinite(figure):
            probe.card.figures.setdefault("learning curve", []).append(round(figure, 4))
        if figure > best:
            best, best_state = figure, copy.deepcopy(averaged.state_dict())
            probe.card.figures["best epoch"] = epoch
        if on_epoch:
            on_epoch(epoch, total / per_epoch, figure)
    probe.load_state_dict(best_state)
    probe.eval()
    for step in steps:
        scores = predict(probe, validation, step)
        for name in labels:
            measured = validation.rewards[name].numpy()
            _note(probe.card, name, step, scores[name], measured, validation.prompts)
            if step == probe.card.default_step:
                probe.card.figures[f"validation {name}"] = evaluation.as_dict(
                    evaluation.agreement(scores[name], measured, resamples=200)
                )
    probe.card.data = {
        "training items": len(data), "training prompts": len(set(data.prompts)), "validation items": len(validation),
        "validation prompts": len(set(validation.prompts)), "texts": len(texts) if texts else 0, "epochs": epochs, "seed": seed, "oversample": oversample,
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
    parts = [probe(observation_of(data, chunk, step)) for chunk in rows.split(batch_size)]
    values = torch.cat(parts).numpy()
    return {name: values[:, i] for i, name in enumerate(probe.card.labels)}


def _note(
    card: ProbeCard, label: str, step: int, predicted: np.ndarray, measured: np.ndarray, prompts: Sequence[str]
) -> None:
    """Write on the card how predictions and their errors are spread on the validation set."""
    errors = measured - predicted
    grid = np.linspace(0, 1, 101)
    for table, values in ((card.quantiles, predicted), (card.residuals, errors)):
        table.setdefault(label, {})[str(step)] = [round(float(q), 5) for q in np.quantile(values, grid)]
    groups: dict[str, list[float]] = {}
    for prompt, error in zip(prompts, errors, strict=True):
        groups.setdefault(prompt, []).append(float(error))
    several = [v for v in groups.values() if len(v) > 1]
    freedom = sum(len(v) - 1 for v in several)
    spread = math.sqrt(sum(len(v) * float(np.var(v)) for v in several) / freedom) if freedom else None
    card.within.setdefault(label, {})[str(step)] = None if spread is None else round(spread, 5)
    ranked = evaluation.within_prompts(prompts, predicted, measured, resamples=200)
    if ranked is not None:
        card.ranks.setdefault(label, {})[str(step)] = [round(x, 4) for x in (ranked.value, ranked.low, ranked.high)]


def _begin_with(probe: Probe, other: Probe) -> None:
    """Take another probe's weights; raise `InputError` naming what its network has otherwise."""
    for what in ("variant", "labels", "features", "blocks", "embedding_size", "latent_channels", "towers"):
        have, given = getattr(probe.card, what), getattr(other.card, what)
        if (len(have) != len(given)) if what == "blocks" else have != given:
            raise InputError(
                f"the probe to start from has {what} {given!r}, the new one {have!r}; they must be the same"
            )
    probe.load_state_dict(other.state_dict())


def _text_loss(probe: Probe, texts: Items, size: int, generator: torch.Generator) -> torch.Tensor:
    """1 minus the cosine between predicted and true embeddings of `size` prompts drawn at random."""
    rows = torch.randint(len(texts), (size,), generator=generator)
    counts = texts.counts[rows]
    read = probe.read(texts.embeddings[rows, : int(counts.max())], counts)
    cosines = [(text * texts.text_features[name][rows].float()).sum(-1).mean() for name, text in read.items()]
    return len(cosines) - torch.stack(cosines).sum()


def _check_images(data: Items) -> None:
    if not data.maps:
        raise InputError("the data set was collected with --texts and holds no images; it is for train --texts")


def _check_texts(texts: Items, data: Items, towers: dict[str, int]) -> None:
    if not towers:
        raise InputError("no reward in the data compares embeddings of image and text, so prompts alone teach nothing")
    sizes = [("what the denoiser is told", texts.embeddings.shape[-1], data.embeddings.shape[-1])]
    for name, size in towers.items():
        if name not in texts.text_features:
            raise InputError(f"the texts were collected without reward {name!r}, which the data has")
        sizes.append((f"reward {name!r}", texts.text_features[name].shape[1], size))
    for what, own, wanted in sizes:
        if own != wanted:
            raise InputError(
                f"the texts were collected with another model: embeddings of {what} have {own} numbers, the data's {wanted}"
            )
    if texts.settings["denoiser"] != data.settings["denoiser"]:
        raise InputError(
            f"the texts were collected with a {texts.settings['denoiser']}, the data with a {data.settings['denoiser']}"
        )


def _mates(prompts: Sequence[str]) -> torch.Tensor:
    """For each item the next one of the same prompt, round and round; itself where there is no other. `[items]`."""
    places: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        places.setdefault(prompt, []).append(i)
    mates = torch.arange(len(prompts))
    for own in places.values():
        mates[own] = torch.tensor(own[1:] + own[:1])
    return mates


def check_data(probe: Probe, data: Items) -> None:
    """Raise `ProbeMismatchError` or `InputError` unless `data` was collected as the probe's training data was."""
    _check_images(data)
    several = len(probe.card.probe_steps) > 1  # knows the noise level, so another number of steps will do
    for key in ("denoiser", "blocks") if several else ("denoiser", "blocks", "steps"):
        if data.settings[key] != getattr(probe.card, key):
            raise ProbeMismatchError(
                f"this probe was trained with {key} {getattr(probe.card, key)!r}, the data has {data.settings[key]!r}"
            )
    if not set(probe.card.labels) & set(data.rewards):
        raise InputError(
            f"the probe predicts {', '.join(probe.card.labels)}, the data has rewards for {', '.join(data.rewards)} only"
        )


def observation_of(data: Items, rows: torch.Tensor, step: int) -> Observation:
    """Some rows of a data set at a step, as a judge is shown them, padded to their longest prompt."""
    counts = data.counts[rows]
    longest = int(counts.max())
    return Observation(
        maps=data.maps[step][rows, :longest].float(), counts=counts, timesteps=data.timesteps[step][rows], step=step,
        steps=data.settings["steps"], embeddings=data.embeddings[rows, :longest],
        clean=data.latents[step][rows].float() if step in data.latents else None,
        blocks=tuple(data.settings["blocks"]),
    )  # fmt: skip


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
        guidance_scale=made["settings"].get("guidance_scale"), true_cfg_scale=made["settings"].get("true_cfg_scale"), height=made["settings"].get("height"),
        width=made["settings"].get("width"), labels=labels, **network,
        embedding_size=data.embeddings.shape[-1],
        latent_channels=next((x.shape[1] for x in data.latents.values()), 0),
        reward_scale={
            name: [round(float(rewards[:, i].mean()), 6), round(float(rewards[:, i].std()) + 1e-6, 6)]
            for i, name in enumerate(labels)
        },
    )  # fmt: skip
