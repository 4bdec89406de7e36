"""The built-in worlds, a row each: where pipeline and probe lie, what measures the images, what can be drawn.

Comes in: the name of a model, or a folder. Goes out: its `World`, or None for any other diffusers model. Everything that
differs between a built-in world and other models stands in its row; nothing else asks which world it is.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from . import icons
from .errors import InputError
from .icons import words as icon_words
from .phrases import Thesaurus, is_boundary, read_prompt, words_of
from .words import NUMBERS

CALL_FILE = "promptprobe.json"
MAX_CALL = 10_000  # characters of it that are read
RENAMED = (0, 2)  # the version in which the default world became another
SETTLED = 0.4  # of other models than the built-in worlds


@dataclass(frozen=True)
class Vocabulary:
    """What a world can draw: each name with the other words for it. `plurals` has every object word's plural."""

    objects: Mapping[str, tuple[str, ...]]
    colours: Mapping[str, tuple[str, ...]]
    backgrounds: Mapping[str, tuple[str, ...]]
    counts: Mapping[int, tuple[str, ...]]
    relations: Mapping[str, tuple[str, ...]]
    plurals: Mapping[str, str]

    @cached_property
    def thesaurus(self) -> Thesaurus:
        """The same as a thesaurus for `read_prompt`."""
        nouns = _names_of(self.objects)
        nouns |= {self.plurals[word]: name for word, name in nouns.items()}
        return Thesaurus(nouns, _names_of(self.colours) | _names_of(self.backgrounds), self.plurals)


@dataclass(frozen=True)
class World:
    """A built-in world. `settings` are passed to the pipeline's call unless others are given. The weights are loaded as `dtype`, whatever they are stored as. `vae` draws
    in place of the pipeline's own, `tiny` draws previews. Before version 0.2.0 the world was `known_as` another name."""

    name: str
    pipeline: Path
    probe: Path | None
    reward: str
    size: int  # pixels of a side
    vocabulary: Vocabulary | None = None
    rewards: tuple[str, ...] = ()  # all that were made for it, `reward` first
    aliases: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    settled: float = 0.2  # share of the run after which a predicted image tells which wording will do best
    dtype: str = "float32"
    vae: Path | None = None
    tiny: Path | None = None
    known_as: str | None = None

    @property
    def thesaurus(self) -> Thesaurus | None:
        """What the offline rewriter needs to serve this world."""
        return self.vocabulary.thesaurus if self.vocabulary else None


def world_of(model: str | Path) -> World | None:
    """The world of a model's name, or of the folder that its pipeline is shipped in; a copy of the folder is none."""
    for world in WORLDS:
        if str(model) in (world.name, *world.aliases) or _same_folder(model, world.pipeline):
            return world
    return None


def is_built_in(name: Any) -> bool:
    """Whether a name is a built-in world's, and no path or hub name."""
    return any(name in (world.name, *world.aliases) for world in WORLDS)


def call_of(folder: str | Path) -> dict[str, Any]:
    """What a pipeline folder wants its call to be given unless told otherwise: `call` in its file `promptprobe.json`.

    Plain values only; empty without the file. Raises `InputError` for a file that is something else.
    """
    path = Path(folder) / CALL_FILE
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8") as file:
            call = json.loads(file.read(MAX_CALL))["call"]
        if not all(isinstance(v, (bool, int, float, str)) for v in call.values()):
            raise TypeError("a value is neither a number nor a text")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f'{path} can\'t be read ({error}); it holds {{"call": {{"height": 512}}}}, or take it away'
        ) from error
    return call


def guidance_of(call: Mapping[str, Any]) -> str:
    """The setting that a guidance asked for goes to."""
    return "true_cfg_scale" if "true_cfg_scale" in call else "guidance_scale"


def name_since(model: str, version: str) -> str:
    """Today's name of the model that a record of `version` ("" before records had one) calls `model`: the default world was
    another one before 0.2.0."""
    if _numbers(version) >= RENAMED:
        return model
    return next((w.name for w in WORLDS if w.known_as == model), model)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def named_before(settings: Mapping[str, Any]) -> str | None:
    """Today's name of the world that a batch of before 0.2.0 was made with, by its settings; else None."""
    known, now = name_since(str(settings.get("model")), ""), world_of(str(settings.get("model")))
    return known if now is not None and known != now.name and guidance_of(now.settings) not in settings else None


def settled_share(model: str | Path | None) -> float:
    """The share of a run after which predicted images tell wordings apart: a built-in world's own; of other models two
    fifths, where ImageReward ranks the previews of FLUX.1-dev at 0.68 within a prompt (TTSnap, arXiv:2511.22242)."""
    world = world_of(model) if model else None
    return world.settled if world else SETTLED


def thesaurus_of(model: str | Path) -> Thesaurus | None:
    """The thesaurus of a model's world, or None."""
    world = world_of(model)
    return world.thesaurus if world else None


def unknown_words(prompt: str, world: World) -> list[str]:
    """The content words of a prompt that name nothing `world` can draw, as typed, in their order, each once.

    An object, a colour of an object or of the background, or a number; what can be drawn is never in it. A world
    without a vocabulary may draw anything.
    """
    known = world.vocabulary
    if known is None:
        return []
    reading = read_prompt(prompt, known.thesaurus)
    colours: set[str | None] = {c for phrase in reading.phrases for c in phrase.colours if c not in known.colours}
    colours |= {reading.background} - {*known.backgrounds, None}
    things = {phrase.head for phrase in reading.phrases}
    unknown = [w for w in words_of(prompt) if _is_unknown(w, known, colours, things)]
    return [_as_typed(w, prompt) for w in dict.fromkeys(unknown)]


def what_it_draws(model: str | Path | None) -> str | None:
    """What a built-in world can draw, in words; None for a model that may draw anything."""
    world = world_of(model) if model else None
    if world is None or world.vocabulary is None:
        return None
    known = world.vocabulary
    return (
        f"the built-in world {world.name!r} draws only {', '.join(known.objects)}, {min(known.counts)} to {max(known.counts)} "
        f"of each, in {', '.join(known.colours)}, on {', '.join(known.backgrounds)}"
    )


def note_on(prompt: str, model: str | Path | None) -> str | None:
    """What a person should know of a prompt before trusting its picture: the words that the model can't draw, if any."""
    world = world_of(model) if model else None
    unknown = unknown_words(prompt, world) if world else []
    if not unknown:
        return None
    return f"{what_it_draws(model)}; unknown here: {', '.join(unknown)}; for anything else give a model of your own (--model)"


def knows_nothing(prompt: str, model: str | Path | None) -> bool:
    """True when a built-in world can draw none of the things that a prompt names."""
    world = world_of(model) if model else None
    if world is None or world.vocabulary is None or not unknown_words(prompt, world):
        return False
    known = world.vocabulary
    return not any(p.head in known.objects for p in read_prompt(prompt, known.thesaurus).phrases)


def _is_unknown(word: str, known: Vocabulary, colours: set[str | None], things: set[str]) -> bool:
    """True for a word that can't be drawn; `colours` are those that can't be where the prompt has them, `things` the
    names of what is to be seen (a lemon is a colour or a thing)."""
    if word.startswith("@") or word in ("a", "an", "background", "backdrop"):
        return False
    if word in NUMBERS or word.isdigit():
        return (NUMBERS.get(word) or int(word[:6])) not in known.counts
    if known.thesaurus.noun(word) in known.objects:
        return False
    if word in known.thesaurus.colours:
        return known.thesaurus.colours[word] in colours or word in things
    return not is_boundary(word, known.thesaurus)


def _as_typed(word: str, prompt: str) -> str:
    found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", prompt, re.IGNORECASE)
    return found.group() if found else word


def _names_of(table: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {word: name for name, others in table.items() for word in (name, *others)}


def _same_folder(model: str | Path, folder: Path) -> bool:
    return Path(model).name == folder.name and os.path.realpath(model) == os.path.realpath(folder)


def _merged(table: Mapping[Any, tuple[tuple[str, ...], ...]]) -> dict[Any, tuple[str, ...]]:
    """Groups of words for each name, put together."""
    return {name: tuple(word for group in groups for word in group) for name, groups in table.items()}


_ICON_OBJECTS = _merged(icon_words.OBJECT_WORDS)
_ICON_VOCABULARY = Vocabulary(
    objects=_ICON_OBJECTS, colours=_merged(icon_words.COLOUR_WORDS), backgrounds=_merged(icon_words.BACKGROUND_WORDS),
    counts=_merged(icon_words.COUNT_WORDS), relations=_merged(icon_words.RELATION_WORDS),
    plurals={word: icon_words.plural(word) for word in _names_of(_ICON_OBJECTS)},
)  # fmt: skip

_REWARDS = ("icons", "icons-aesthetic")
_UNET_SETTINGS = {"guidance_scale": icons.UNET_GUIDANCE}

WORLDS = (
    World(
        name=icons.NAME, pipeline=icons.PIPELINE, probe=icons.PROBE, reward="icons", size=256, vocabulary=_ICON_VOCABULARY,
        rewards=_REWARDS, aliases=("icons-flux",), settings=call_of(icons.PIPELINE), settled=SETTLED, tiny=icons.SMALL_VAE,
    ),
    World(
        name="icons-unet", pipeline=icons.UNET_PIPELINE, probe=icons.UNET_PROBE, reward="icons", size=256,
        vocabulary=_ICON_VOCABULARY, rewards=_REWARDS, settings={**_UNET_SETTINGS, "height": 256, "width": 256},
        vae=icons.LARGE_VAE, tiny=icons.SMALL_VAE,
    ),
    World(
        name="icons-64", pipeline=icons.UNET_PIPELINE, probe=icons.UNET_PROBE, reward="icons", size=64,
        vocabulary=_ICON_VOCABULARY, rewards=_REWARDS, settings=_UNET_SETTINGS, known_as=icons.NAME,
    ),
)  # fmt: skip
DEFAULT = icons.NAME
