"""A prompt in the terminal, with bars for its words: how strongly and how compactly the image looks at each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from .events import diffuse_words

DIFFUSE = "hardly looked at; what they name is likelier to be missing"
_BARS = " ▁▂▃▄▅▆▇█"


def unsure_note(candidate: dict[str, Any]) -> str:
    """What nobody could decide about a candidate's meaning, behind its wording; empty where nothing is unsure."""
    unsure = candidate.get("unsure")
    return f"   [unsure: {', '.join(unsure)}]" if unsure else ""


def bars_below(prompt: str, words: Sequence[dict[str, Any]], width: int) -> list[tuple[Text, Text]]:
    """Lines of the prompt and, under each word, a bar as long as the word and as high as its attention.

    Bars are relative to the strongest word; diffuse words are red.
    """
    top = max((w["strength"] for w in words), default=0) or 1
    text, bars = Text(prompt), Text(" " * len(prompt))
    for w in words:
        level = _BARS[max(1, min(8, round(8 * w["strength"] / top)))]
        style = "red" if w["diffuse"] else "cyan"
        bars = bars[: w["start"]] + Text(level * (w["end"] - w["start"]), style=style) + bars[w["end"] :]
        if w["diffuse"]:
            text.stylize("red underline", w["start"], w["end"])
    lines = []
    start = 0
    while start < len(prompt):
        end = min(len(prompt), start + width)
        if end < len(prompt) and " " in prompt[start + 1 : end]:
            end = prompt.rindex(" ", start + 1, end) + 1
        lines.append((text[start:end], bars[start:end]))
        start = end
    return lines


def focus_text(prompt: str, words: Sequence[dict[str, Any]]) -> Text:
    """The prompt with a bar behind each word for its focus; diffuse words in red."""
    text = Text()
    at = 0
    top = max((w["focus"] for w in words), default=0) or 1
    for w in words:
        text.append(prompt[at : w["start"]])
        text.append(prompt[w["start"] : w["end"]], style="red underline" if w["diffuse"] else "")
        text.append(_BARS[min(8, round(8 * w["focus"] / top))], style="red" if w["diffuse"] else "cyan")
        at = w["end"]
    text.append(prompt[at:])
    return text


def diffuse_line(words: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """A line about those of a prompt's words that the image hardly looks at, where there are any."""
    weak = diffuse_words(words)
    return [("diffuse words", f"{', '.join(weak)}: {DIFFUSE}")] if weak else []
