"""What a run tells while it works: the kinds of callback, one of each, and events in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

OnStep = Callable[[int], None]  # a denoising step that was finished, counted from 1
OnProgress = Callable[[int, int], None]  # done, of how many
OnEvent = Callable[[str, dict[str, Any]], None]  # what happens, and its values


def what_goes_on(event: str, values: dict[str, Any]) -> str | None:
    """An event of the loop in words for people; None for one that is no new piece of work."""
    if event == "probing":
        return f"round {values['round']}: probing {len(values['prompts'])} prompts"
    if event == "rewriting":
        return f"round {values['round']}: rewriting"
    if event == "searching":
        return f"looking for the best of {values['seeds']} seeds"
    if event == "waiting":
        return waiting_in_words(values)
    return "generating the best" if event == "generating" else None


def tau_text(tau: float | None) -> str:
    """A threshold for people."""
    return "no τ, wordings are compared" if tau is None else f"τ {tau:.3f}"


def diffuse_words(words: Sequence[Mapping[str, Any]]) -> list[str]:
    """Those of a prompt's words that the image hardly looks at, each once."""
    return list(dict.fromkeys(w["word"] for w in words if w["diffuse"]))


def spent_in_words(spent: Mapping[str, Any]) -> str:
    """What an LLM took: requests, tokens in and out, and the cost where prices are known."""
    cost = "" if spent.get("cost") is None else f", cost {spent['cost']:g}"
    return f"{spent['requests']} requests, {spent['input_tokens']} + {spent['output_tokens']} tokens{cost}"


def waiting_in_words(values: Mapping[str, Any]) -> str:
    """What is waited for, for how long, and what the LLM took so far."""
    told = f"{values['what']}, {values['seconds']:.0f} s"
    tokens = values["input_tokens"] + values["output_tokens"]
    cost = "" if values.get("cost") is None else f", cost {values['cost']:.4g}"
    return f"{told} ({values['requests']} requests, {tokens} tokens so far{cost})" if values["requests"] else told
