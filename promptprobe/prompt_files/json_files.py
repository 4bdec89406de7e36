"""Prompts of JSON: lines, lists, COCO captions, objects by name (DiffusionDB), lists by style (HPS), columns (pandas).

Comes in: text. Goes out: a `Found` for each line or item; a broken one stops no other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import InputError
from .decoding import split_lines
from .rows import MAX_LINE, Found, Notes, choose, id_of, no_column, plain_text

_LISTS = ("annotations", "prompts", "data", "rows", "items", "captions", "examples")
_DEEP = "nested too deeply; give a list of texts or of objects with a key prompt"
_RESTARTS = 20  # after broken objects or items
_NEXT = re.compile(r"[\s,]*")
_BEGIN = re.compile(r"\n[ \t]*(?=[{\"])")


def read_json_lines(text: str, column: str | None, notes: Notes) -> Iterator[Found]:
    """One value a line: a text, an object with a key for the prompt, a number. Objects over several lines are read too."""
    lines = split_lines(text)
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip("\ufeff \t")[:1] in ("{", "[") and _reason(first):
        value, reason = _loaded(text)
        if not reason:
            notes.say("read as one JSON value, although it is named like JSON lines")
            yield from _found(value, column, notes)
            return
        if first.strip() in ("{", "["):
            yield from _stream(lines, column, notes)
            return
    if first and first.strip() == text.strip():  # one value: a list, or objects by name
        value, reason = _loaded(text)
        if isinstance(value, list) or (
            isinstance(value, dict) and not isinstance(value.get(choose(value, column)), str)
        ):
            yield from _found(value, column, notes)
            return
    for number, line in enumerate(lines, 1):
        line = line.strip("\ufeff \t")
        if not line:
            continue
        if len(line) > MAX_LINE:
            notes.left_out(number, f"it has {len(line)} characters; at most {MAX_LINE} are read: split it")
            continue
        value, reason = _loaded(line)
        if reason:
            notes.left_out(number, reason)
        else:
            yield from _item(number, value, column, notes)


def read_json(text: str, column: str | None, notes: Notes) -> Iterator[Found]:
    """One JSON value. Raises `InputError` when it is broken or has no prompts; JSON lines under this name are read."""
    value, reason = _loaded(text)
    if not reason:
        yield from _found(value, column, notes)
        return
    filled = [line for line in split_lines(text) if line.strip()]
    if (
        len(filled) > 1
        and sum(not _reason(line) and line.strip() not in "[]{}" for line in filled[:20]) > len(filled[:20]) / 2
    ):
        notes.say("read as JSON lines, although it is named like one JSON value")
        yield from read_json_lines(text, column, notes)
        return
    items = _salvaged(text) if text.lstrip("\ufeff \t\r\n").startswith("[") else []
    if not any(not reason for _, reason in items):
        raise InputError(f"{notes.path!r}: {reason}")
    notes.unit = "item"
    for number, (item, why) in enumerate(items, 1):
        if why:
            notes.left_out(number, why)
        else:
            yield from _item(number, item, column, notes)


def is_json(text: str) -> bool:
    """Whether a text under another name is JSON: its first line, or all of it."""
    begin = text.lstrip("\ufeff \t\r\n")[:1]
    if begin not in ("{", "["):
        return False
    first = next(line for line in split_lines(text) if line.strip("\ufeff \t"))
    return isinstance(_loaded(first)[0], (dict, list)) or isinstance(_loaded(text)[0], (dict, list))


def _loaded(text: str) -> tuple[Any, str]:
    """A value, or None and why there is none."""
    try:
        return json.loads(text.lstrip("\ufeff"), strict=False), ""
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        return None, f"broken JSON ({error.msg}: {where}); correct it or leave it out"
    except RecursionError:
        return None, _DEEP
    except ValueError as error:  # a number of thousands of digits
        return None, f"broken JSON ({str(error)[:80]}); correct it or leave it out"


def _salvaged(text: str) -> list[tuple[Any, str]]:
    """The items of a broken list, each with the reason why it can't be read; goes on at the next line that begins one."""
    decoder = json.JSONDecoder(strict=False)
    items: list[tuple[Any, str]] = []
    place, broken = text.index("[") + 1, 0
    while (start := _NEXT.match(text, place).end()) < len(text) and text[start] != "]":  # type: ignore[union-attr]
        try:
            value, place = decoder.raw_decode(text, start)
            items.append((value, ""))
        except (ValueError, RecursionError) as error:
            broken += 1
            items.append(
                (None, _DEEP if isinstance(error, RecursionError) else "broken JSON; correct it or leave it out")
            )
            line = _BEGIN.search(text, start + 1)
            if line is None or broken > _RESTARTS:
                break
            place = line.start()
    return items


def _reason(text: str) -> str:
    return _loaded(text)[1]


def _stream(lines: list[str], column: str | None, notes: Notes) -> Iterator[Found]:
    """Objects one after another, each over several lines; after a broken one goes on where a line begins with a brace."""
    block: list[str] = []
    begin = broken = 0
    for number, line in enumerate([*lines, "{"], 1):
        if line[:1] in ("{", "[") and any(b.strip() for b in block):
            value, reason = _loaded("\n".join(block))
            broken += bool(reason)
            if reason:
                notes.left_out(begin, reason)
            else:
                yield from _item(begin, value, column, notes)
            block = []
            if broken > _RESTARTS:
                return
        if not block:
            begin = number
        block.append(line)


def _found(value: Any, column: str | None, notes: Notes) -> Iterator[Found]:
    notes.unit = "item"
    try:
        items = list(_items(value, column, notes))
    except RecursionError as error:
        raise InputError(f"{notes.path!r}: {_DEEP}") from error
    for number, (name, item) in enumerate(items, 1):
        yield from _item(number, item, column, notes, name)


def _items(value: Any, column: str | None, notes: Notes) -> Iterable[tuple[str | None, Any]]:
    """(id or None, item) for each item of a file's one value."""
    if isinstance(value, list):
        return [(None, v) for v in value]
    if not isinstance(value, dict):
        if isinstance(value, str):
            return [(None, value)]
        raise InputError(
            f"{notes.path!r} holds no list of prompts; give a list of texts, or of objects with a key prompt"
        )
    for name in _LISTS:  # MS-COCO: {"annotations": [{"caption": ...}]}
        if isinstance(value.get(name), list) and any(isinstance(v, dict) for v in value[name][:100]):
            return [(None, v) for v in value[name]]
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):  # pandas, orient="split"
        names = [plain_text(c) for c in value["columns"]]
        return [(None, dict(zip(names, row, strict=False))) for row in value["data"] if isinstance(row, list)]
    chosen = choose(value, column)
    if chosen is None and column is None and isinstance(value.get("p"), str):
        chosen = "p"  # one line of DiffusionDB's
    if chosen is not None:
        return _columns(value, chosen)
    for name in _LISTS:
        if isinstance(value.get(name), list):
            return [(None, v) for v in value[name]]
    values = list(value.values())
    if values and all(isinstance(v, dict) for v in values):  # DiffusionDB: {"x.png": {"p": ...}}
        known = [v for v in values if choose(v, column, ("p",)) is not None]
        if known:
            return [(plain_text(k), v) for k, v in value.items()]
        raise InputError(f"{notes.path!r}: {no_column(values[0], column, 'keys')}")
    if (
        values
        and all(isinstance(v, list) for v in values)
        and any(isinstance(x, (str, dict)) for v in values for x in v[:1])
    ):
        notes.say(f"prompts of its {len(values)} lists: {', '.join(map(plain_text, list(value)[:8]))[:200]}")
        return [
            (f"{plain_text(k)}/{n}", {"list": k, **x} if isinstance(x, dict) else {"list": k, "prompt": x})
            for k, v in value.items() for n, x in enumerate(v)
        ]  # fmt: skip
    if values and all(isinstance(v, str) for v in values):  # {"1": "a cat", "2": "a dog"}
        return [(plain_text(k), v) for k, v in value.items()]
    raise InputError(
        f"{notes.path!r} has no list 'annotations' or 'prompts' and no objects with a prompt; its keys are "
        f"{', '.join(map(plain_text, list(value)[:20]))[:200]}; name the prompts' key with --column"
    )


def _columns(value: dict[str, Any], chosen: str) -> list[tuple[str | None, Any]]:
    """One object: a single prompt, or columns as lists or objects (a batch of a data set; pandas)."""
    prompts = value[chosen]
    if isinstance(prompts, dict):
        return [
            (plain_text(k), {c: v.get(k) if isinstance(v, dict) else v for c, v in value.items()}) for k in prompts
        ]  # fmt: skip
    if isinstance(prompts, list):
        n = len(prompts)
        wide = {c: v for c, v in value.items() if isinstance(v, list) and len(v) == n}
        return [(None, {c: v[i] for c, v in wide.items()}) for i in range(n)]
    return [(None, value)]


def _item(number: int, item: Any, column: str | None, notes: Notes, name: str | None = None) -> Iterator[Found]:
    if isinstance(item, dict) and isinstance(item.get("row"), dict) and choose(item, column) is None:
        item = item["row"]  # the answer of a data set's viewer
    if not isinstance(item, dict):
        yield from _texts(number, item, name, {}, notes)
        return
    chosen = choose(item, column, ("p",))
    if chosen is None:
        notes.left_out(number, no_column(map(plain_text, item), column, "keys"))
        return
    notes.taken[plain_text(chosen)] += 1
    columns = {k: v for k, v in item.items() if k != chosen}
    yield from _texts(number, item[chosen], name if name is not None else id_of(columns), columns, notes)


def _texts(number: int, value: Any, name: str | None, columns: dict[str, Any], notes: Notes) -> Iterator[Found]:
    """A text, or several of one item."""
    for text in value if isinstance(value, list) and value else [value]:
        if isinstance(text, bool) or not isinstance(text, (str, int, float, type(None))):
            kind = {bool: "true or false", dict: "an object", list: "a list"}[type(text)]
            notes.left_out(number, f"its prompt is no text but {kind}; put it in quotes or leave it out")
            continue
        yield Found(number, text, name, columns)
