"""A second reader: one cheap LLM request a round that checks all rewrites fact by fact.

Comes in: the facts of a prompt and its rewrites. Goes out: the chat messages, and what the answer says as verdicts. What
code is sure of overrules the LLM (`settle`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from ..facts import Facts
from ..facts_compare import Verdict
from ..facts_match import KEPT, LOST, UNSURE

LONGEST_ANSWER = 100_000
_LONGEST_REASON = 120
_MOST_FACTS = 60
FACT_CHECK_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "checks": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "rewrite": {"type": "integer"},
                    "lost": {"type": "array", "items": {"type": "integer"}},
                    "unsure": {"type": "array", "items": {"type": "integer"}},
                    "added": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["rewrite", "lost", "unsure", "added"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["checks"],
    "additionalProperties": False,
}


def fact_check_request(facts: Facts, rewrites: Sequence[str], direction: str = "") -> list[dict[str, str]]:
    """The chat messages that ask about all `rewrites` at once; facts and rewrites are numbered from 1. `direction` is what
    the person wished, in words."""
    told: dict[str, Any] = {
        "prompt": facts.prompt,
        "facts": [{"n": n, "fact": text} for n, text in enumerate(facts.texts()[:_MOST_FACTS], 1)],
        "rewrites": [{"n": n, "text": text} for n, text in enumerate(rewrites, 1)],
    }
    if direction:
        told["direction"] = direction
    system = (files("promptprobe.prompts") / "guard.txt").read_text(encoding="utf-8")
    return [{"role": "system", "content": system}, {"role": "user", "content": json.dumps(told, ensure_ascii=False)}]


def read_fact_check(text: str, facts: Facts, rewrites: int) -> list[Verdict | None]:
    """One verdict for each of `rewrites` rewrites, None where the answer says nothing usable. Never raises."""
    entries = _entries(text)
    found: list[Verdict | None] = [None] * rewrites
    for place, entry in enumerate(entries[: 4 * rewrites], 1):
        number = _number(entry.get("rewrite", entry.get("n", entry.get("number", place))))
        if number is None or not 1 <= number <= rewrites or found[number - 1] is not None:
            continue
        verdict = _verdict(entry, facts)
        if verdict is not None:
            found[number - 1] = verdict
    return found


def settle(code: Verdict, llm: Verdict | None) -> Verdict:
    """The verdict of both readers. A sure loss stays one; where code is unsure the LLM decides; against "kept" it raises doubt."""
    if llm is None or code.verdict == LOST:
        return code
    if code.verdict == UNSURE:
        return (
            llm if llm.verdict != UNSURE else Verdict(UNSURE, unsure=tuple(dict.fromkeys([*code.unsure, *llm.unsure])))
        )
    return Verdict(UNSURE, unsure=llm.reasons) if llm.verdict == LOST else code


def _verdict(entry: dict[str, Any], facts: Facts) -> Verdict | None:
    lost = _named(_first(entry, "lost", "missing", "changed", "violated"), facts)
    unsure = _named(_first(entry, "unsure", "unclear"), facts)
    added = [f"added {a}" for a in _strings(entry.get("added"))]
    said = entry.get("verdict", entry.get("ok", entry.get("kept")))
    known = any(
        isinstance(_first(entry, *keys), list) for keys in (("lost", "missing"), ("unsure", "unclear"), ("added",))
    )
    if not known and said is None:
        return None
    if said is False or (isinstance(said, str) and said.strip().lower() == LOST and not lost and not added):
        lost = lost or ["the LLM finds it changed"]
    lost = [*lost, *added]
    return Verdict(LOST if lost else UNSURE if unsure else KEPT, tuple(lost), tuple(unsure))


def _first(entry: dict[str, Any], *keys: str) -> Any:
    return next((entry[key] for key in keys if key in entry), None)


def _named(values: Any, facts: Facts) -> list[str]:
    """Facts by their numbers, or as the LLM words them."""
    texts = facts.texts()
    named = []
    for value in values[:_MOST_FACTS] if isinstance(values, list) else []:
        if isinstance(value, dict):
            value = value.get("n", value.get("fact"))
        number = _number(value)
        if number is not None:
            named += [texts[number - 1]] if 1 <= number <= len(texts) else []
        elif isinstance(value, str) and value.strip():
            named.append(" ".join(value.split())[:_LONGEST_REASON])
    return list(dict.fromkeys(named))


def _strings(values: Any) -> list[str]:
    values = [values] if isinstance(values, str) else values if isinstance(values, list) else []
    words = [" ".join(v.split())[:_LONGEST_REASON] for v in values[:20] if isinstance(v, str)]
    return [w for w in words if w and w.lower() not in ("none", "nothing", "n/a", "-")]


def _number(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and (match := re.fullmatch(r"\D{0,12}(\d{1,4})\W*", value, re.ASCII)):
        return int(match.group(1))
    return None


def _entries(text: str) -> list[dict[str, Any]]:
    """The entries of an answer: of its JSON, wherever that stands, else of lines such as "1: lost 2, 3"."""
    text = text[:LONGEST_ANSWER]
    for mark in ("</think>", "</thinking>"):
        text = text.rpartition(mark)[2]
    starts = [m.start() for m in re.finditer(r"[{\[]", text)]
    decoder = json.JSONDecoder()
    for start in [*starts[:20], *starts[-4:]]:
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        entries = _listed(value)
        if entries:
            return entries
    return [
        _line(m)
        for m in re.finditer(
            r"(?im)^\W{0,8}(?:rewrite\s{0,3})?(\d{1,3})\W{1,6}(kept|ok|fine|unsure|lost)\b(.{0,200})", text
        )
    ]


def _listed(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    if isinstance(value, dict):
        inner = next(
            (
                v
                for k, v in value.items()
                if k in ("checks", "results", "rewrites", "verdicts", "answers") and isinstance(v, list)
            ),
            None,
        )
        value = inner if inner is not None else [value] if {"lost", "added", "verdict"} & set(value) else []
    return [e for e in value if isinstance(e, dict)] if isinstance(value, list) else []


def _line(match: re.Match[str]) -> dict[str, Any]:
    word = match.group(2).lower()
    numbers = [int(n) for n in re.findall(r"\b\d{1,3}\b", match.group(3))]
    return {
        "rewrite": int(match.group(1)),
        "lost": numbers if word == LOST else [],
        "unsure": numbers if word == UNSURE else [],
        "verdict": word if word in (LOST, UNSURE) else KEPT,
    }
