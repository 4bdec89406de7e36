"""Collect (token maps, reward) pairs of finished images into shards, resumable; and read them back.

Comes in: a pipeline, reward models, prompts. Goes out: a folder of safetensors shards, each written whole, with
`dataset.json` beside them saying how they were made. An item is a (prompt, seed); what is there is never redone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired

import torch
from pydantic import Field
from typing_extensions import TypedDict

from .attention import AttentionTap
from .backbones import denoiser_of
from .errors import InputError, ModelError
from .files import check_writable, write_together
from .paused import Paused
from .rewards import RewardFunction, measure
from .sources import SETTINGS_FILE, check_data_sets
from .text import printable
from .tokens import clean_prompt
from .trajectory import finish, start
from .untrusted import checked

_BUCKET = 512  # items that are sorted by length together, so that batches have little padding


@dataclass
class Items:
    """A data set in memory. Maps are padded to the longest prompt; `counts` says how many tokens are real."""

    prompts: list[str]
    seeds: list[int]
    maps: dict[int, torch.Tensor]  # step -> half [items, tokens, blocks, height, width]
    timesteps: dict[int, torch.Tensor]  # step -> [items]
    counts: torch.Tensor  # [items]
    embeddings: torch.Tensor  # half [items, tokens, size]
    rewards: dict[str, torch.Tensor]  # label -> [items]
    settings: dict[str, Any]
    latents: dict[int, torch.Tensor] = field(
        default_factory=dict
    )  # step -> half [items, channels, h, w], predicted clean
    image_features: dict[str, torch.Tensor] = field(default_factory=dict)  # label -> half [items, size], unit length
    text_features: dict[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prompts)


def part_of(prompts: Sequence[str], part: str) -> list[str]:
    """The K-th of N shares of the prompts, for `part` "K/N".

    Raises `InputError` for anything else, or a share with no prompt in it.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", part)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"part is {part!r}; give K/N with K from 1 to N, such as 1/2")
    share = list(prompts[int(match[1]) - 1 :: int(match[2])])
    if not share:
        raise InputError(f"part {part} of {len(prompts)} prompts is empty")
    return share


def item_seed(prompt: str, index: int, seed: int) -> int:
    """The seed of a prompt's `index`-th image: spread over all values, the same in every run."""
    digest = hashlib.sha256(f"{seed}/{index}/{prompt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def collect(
    pipeline,
    rewards: dict[str, RewardFunction],
    prompts: Sequence[str],
    out: Path,
    *,
    seeds_per_prompt: int = 1,
    steps: int,
    probe_steps: Sequence[int],
    settings: dict[str, Any],
    blocks: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int = 32,
    model: str = "",
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Generate every (prompt, seed) in full and keep its token maps and rewards; return how many are there.

    Raises `InputError` when `out` holds a data set made with other settings.
    """
    if seeds_per_prompt < 1 or batch_size < 1:
        raise InputError("seeds per prompt and batch size must be at least 1")
    tap = AttentionTap(pipeline, blocks)
    made_with = {
        "model": model, "denoiser": type(denoiser_of(pipeline)).__name__, "blocks": tap.blocks, "steps": steps,
        "probe_steps": sorted(probe_steps), "scheduler": type(pipeline.scheduler).__name__, "settings": settings,
        "labels": sorted(rewards), "seed": seed,
    }  # fmt: skip

    def make(texts: list[str], seeds: list[int]) -> dict[str, torch.Tensor]:
        paused = start(
            pipeline, texts, seeds, steps=steps, stop=max(probe_steps), watch=probe_steps, blocks=tap.blocks, **settings
        )
        images: Any = finish(pipeline, paused)
        tensors = {f"maps.{k}": m.half() for k, m in paused.token_maps.items()}
        tensors |= {f"latents.{k}": x.half() for k, x in paused.clean_latents.items()}
        tensors |= {f"timesteps.{k}": torch.full((len(texts),), t) for k, t in paused.timesteps.items()}
        for name, reward in rewards.items():
            tensors |= _measured(name, reward, images, texts)
        return tensors | _tokens_of(paused)

    return _collect(out, made_with, prompts, seeds_per_prompt, seed, batch_size, make, on_progress)


def collect_texts(
    pipeline,
    rewards: dict[str, RewardFunction],
    prompts: Sequence[str],
    out: Path,
    *,
    steps: int,
    settings: dict[str, Any],
    batch_size: int = 128,
    model: str = "",
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Keep of each prompt what the denoiser is told of it (one step is run for that) and the rewards' text embeddings.

    Returns how many are there. Raises `InputError` when no reward compares embeddings, and as `collect`.
    """
    wanted: dict[str, Any] = {n: r for n, r in rewards.items() if compares(r)}
    if not wanted:
        raise InputError(f"none of the rewards {', '.join(rewards)} has a text embedding; prompts alone teach nothing")
    if batch_size < 1:
        raise InputError("batch size must be at least 1")
    made_with = {
        "model": model, "denoiser": type(denoiser_of(pipeline)).__name__, "steps": steps, "settings": settings,
        "labels": sorted(wanted), "texts": True,
    }  # fmt: skip
    block = AttentionTap(pipeline).blocks[:1]

    def make(texts: list[str], seeds: list[int]) -> dict[str, torch.Tensor]:
        paused = start(pipeline, texts, seeds, steps=steps, stop=1, blocks=block, **settings)
        read = {f"texts.{n}": reward.text_embeddings(texts).half() for n, reward in wanted.items()}
        return read | _tokens_of(paused)

    return _collect(out, made_with, prompts, 1, 0, batch_size, make, on_progress)


def _collect(
    out: Path,
    made_with: dict[str, Any],
    prompts: Sequence[str],
    seeds_per_prompt: int,
    seed: int,
    batch_size: int,
    make: Callable[[list[str], list[int]], dict[str, torch.Tensor]],
    on_progress: Callable[[int, int], None] | None,
) -> int:
    """Fill `out` with shards of what `make` gives for prompts and seeds that are not there yet."""
    check_writable(out)
    _check_settings(out / SETTINGS_FILE, made_with)
    todo = [
        (p, item_seed(p, i, seed)) for p in dict.fromkeys(map(clean_prompt, prompts)) for i in range(seeds_per_prompt)
    ]
    done = {key for shard in _shards(out) for key in _keys(shard)}
    finished = sum(item in done for item in todo)
    todo = [item for item in todo if item not in done]
    total = finished + len(todo)
    number = max((int(s.stem.split("-")[1]) for s in _shards(out)), default=-1) + 1
    buckets = [sorted(todo[i : i + _BUCKET], key=lambda x: len(x[0])) for i in range(0, len(todo), _BUCKET)]
    ordered = [item for bucket in buckets for item in bucket]
    for i in range(0, len(ordered), batch_size):
        batch = ordered[i : i + batch_size]
        texts, seeds = [p for p, _ in batch], [s for _, s in batch]
        _write_shard(out / f"shard-{number:06d}.safetensors", make(texts, seeds), texts, seeds)
        number += 1
        finished += len(batch)
        if on_progress:
            on_progress(finished, total)
    return finished


def _tokens_of(paused: Paused) -> dict[str, torch.Tensor]:
    assert paused.token_embeddings is not None  # something was watched
    return {
        "embeddings": paused.token_embeddings.half(),
        "counts": torch.tensor([len(t.columns) for t in paused.tokens]),
    }


def compares(reward: Any) -> bool:
    """Whether a reward is a product of embeddings of image and text, so that prompts alone can be collected."""
    return hasattr(reward, "formula") and getattr(reward, "reads_prompt", False)


def _measured(name: str, reward: RewardFunction, images: list, texts: list[str]) -> dict[str, torch.Tensor]:
    """Rewards and, of a reward that compares embeddings, those as well: each image and text is embedded once."""
    if not compares(reward):
        return {f"rewards.{name}": measure(reward, images, texts)}
    known: Any = reward
    seen, read = known.image_embeddings(images), known.text_embeddings(texts)
    values = measure(lambda *_: known.formula(seen, read), images, texts)
    return {f"rewards.{name}": values, f"images.{name}": seen.half(), f"texts.{name}": read.half()}


def load(folders: Sequence[Path]) -> Items:
    """Read one or several data sets that were made with the same settings.

    Raises `InputError` when they differ, or hold nothing; `ModelError` names a corrupt shard. An item in two of them
    counts once.
    """
    from safetensors import safe_open

    settings: dict[str, Any] | None = None
    parts: dict[str, list[torch.Tensor]] = {}
    keys: list[tuple[str, int]] = []
    seen: set[tuple[str, int]] = set()
    check_data_sets(folders)
    for folder in folders:
        own = _settings_of(folder / SETTINGS_FILE)
        own.pop("seed", None)
        if settings is not None and own != settings:
            raise InputError(f"{str(folder)!r} was made with other settings than the data sets before it")
        settings = own
        for shard in _shards(folder):
            items = _keys(shard)
            fresh = [i for i, item in enumerate(items) if item not in seen]
            seen.update(items)
            keys += [items[i] for i in fresh]
            with safe_open(shard, "pt") as file:
                for name in file.keys():  # noqa: SIM118 - a safetensors file is no dict
                    parts.setdefault(name, []).append(file.get_tensor(name)[fresh])
    if settings is None or not keys:
        raise InputError(f"no items in {', '.join(str(f) for f in folders)}")
    lacking = [name for name in ("embeddings", *parts) if len(parts.get(name, [])) != len(parts["counts"])]
    if lacking:
        raise InputError(
            f"{', '.join(str(f) for f in folders)}: a shard has no {lacking[0]}; it was collected by an older version, "
            "collect again into another folder"
        )
    longest = max(int(c.max()) for c in parts["counts"] if len(c))
    joined = {
        n: torch.cat([_pad(t, longest) if n.startswith(("maps.", "embeddings")) else t for t in ts])
        for n, ts in parts.items()
    }

    def split(prefix: str) -> dict[str, torch.Tensor]:
        return {n.removeprefix(prefix): t for n, t in joined.items() if n.startswith(prefix)}

    rewards = split("rewards.")
    for name, values in rewards.items():
        if not torch.isfinite(values).all():
            where = int((~torch.isfinite(values)).nonzero()[0])
            raise InputError(f"reward {name} of {keys[where][0]!r} (seed {keys[where][1]}) is not a number")
    return Items(
        prompts=[p for p, _ in keys], seeds=[s for _, s in keys], counts=joined["counts"], embeddings=joined["embeddings"], rewards=rewards,
        maps={int(k): t for k, t in split("maps.").items()},
        timesteps={int(k): t for k, t in split("timesteps.").items()}, settings=settings,
        image_features=split("images."), text_features=split("texts."), latents={int(k): t for k, t in split("latents.").items()},
    )  # fmt: skip


def _pad(values: torch.Tensor, tokens: int) -> torch.Tensor:
    padded = values.new_zeros(len(values), tokens, *values.shape[2:])
    kept = min(tokens, values.shape[1])
    padded[:, :kept] = values[:, :kept]
    return padded


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("shard-*.safetensors"))


def _keys(shard: Path) -> list[tuple[str, int]]:
    from safetensors import safe_open

    try:
        with safe_open(shard, "pt") as file:
            return [(p, int(s)) for p, s in json.loads(file.metadata()["items"])]
    except Exception as error:  # safetensors' own class
        raise ModelError(f"{shard} is corrupt ({error}); delete it and collect again") from error


def _write_shard(path: Path, tensors: dict, prompts: list[str], seeds: list[int]) -> None:
    from safetensors.torch import save

    items = json.dumps(list(zip(prompts, seeds, strict=True)))
    write_together({path: save({k: v.contiguous() for k, v in tensors.items()}, metadata={"items": items})})


class _Settings(TypedDict):
    """What every data set says of itself."""

    denoiser: str
    steps: Annotated[int, Field(ge=1, le=1000)]
    settings: dict[str, Any]
    labels: list[str]
    blocks: NotRequired[list[str]]
    probe_steps: NotRequired[list[Annotated[int, Field(ge=1, le=1000)]]]
    scheduler: NotRequired[str]
    model: NotRequired[str]


def _settings_of(path: Path) -> dict[str, Any]:
    """How a data set was made; raises `ModelError` for a damaged file."""
    try:
        made = json.loads(path.read_text("utf-8"))
        checked(_Settings, made)
    except (ValueError, RecursionError) as error:  # of JSON and UTF-8, too
        raise ModelError(f"{path} is damaged ({printable(str(error), 200)}); collect into another folder") from error
    return made


def _check_settings(path: Path, made_with: dict[str, Any]) -> None:
    if not path.exists():
        write_together({path: (json.dumps(made_with, indent=1, sort_keys=True) + "\n").encode()})
        return
    before = _settings_of(path)
    for key, value in made_with.items():
        if before.get(key) != json.loads(json.dumps(value)):
            raise InputError(
                f"{str(path.parent)!r} was collected with {key} {before.get(key)!r}, now it is {value!r}; "
                "choose another --out or the same settings"
            )
