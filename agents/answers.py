"""What a language model said, read as data: thoughts taken out, nearly-JSON read, every character looked at.

Comes in: any text, however broken. Goes out: (strategy, prompt) pairs. Nothing here raises and nothing takes longer than
in proportion to the text, which is cut at `MAX_ANSWER_CHARACTERS` after the thoughts are gone.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from .loose_json import loose_values

MAX_ANSWER_CHARACTERS = 200_000
MAX_DEPTH = 8
STRICT_STARTS = 100  # places where strict JSON is looked for, before the tolerant reading takes over

Found = tuple[str, str]  # strategy and prompt

_TAGS = "think(?:ing)?|thoughts?|reasoning|reflection|scratchpad|analysis|draft|plan|inner_monologue|seed:think|details"
_MARK = re.compile(
    rf"(?P<open><(?:{_TAGS})(?:\s[^<>]{{0,80}})?>|\[think\]|◁think▷|<\|begin_of_thought\|>|<\|start_thinking\|>"
    r"|<\|channel>\s?thought|<unused94>thought)"
    rf"|(?P<close></(?:{_TAGS})>|\[/think\]|◁/think▷|<\|end_of_thought\|>|<\|end_thinking\|>|<channel\|>|<unused95>)",
    re.I,
)
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s{0,3}final[^<]{0,80}(?:<\|constrain\|>[^<]{0,20})?<\|message\|>")


def without_thoughts(text: str) -> str:
    """The answer in a text: what stands outside tags and channels of thinking, perhaps nothing.

    A closing tag without an opening one ends thoughts that began with the text; an opening one without an end leaves
    only what stands before it. A text that is JSON as a whole is left as it is.
    """
    if _loads(_unfenced(text)) is not None:
        return text
    if "<|channel|>" in text:
        ends = [m.end() for m in _FINAL_CHANNEL.finditer(text)]
        if not ends:
            return ""
        text = re.split(r"<\|(?:return|end|start|channel|call)\|>", text[ends[-1] :], maxsplit=1)[0]
    elif text.lstrip().startswith("analysis") and "assistantfinal" in text:
        text = text.rpartition("assistantfinal")[2]
    kept: list[str] = []
    depth = at = 0
    for mark in _MARK.finditer(text):
        if depth == 0:
            kept.append(text[at : mark.start()])
        if mark.group("open"):
            depth += 1
        elif depth:
            depth = 0  # models open twice and close once more often than they nest
        else:
            kept.clear()
        at = mark.end()
    if depth == 0:
        kept.append(text[at:])
    return re.sub(r"<\|[\w ]{1,40}\|>", " ", "".join(kept)).strip()


def whole_answer(thoughts: str) -> str:
    """The answer in a field of thoughts: all of it when it is one JSON value, what follows a closing tag, else nothing."""
    if isinstance(_loads(_unfenced(thoughts)), (dict, list)):
        return thoughts
    marks = list(_MARK.finditer(thoughts))
    return thoughts[marks[-1].end() :].strip() if marks and marks[-1].group("close") else ""


def read_answer(text: str, depth: int = 0) -> list[Found]:
    """Strategy and prompt of every rewrite in an answer without thoughts; what is cut off in the middle is left out."""
    text = text[:MAX_ANSWER_CHARACTERS].strip()
    if depth > MAX_DEPTH or not text:
        return []
    whole = _loads(_unfenced(text))
    if whole is not None:
        return _items(whole, depth=depth)
    bare = re.sub(r"```\w*", "   ", text)
    found = _last_group(bare, _strict_values(bare), depth)
    loose = _last_group(bare, loose_values(bare), depth)
    if len(loose) > len(found):
        found = loose
    if not found and '\\"' in text and depth == 0:
        found = read_answer(text.replace('\\"', '"'), depth + 1)
    return found or _lines(text)


def _last_group(text: str, values: Iterator[tuple[int, int, Any]], depth: int) -> list[Found]:
    """Rewrites of the last list in a text: what stands before it, with words between, was a draft. Loose ones count all."""
    groups: list[list[Found]] = []
    loose: list[Found] = []
    end = None
    for start, stop, value in values:
        items = _items(value, depth=depth)
        listed = isinstance(value, list) or (isinstance(value, dict) and not isinstance(_prompt_of(value), str))
        if not items:
            continue
        if not listed:
            loose += items
        elif groups and end is not None and not re.search(r"\w", text[end:start]):
            groups[-1] += items
        else:
            groups.append(list(items))
            loose = []
        end = stop
    return loose or (groups[-1] if groups else [])


def _strict_values(text: str) -> Iterator[tuple[int, int, Any]]:
    decoder = json.JSONDecoder()
    at = failed = 0
    for match in re.finditer(r"[{\[]", text):
        if match.start() < at or failed >= STRICT_STARTS:
            continue
        try:
            value, at = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            failed += 1
            continue
        yield match.start(), at, value


_PROMPTS = (
    "prompt", "rewrite", "rewritten_prompt", "rewritten", "new_prompt", "revised_prompt", "text", "caption", "description",
    "value", "content", "output", "result", "answer",
)  # fmt: skip
_LISTS = ("rewrites", "prompts", "candidates", "variations", "variants", "alternatives", "options", "results", "items")
_STRATEGIES = ("strategy", "name", "label", "title", "type", "method", "approach")
_OTHER = re.compile(
    r"original|negative|input|source|before|strateg|reason|expla|note|comment|thought|think|analys|word|count|reject|enum"
    r"|required|type|best|worst|schema|id$|score|user|draft|error",
    re.I,
)


def _prompt_of(value: dict) -> Any:
    keys = {str(k).strip().lower().replace(" ", "_").replace("-", "_"): k for k in value}
    for name in _PROMPTS:
        if name in keys and isinstance(value[keys[name]], str):
            return value[keys[name]]
    return None


def _items(value: Any, strategy: str = "", depth: int = 0) -> list[Found]:
    """Rewrites anywhere in a JSON value, whatever its keys are called."""
    if depth > MAX_DEPTH:
        return []
    if isinstance(value, str):
        inner = value.strip()
        json_like = inner[:1] in ("{", "[", '"', "`") and ("prompt" in inner or isinstance(_loads(inner), (dict, list)))
        if depth == 0 or json_like:
            found = read_answer(inner, depth + 1)
            return found or ([] if json_like or depth == 0 else [(strategy, value)])
        return [(strategy, value)]
    if isinstance(value, list):
        return [item for entry in value if entry is not None for item in _items(entry, strategy, depth + 1)]
    if not isinstance(value, dict):
        return []
    prompt = _prompt_of(value)
    if prompt is not None:
        named = [v for k, v in value.items() if str(k).strip().lower() in _STRATEGIES and isinstance(v, str)]
        return _items(prompt, named[0] if named else strategy, depth + 1)
    keys = {str(k).strip().lower(): k for k in value}
    listed = [keys[name] for name in _LISTS if name in keys]
    if listed:
        return _entries(value[listed[0]], depth)
    likely = [
        k for k in value if re.search(r"prompt|rewrit|variant|candidate", str(k), re.I) and not _OTHER.search(str(k))
    ]
    if likely:
        return [item for k in likely for item in _entries(value[k], depth)]
    return [
        item
        for k, v in value.items()
        if isinstance(v, (dict, list)) and not _OTHER.search(str(k))
        for item in _items(v, strategy, depth + 1)
    ]


def _entries(value: Any, depth: int) -> list[Found]:
    """What a list of rewrites holds, also when it is written as strategy: prompt."""
    if isinstance(value, dict) and _prompt_of(value) is None and any(isinstance(v, str) for v in value.values()):
        return [item for k, v in value.items() for item in _items(v, str(k), depth + 1)]
    return _items(value, depth=depth + 1)


def _lines(text: str) -> list[Found]:
    """Rewrites of an answer without JSON: `prompt: ...` lines, `<prompt>` tags or a numbered list."""
    rows = text.splitlines()
    keyed = [
        m.group(1) for r in rows if (m := re.match(r"\s{0,20}(?:[-*]\s)?[\"']?prompt[\"']?\s?[:=]\s?(\S.*)$", r, re.I))
    ]
    tagged = re.findall(r"<(?:prompt|rewrite)>([^<]{1,4000})</(?:prompt|rewrite)>", text, flags=re.I)
    if "{" in text and not keyed and not tagged:
        return []
    rows = (
        keyed or tagged or [m.group(1) for r in rows if (m := re.match(r"\s{0,20}(?:\d{1,2}[.)]|[-*•])\s+(\S.*)$", r))]
    )
    return [_labelled(r.strip().rstrip(",")) for r in rows]


def _labelled(line: str) -> Found:
    match = re.match(r"\*\*([^*]{1,40}?):?\*\*\s?[:\-–—]?\s*(\S.*)$", line)
    return (match.group(1), match.group(2)) if match else ("", line)


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _unfenced(text: str) -> str:
    text = text.strip()
    match = re.match(r"```\w*\s?", text)
    return text[match.end() :].removesuffix("```").strip() if match else text


_KEPT = frozenset("\u200b\u200c\u200d\u200e\u200f\u061c\u2060\u00ad")  # part of words, scripts and joined emoji
_DROPPED = frozenset("\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufffe\uffff")


def clean_text(text: str) -> str:
    """One line without control characters, halves of surrogate pairs and marks that turn the direction of a text.

    Joiners inside words and emoji stay, so do letters that are newer than this Python.
    """
    return " ".join(text.split()) if text.isascii() and text.isprintable() else _cleaned(text)


def _cleaned(text: str) -> str:
    out: list[str] = []
    for c in text:
        if c.isprintable() or c in _KEPT or 0xE0020 <= ord(c) <= 0xE007F:
            out.append(c)
        elif c not in _DROPPED and (kind := unicodedata.category(c)) != "Cs":
            out.append(c if kind in ("Cn", "Co") else "" if kind == "Cf" else " ")
    return " ".join("".join(out).split())


def unquoted(text: str) -> str:
    """Without quotation marks around the whole; quoted text inside stays."""
    pairs = {'"': '"', "'": "'", "“": "”", "`": "`"}
    inner = text[1:-1]
    return inner.strip() if len(text) > 1 and pairs.get(text[0]) == text[-1] and text[0] not in inner else text
