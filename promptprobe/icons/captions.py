"""Captions for scenes in four styles, from the plain words that the icon pipeline was raised on to what users type.

Comes in: a `Scene`. Goes out: text. `plain` is what the denoiser mostly saw; `synonym`, `wordy` and `awkward` are how
people write. Words marked *unseen* never occur in the denoiser's training, only in the reward model's, which reads
all styles alike: so the wording matters to the image but not to the judge, as with real models.
"""

from __future__ import annotations

import numpy as np

from .scenes import Group, Scene
from .words import BACKGROUND_WORDS, COLOUR_WORDS, COUNT_WORDS, OBJECT_WORDS, RELATION_WORDS, plural

STYLES = ("plain", "synonym", "wordy", "awkward")

OPENINGS = (
    "a picture of", "an image showing", "please draw", "i would like to see", "a lovely little illustration of",
    "could you make me a nice picture with", "a beautiful minimalist poster with", "imagine a calm scene with",
)  # fmt: skip
CLOSINGS = (
    "in a flat style", "very detailed", "simple and clean", "masterpiece, best quality", "nothing else in the frame",
    "trending on artstation", "with crisp edges", "4k wallpaper",
)  # fmt: skip


def _pick(words: tuple, rng: np.random.Generator) -> str:
    return str(words[rng.integers(len(words))])


def _word(canonical: str, table: dict, rng: np.random.Generator, odd: float, unseen: bool) -> str:
    """The canonical word, or with probability `odd` a synonym (one never met in half of the cases, if `unseen`)."""
    if rng.random() >= odd:
        return canonical
    met, never = table[canonical]
    return _pick(never if unseen and rng.random() < 0.5 else met, rng)


def _phrase(options: tuple, rng: np.random.Generator, odd: float, unseen: bool) -> str:
    plain, met, never = options
    if rng.random() >= odd:
        return _pick(plain, rng)
    return _pick(never if unseen and rng.random() < 0.5 else met, rng)


def noun_phrase(group: Group, rng: np.random.Generator, odd: float, unseen: bool) -> str:
    """Such as "two red cars" or "a pair of crimson automobiles"."""
    count = _phrase(COUNT_WORDS[group.count], rng, odd, unseen)
    colour = _word(group.colour, COLOUR_WORDS, rng, odd, unseen)
    noun = _word(group.object, OBJECT_WORDS, rng, odd, unseen)
    if count == "a" and colour[0] in "aeiou":
        count = "an"
    return f"{count} {colour} {noun if group.count == 1 else plural(noun)}"


def caption(scene: Scene, style: str, rng: np.random.Generator, unseen: bool = True, background: bool = True) -> str:
    """Describe `scene` in a style of `STYLES`; `unseen=False` keeps to words that the denoiser was trained on.

    With `background=False` the background is left open.
    """
    odd = {"plain": 0.0, "synonym": 0.6, "wordy": 0.3, "awkward": 0.3}[style]
    behind = _word(scene.background, BACKGROUND_WORDS, rng, odd, unseen) if background and scene.background else None
    if style == "awkward":
        return _awkward(scene, behind, rng, odd, unseen)
    parts = [noun_phrase(g, rng, odd, unseen) for g in scene.groups]
    if scene.relation:
        text = f"{parts[0]} {_phrase(RELATION_WORDS[scene.relation], rng, odd, unseen)} {parts[1]}"
    else:
        text = " and ".join(parts)
    if behind:
        article = "an" if behind[0] in "aeiou" else "a"
        word = "backdrop" if odd and rng.random() < 0.3 else "background"
        text += f" on {article} {behind} {word}"
    if style == "wordy":
        if rng.random() < 0.8:
            text = f"{_pick(OPENINGS, rng)} {text}"
        if rng.random() < 0.6:
            text = f"{text}, {_pick(CLOSINGS, rng)}"
    return text


def _awkward(scene: Scene, behind: str | None, rng: np.random.Generator, odd: float, unseen: bool) -> str:
    """The words in an order that nobody would choose: background first, counts and colours after their nouns."""
    parts = []
    for g in scene.groups:
        colour = _word(g.colour, COLOUR_WORDS, rng, odd, unseen)
        noun = _word(g.object, OBJECT_WORDS, rng, odd, unseen)
        number = ("one", "two", "three")[g.count - 1]
        noun = noun if g.count == 1 else plural(noun)
        parts.append(
            _pick(
                (
                    f"{noun}, {colour}, {number} of them",
                    f"{colour} {noun} ({g.count})",
                    f"{noun} in {colour}, {number}",
                ),
                rng,
            )
        )
    if scene.relation:
        text = f"{parts[0]}; {_phrase(RELATION_WORDS[scene.relation], rng, odd, unseen)}: {parts[1]}"
    else:
        text = "; ".join(parts)
    if behind:
        text = f"background {behind}. {text}" if rng.random() < 0.7 else f"{text}. background: {behind}"
    return text


def training_caption(scene: Scene, rng: np.random.Generator) -> str:
    """A caption as the denoiser's training has them: mostly plain, rarely otherwise, never an unseen word."""
    style = STYLES[int(rng.choice(4, p=(0.9, 0.05, 0.03, 0.02)))]
    return caption(scene, style, rng, unseen=False, background=rng.random() < 0.8)


def any_caption(scene: Scene, rng: np.random.Generator) -> str:
    """A caption as the reward model's training has them: all styles and all words alike."""
    return caption(scene, STYLES[rng.integers(4)], rng, background=rng.random() < 0.8)


def user_prompt(scene: Scene, rng: np.random.Generator) -> str:
    """A prompt as a user may type it: a synonym, wordy or awkward caption with words of every kind."""
    return caption(scene, STYLES[1 + rng.integers(3)], rng, background=rng.random() < 0.8)
