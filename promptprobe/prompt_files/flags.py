"""What people write beside a prompt: A1111's options and infotext, Midjourney's flags.

Comes in: a text. Goes out: the prompt alone, the settings that this project knows by name, and all the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

# A1111's script "Prompts from file or textbox".
_OPTIONS = frozenset(
    [
        "sd_model", "outpath_samples", "outpath_grids", "prompt_for_display", "prompt", "negative_prompt", "styles", "seed",
        "subseed_strength", "subseed", "seed_resize_from_h", "seed_resize_from_w", "sampler_index", "sampler_name", "scheduler",
        "batch_size", "n_iter", "steps", "cfg_scale", "width", "height", "restore_faces", "tiling", "do_not_save_samples",
        "do_not_save_grid",
    ]
)  # fmt: skip
_SETTINGS = {
    "negative_prompt": "negative", "negative": "negative", "no": "negative", "seed": "seed", "steps": "steps", "cfg_scale":
    "guidance", "cfg scale": "guidance", "width": "width", "height": "height", "ar": "aspect", "aspect": "aspect", "sampler_name":
    "sampler", "sampler": "sampler",
}  # fmt: skip
_NUMBERS = ("seed", "steps", "guidance", "width", "height")
# Midjourney's parameters, those without a value apart.
_VALUED = (
    "ar", "aspect", "v", "version", "niji", "q", "quality", "s", "stylize", "style", "c", "chaos", "w", "weird", "seed",
    "sameseed", "iw", "stop", "r", "repeat", "cref", "cw", "sref", "sw", "sv", "p", "profile", "personalize", "oref", "ow",
    "exp", "motion", "bs",
)  # fmt: skip
_BARE = (
    "tile", "fast", "relax", "turbo", "stealth", "public", "raw", "draft", "hd", "video", "loop", "test", "testp", "creative",
    "uplight", "upbeta", "upanime",
)  # fmt: skip
_OPTIONAL = ("niji", "p", "profile", "personalize", "video")  # a value may follow
_OPTION = re.compile(
    r"""--([A-Za-z_]+)(?:[ \t=]+("(?:[^"\\]|\\.)*"(?=\s|$)|'(?:[^'\\]|\\.)*'(?=\s|$)|(?:(?!\s--[A-Za-z_])[^\n])*))?"""
)
_FLAG = re.compile(
    r"(?:(?<=\s)|^)(?:--|—)(" + "|".join(sorted([*_VALUED, *_BARE, "no"], key=len, reverse=True)) + r")(?=\s|$)"
)
_ANY_FLAG = re.compile(r"(?:--|—)[A-Za-z]\w*$")
_INFO_LINE = re.compile(r"\s*Steps: \d+,.*\b(?:Sampler|Seed|CFG scale|Size|Model)\b")
_INFO_PART = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^,])+')


@dataclass
class Parts:
    """A text taken apart. `others` are flags that mean nothing here, by name."""

    prompt: str | None
    settings: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)


def is_options(line: str) -> bool:
    """Whether a line is one of A1111's: it begins with an option."""
    match = re.match(r"\s*--([A-Za-z_]+)(?=[\s=]|$)", line)
    return bool(match and match[1] in _OPTIONS)


def read_options(line: str) -> Parts:
    """`--prompt "a cat" --negative_prompt fog --seed 12`; `prompt` is None where the line has none."""
    parts = Parts(None)
    for match in _OPTION.finditer(line):
        name, value = match[1], (match[2] or "").strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        elif value[:1] in ('"', "'"):  # never closed
            value = value[1:]
        if name == "prompt":
            parts.prompt = value
        else:
            _put(parts, name, value)
    return parts


def is_info_line(line: str) -> bool:
    """Whether a line is the last of an infotext: Steps: 20, Sampler: ..., Seed: ..."""
    return len(line) < 100_000 and _INFO_LINE.match(line) is not None


def read_infotext(text: str) -> Parts:
    """A1111's "parameters": the prompt, `Negative prompt:`, and a line of settings."""
    prompt: list[str] = []
    negative: list[str] = []
    parts = Parts(None)
    into = prompt
    for line in text.split("\n"):
        if is_info_line(line):
            for part in _INFO_PART.findall(line):
                name, _, value = (x.strip() for x in part.partition(":"))
                value = value.strip('"')
                if name == "Size" and re.fullmatch(r"\d{1,5}x\d{1,5}", value):
                    parts.settings["width"], parts.settings["height"] = map(int, value.split("x"))
                else:
                    _put(parts, name, value)
        elif line.startswith(("Template:", "Negative Template:")):
            parts.others[line.partition(":")[0]] = line.partition(":")[2].strip()
        elif line.startswith("Negative prompt:"):
            into = negative
            into.append(line.removeprefix("Negative prompt:"))
        else:
            into.append(line)
    parts.prompt = " ".join(prompt)
    if any(n.strip() for n in negative):
        parts.settings["negative"] = " ".join(" ".join(negative).split())
    return parts


# "hot::2 dog::1" weighs its parts; "{2::a|b}" is a template's, "std::vector" nobody's
_WEIGHT = re.compile(r"(?<=[^\s:])::(-?(?:\d{1,9}(?:\.\d{1,9})?|\.\d{1,9}))?\s*(?=[\s,;]|\.(?!\d)|$)")
_TEMPLATE = re.compile(r"[{|]\s*[+-]?[\d.]+\s*$")
# "/imagine prompt: https://a.b/c.png a cat": the command, and pictures given before the words
_COMMAND = re.compile(r"\s*(?:/imagine\b\s*(?:prompt\b\s*:?)?\s*)?(?P<images>(?:https?://\S+\s+)*)")


def read_flags(text: str) -> Parts:
    """Midjourney's flags, `a cat --ar 16:9 --v 6 --no fog`; the prompt is the text without them."""
    command = _COMMAND.match(text)
    images = (command["images"] or "").split() if command else []
    text = text[command.end() :] if command else text
    others = {"image": " ".join(images)} if images else {}
    text, weights = _without_weights(text)
    if weights:
        others["::"] = " ".join(weights)
    first = _FLAG.search(text) if "--" in text or "—" in text else None
    if not first:
        return Parts(text, others=others)
    parts = Parts(None, others=others)
    kept = [text[: first.start()]]
    words = text[first.start() :].split()
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if not _ANY_FLAG.match(word):
            kept.append(word)
            continue
        name = word.lstrip("-—")
        values: list[str] = []
        if name == "no":
            while place < len(words) and not _ANY_FLAG.match(words[place]):
                values.append(words[place])
                place += 1
        elif name not in _BARE and place < len(words) and not _ANY_FLAG.match(words[place]):
            optional = name in _OPTIONAL or name not in _VALUED
            if not optional or re.match(r"\d", words[place]):
                values.append(words[place])
                place += 1
            while name in ("cref", "sref", "oref") and place < len(words) and re.match(r"https?:|\d", words[place]):
                values.append(words[place])
                place += 1
        _put(parts, name, " ".join(values))
    parts.prompt = " ".join(kept)
    return parts


def _without_weights(text: str) -> tuple[str, list[str]]:
    """A text whose weighted parts are separated by commas, and their weights."""
    kept: list[str] = []
    weights: list[str] = []
    place = 0
    for match in _WEIGHT.finditer(text) if "::" in text else ():
        if _TEMPLATE.search(text, max(0, match.start() - 30), match.start()):
            continue
        last = not text[match.end() :].strip(" ,.;")
        kept.append(text[place : match.start()] + ("" if last or text[match.end()] in ",.;" else ", "))
        weights.append(match[1] or "1")
        place = match.end()
    return "".join([*kept, text[place:]]), weights


def _put(parts: Parts, name: str, value: str) -> None:
    known = _SETTINGS.get(name.lower())
    if known is None:
        parts.others[name] = value
    elif known in _NUMBERS:
        number = _number(value)
        if number is None:
            parts.others[name] = value
        else:
            parts.settings[known] = number
    elif value:
        parts.settings[known] = value


def _number(value: str) -> int | float | None:
    if re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    return float(value) if re.fullmatch(r"-?\d{0,9}\.\d{1,9}", value) else None
