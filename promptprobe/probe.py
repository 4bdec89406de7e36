"""The probe: a small CNN that reads token maps and predicts the reward of the finished image.

Comes in: an `Observation`: token maps, how many tokens each sample has, the timestep, for the variants `words` and
`latents` the tokens' text embeddings, and for `latents` the clean latents that the step predicts.
Goes out: predicted rewards `[batch, heads]`. Any number of tokens, any map size.
Source: Diffusion Probe, arXiv:2602.23783, §3.3.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from .card import ProbeCard
from .errors import InputError, ModelError
from .files import write_together
from .observation import Observation
from .text import printable
from .untrusted import checked

VARIANTS = ("latents", "words", "maps", "plain")
SQUEEZED = 2  # planes that say where
GRID = 4  # on which the place of a token's attention is kept
MIXED = 128  # width in which tokens see each other
CELLS = 4  # latents become at most this many cells a side
LARGEST = {"features": 1024, "embedding_size": 65_536, "latent_channels": 4096}  # of a card that is read
WEIGHTS_FILE = "probe.safetensors"
CARD_FILE = "card.json"


class DownBlock(nn.Module):
    """Two residual convolutions with a timestep shift; the grid is halved between them where it is larger than `least`."""

    def __init__(self, width: int, least: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=1)
        self.time = nn.Linear(width, width)
        self.least = least

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(time)[..., None, None]
        if min(h.shape[-2:]) > self.least:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        return self.conv2(F.silu(self.norm2(h))) + x


class TextTower(nn.Module):
    """Text embeddings of a prompt's tokens to a summary `[batch, MIXED]`. It sees nothing of the image.

    So prompts alone, without images, can teach it.
    """

    def __init__(self, size: int):
        super().__init__()
        self.enter = nn.Linear(size, MIXED)
        self.mix = _transformer(2, 0.0)
        self.norm = nn.LayerNorm(MIXED)

    def forward(self, embeddings: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Of `embeddings` `[batch, tokens, size]`, of which `real` `[batch, tokens]` count."""
        # Seeds of one prompt follow each other: each prompt is read once.
        new = torch.ones(len(real), dtype=torch.bool, device=real.device)
        new[1:] = (embeddings[1:] != embeddings[:-1]).flatten(1).any(1) | (real[1:] != real[:-1]).any(1)
        order = _sinusoid(torch.arange(real.shape[1], device=real.device).float(), MIXED)
        x = self.enter(embeddings[new].float()) + 0.5 * order
        x = self.mix(x, src_key_padding_mask=~real[new])
        x = self.norm(_mean_of(x, real[new]))
        return x[new.cumsum(0) - 1]


class ImageTower(nn.Module):
    """Predicted clean latents `[batch, channels, height, width]` to cells `[batch, cells, MIXED]` that saw each other."""

    def __init__(self, channels: int, dropout: float):
        super().__init__()
        width = 64
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.time = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for _ in range(4))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(4))
        self.down = nn.Conv2d(width, MIXED, 2, 2)
        self.mix = _transformer(2, dropout)
        self.norm = nn.LayerNorm(MIXED)

    def forward(self, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        x = latents.float()
        x = x / x.std((1, 2, 3), keepdim=True).clamp_min(1e-6)  # solvers differ in scale
        x = self.enter(_at_most(x, 4 * CELLS)) + self.time(_sinusoid(timestep, 32))[..., None, None]
        for i in (0, 2):
            h = self.convolutions[i](F.silu(self.norms[i](x)))
            x = x + self.convolutions[i + 1](F.silu(self.norms[i + 1](h)))
            if i == 0:
                x = _at_most(x, 2 * CELLS)
        height, width = x.shape[-2:]
        x = self.down(F.pad(F.silu(x), (0, width % 2, 0, height % 2), mode="replicate"))
        height, width = x.shape[-2:]
        rows, columns = (
            _sinusoid(torch.arange(n, device=x.device).float() * 8 / n, MIXED // 2) for n in (height, width)
        )
        place = torch.cat([rows.repeat_interleave(width, 0), columns.repeat(height, 1)], 1)
        return self.norm(self.mix(x.flatten(2).transpose(1, 2) + 0.5 * place))


class Probe(nn.Module):
    """Predicts rewards from token maps, as its `card` says.

    `plain` is the paper's: one CNN over each token's planes, averaged over tokens. `maps` also shows the CNN each map's
    own shape (its logarithm, relative to its mass), keeps where on a 4x4 grid each token is looked for beside each map's
    mass, entropy and peak, and lets the tokens see each other before they are pooled. `words` is `maps` that also knows
    the token's text embedding, so that "three" can be compared with the number of places where its noun is looked for.
    `latents` is `words` that also sees the clean latents which the step predicts, as a coarse grid of cells that mix with
    the tokens: what will be there is largely settled by then, and the seeds of one prompt differ in little else.

    A reward that is the cosine of an image's and a text's embedding (CLIP and its kin) is predicted as such: for a head
    with `towers` one network predicts the image's embedding from the clean latents, another the prompt's from its tokens,
    and their scaled cosine is added to what the head says otherwise.
    """

    def __init__(self, card: ProbeCard):
        super().__init__()
        if card.variant not in VARIANTS:
            raise InputError(f"probe variant is {card.variant!r}; it must be one of {', '.join(VARIANTS)}")
        if card.features < 8 or card.features % 8:
            raise InputError(f"features is {card.features}; it must be a multiple of 8")
        told = card.variant in ("words", "latents")
        if told and card.embedding_size < 1:
            raise InputError(
                f"the data has no text embeddings, which variant {card.variant!r} reads; use --variant maps"
            )
        if card.variant == "latents" and card.latent_channels < 1:
            raise InputError("the data has no latents, which variant 'latents' reads; use --variant words")
        self.card = card
        plain = card.variant == "plain"
        width, blocks = card.features, len(card.blocks)
        self.time = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.enter = nn.Conv2d(blocks, width, 3, padding=1) if plain else nn.Conv2d(2 * blocks, width, 1)
        self.down = nn.ModuleList(DownBlock(width, 2 if plain else GRID) for _ in range(2))
        self.out_norm = nn.GroupNorm(8, width)
        pooled = width
        if plain:
            self.out_conv = nn.Conv2d(width, width, 1)
        else:
            pooled = MIXED
            # Two planes are enough to say where; more of them only learn the training prompts by heart.
            self.out_conv = nn.Conv2d(width, SQUEEZED, 1)
            self.place = nn.Linear(SQUEEZED * GRID * GRID + 3 * blocks, MIXED)
            if told:
                self.meaning = nn.Linear(card.embedding_size, MIXED)
            self.drop = nn.Dropout(card.dropout)
            self.mix = _transformer(1 if card.variant == "latents" else 2, card.dropout)
        if card.variant == "latents":
            self.image = ImageTower(card.latent_channels, min(card.dropout, 0.1))
            pooled = 2 * MIXED
        self.head = nn.Sequential(nn.LayerNorm(pooled), nn.Linear(pooled, len(card.labels)))
        if card.towers:
            if card.variant != "latents":
                raise InputError(f"variant {card.variant} has no towers")
            self.text = TextTower(card.embedding_size)
        self.image_outs = nn.ModuleList(nn.Linear(MIXED, size) for size in card.towers.values())
        self.text_outs = nn.ModuleList(nn.Linear(MIXED, size) for size in card.towers.values())
        # A standard deviation of the reward is about a third of a cosine.
        self.products = nn.ParameterList(torch.tensor([3.0, -2.0]) for _ in card.towers)
        self.scale: torch.Tensor
        scale = torch.tensor([card.reward_scale.get(name, [0.0, 1.0]) for name in card.labels])
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, seen: Observation) -> torch.Tensor:
        """Predicted rewards `[batch, heads]` of what is shown, as `outputs` takes it."""
        return self.outputs(seen)[0]

    def outputs(self, seen: Observation) -> tuple[torch.Tensor, dict[str, tuple[torch.Tensor, torch.Tensor]]]:
        """Predicted rewards `[batch, heads]`, and of each head with towers the embeddings of the finished image and of
        the prompt, `[batch, size]` each and of unit length.

        The probe reads the maps of its own blocks, in their order; `words` and `latents` read the text embeddings too,
        and `latents` the clean latents. Raises `InputError` when what it reads is not there.
        """
        maps, counts, timestep = seen.maps, seen.counts, seen.timesteps
        embeddings, latents = seen.embeddings, seen.clean
        card = self.card
        if maps.shape[2] != len(card.blocks):
            raise InputError(f"the probe reads {len(card.blocks)} blocks, the maps have {maps.shape[2]}")
        if card.variant in ("words", "latents") and (embeddings is None or embeddings.shape[-1] != card.embedding_size):
            given = "none" if embeddings is None else embeddings.shape[-1]
            raise InputError(f"the probe reads text embeddings of size {card.embedding_size}, given was {given}")
        if card.variant == "latents" and (latents is None or latents.shape[1] != card.latent_channels):
            given = "none" if latents is None else f"{latents.shape[1]} channels"
            raise InputError(f"the probe reads latents of {card.latent_channels} channels, given was {given}")
        features, real = self._tokens(maps, counts, timestep, embeddings)
        if card.variant != "latents":
            if card.variant != "plain":
                features = self.mix(features, src_key_padding_mask=~real)
            return self._scaled(self.head(_mean_of(features, real))), {}
        assert latents is not None and embeddings is not None
        cells = self.image(latents, timestep)
        padding = torch.cat([~real, real.new_zeros(cells.shape[:2])], 1)
        mixed = self.mix(torch.cat([features, self.drop(cells)], 1), src_key_padding_mask=padding)
        tokens = real.shape[1]
        values = self.head(torch.cat([_mean_of(mixed[:, :tokens], real), mixed[:, tokens:].mean(1)], 1))
        told = {}
        if card.towers:
            seen, read = cells.mean(1), self.read(embeddings, counts)
            for (label, text), out, product in zip(read.items(), self.image_outs, self.products, strict=True):
                told[label] = F.normalize(out(seen), dim=-1), text
                column = F.one_hot(torch.tensor(card.labels.index(label)), len(card.labels)).to(values)
                cosine = (told[label][0] * text).sum(-1, keepdim=True)
                values = values + (product[0] * cosine + product[1]) * column
        return self._scaled(values), told

    def read(self, embeddings: torch.Tensor, counts: torch.Tensor) -> dict[str, torch.Tensor]:
        """Per head with towers, the predicted embedding of each prompt: unit length, `[batch, size]`."""
        summary = self.text(embeddings, _real(embeddings, counts))
        return {
            label: F.normalize(out(summary), dim=-1)
            for label, out in zip(self.card.towers, self.text_outs, strict=True)
        }

    def _tokens(
        self, maps: torch.Tensor, counts: torch.Tensor, timestep: torch.Tensor, embeddings: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of each token `[batch, tokens, size]`, and which are real `[batch, tokens]`."""
        batch, tokens = maps.shape[:2]
        real = _real(maps, counts)
        own = maps[real].float()  # only real tokens go through the CNN
        x = self.enter(self._planes(own))
        time = self.time(_sinusoid(timestep, 32))[:, None].expand(-1, tokens, -1)[real]
        for block in self.down:
            x = block(x, time)
        x = self.out_conv(F.silu(self.out_norm(x)))
        if self.card.variant == "plain":
            x = x.mean((-2, -1))
        else:
            x = self.place(torch.cat([F.adaptive_avg_pool2d(x, GRID).flatten(1), _summary(own)], 1))
            if self.card.variant != "maps":
                assert embeddings is not None
                x = x + self.meaning(embeddings[real].float())
            x = self.drop(x)
        features = x.new_zeros(batch, tokens, x.shape[1])
        features[real] = x
        if self.card.variant == "plain":
            return features, real
        order = _sinusoid(torch.arange(tokens, device=maps.device).float(), MIXED)
        return features + 0.5 * order, real

    def _scaled(self, values: torch.Tensor) -> torch.Tensor:
        return values * self.scale[:, 1] + self.scale[:, 0]

    def _planes(self, maps: torch.Tensor) -> torch.Tensor:
        # Attention to one of many tokens is small; as a multiple of a uniform map it is of order one.
        if self.card.variant == "plain":
            return maps * 10
        shape = (maps + 1e-4) / (maps.mean((-2, -1), keepdim=True) + 1e-4)
        return torch.cat([shape.log(), maps * 4], 1)

    @torch.no_grad()
    def predict(self, seen: Observation, objective: Mapping[str, float] | None = None) -> list[float]:
        """Predicted rewards of what is shown, by row: the first head's, or a weighted sum of heads."""
        self.eval()
        weights = torch.zeros(len(self.card.labels))
        for label, weight in (objective or {self.card.labels[0]: 1.0}).items():
            weights[self.card.labels.index(label)] = weight
        return (self(seen) @ weights).tolist()

    def save(self, folder: Path) -> None:
        """Write weights and card into `folder`, both or neither."""
        from safetensors.torch import save

        weights = save({k: v.contiguous() for k, v in self.state_dict().items()})
        card = json.dumps(asdict(self.card), indent=1, sort_keys=True) + "\n"
        write_together({folder / WEIGHTS_FILE: weights, folder / CARD_FILE: card.encode()})

    @classmethod
    def load(cls, folder: Path | str) -> Probe:
        """Read a probe folder.

        Raises `ModelError` that names the file when it is absent, corrupt or not a probe's.
        """
        from safetensors.torch import load_file

        folder = Path(folder)
        for name in (CARD_FILE, WEIGHTS_FILE):
            if not (folder / name).is_file():
                raise ModelError(f"no probe in {str(folder)!r}: {name} is missing; `promptprobe train` makes one")
        try:
            card = checked(ProbeCard, asdict(ProbeCard(**json.loads((folder / CARD_FILE).read_text("utf-8")))))
        except (ValueError, TypeError, RecursionError) as error:
            raise ModelError(f"{folder / CARD_FILE} is not a probe card: {printable(str(error), 200)}") from error
        if card.version != ProbeCard.version:
            raise ModelError(
                f"{folder / CARD_FILE} is of version {card.version}, this promptprobe reads {ProbeCard.version}; train again"
            )
        large = [n for n, most in LARGEST.items() if not 0 <= getattr(card, n) <= most]
        if large:
            raise ModelError(
                f"{folder / CARD_FILE}: {large[0]} is {getattr(card, large[0])}; at most {LARGEST[large[0]]} is read"
            )
        probe = cls(card)
        try:
            probe.load_state_dict(load_file(folder / WEIGHTS_FILE))
        except Exception as error:  # safetensors and torch raise classes of their own
            reason = str(error).splitlines()[0]
            raise ModelError(f"{folder / WEIGHTS_FILE} is corrupt or not this probe's weights: {reason}") from error
        return probe.eval()


def probe_digest(probe: Probe) -> str:
    """A short hash of a probe's weights and what they are for: equal for equal predictions."""
    digest = hashlib.sha256(json.dumps([probe.card.labels, probe.card.variant, probe.card.blocks]).encode())
    for name, value in sorted(probe.state_dict().items()):
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _transformer(layers: int, dropout: float) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        MIXED, 4, 2 * MIXED, dropout=dropout, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def _real(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Which tokens of padded `values` `[batch, tokens, ...]` are real: `[batch, tokens]`."""
    return torch.arange(values.shape[1], device=counts.device) < counts[:, None]


def _mean_of(features: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Mean over real tokens, `[batch, size]` of `[batch, tokens, size]`."""
    return (features * real[..., None]).sum(1) / real.sum(1, keepdim=True)


def _at_most(planes: torch.Tensor, side: int) -> torch.Tensor:
    """Planes `[batch, channels, height, width]` averaged down to at most `side` cells in each direction."""
    height, width = planes.shape[-2:]
    return (
        planes if max(height, width) <= side else F.adaptive_avg_pool2d(planes, (min(height, side), min(width, side)))
    )


def _summary(maps: torch.Tensor) -> torch.Tensor:
    """Mass, entropy and peak of each map, of order one: `[tokens, 3 blocks]` of `[tokens, blocks, height, width]`.

    The entropy counts from that of a uniform map, so that a grid's size does not matter.
    """
    flat = maps.flatten(2)
    shares = flat / flat.sum(-1, keepdim=True).clamp_min(1e-6)
    entropy = -(shares * shares.clamp_min(1e-9).log()).sum(-1) - math.log(flat.shape[-1])
    mass, peak = flat.mean(-1), flat.amax(-1)
    return torch.cat([(mass + 1e-4).log() / 2, entropy + 1, (peak + 1e-4).log() / 2], 1)


def _sinusoid(values: torch.Tensor, size: int) -> torch.Tensor:
    """Sines and cosines of `values` `[n]` at geometric frequencies: `[n, size]`."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(size // 2, device=values.device) / (size // 2))
    angles = values[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)
