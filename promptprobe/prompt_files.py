"""Read prompts from text, CSV, JSON lines and MS-COCO caption files; expand `{a|b}` and wildcards.

Comes in: a file. Goes out: prompts in their order, each once, and how many were left out and why.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import InputError, reason_of
from .tokens import clean_prompt

MAX_CHARACTERS = 10_000  # of a prompt
COLUMNS = ("prompt", "caption", "text")
MAX_EXPANDED = 100_000


@dataclass
class PromptList:
    """`prompts` in the file's order; `notes` say what was left out."""

    prompts: list[str]
    notes: list[str] = field(default_factory=list)


def read_prompts(path: Path | str, column: str | None = None) -> PromptList:
    """Prompts of a .txt (one a line), .csv or .tsv (a column), .jsonl or .json file (COCO captions or a list).

    `column` names the column or key; default: the first of prompt, caption, text. Raises `InputError` that names file,
    line and remedy for a missing, empty, wrongly encoded or broken file and for a prompt of over 10,000 characters.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"can't read prompts from {str(path)!r}: {error.strerror}") from error
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{str(path)!r} is not UTF-8 text (line {line}, byte {error.start}); convert it first"
        ) from error
    reader = {".csv": _csv, ".tsv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json}
    found = reader.get(path.suffix.lower(), _lines)(path, text, column)
    prompts: dict[str, None] = {}
    blank = repeated = 0
    for line, given in found:
        if not given.strip():
            blank += 1
            continue
        if len(given) > MAX_CHARACTERS:
            raise InputError(
                f"{str(path)!r}, line {line}: a prompt of {len(given)} characters; at most {MAX_CHARACTERS} are taken"
            )
        prompt = clean_prompt(given)
        repeated += prompt in prompts
        prompts[prompt] = None
    if not prompts:
        raise InputError(f"{str(path)!r} has no prompt; give one a line, or a column named prompt")
    notes = [f"{repeated} repeated prompts were left out"] if repeated else []
    notes += [f"{blank} blank prompts were left out"] if blank and path.suffix.lower() not in ("", ".txt") else []
    return PromptList(list(prompts), notes)


def expand(prompts: list[str], wildcards: Path | None = None) -> list[str]:
    """Every combination of `{a|b}` and `__wildcard__`, by the dynamicprompts library; each result once.

    Raises `InputError` when the library is not installed, a template is broken or too many prompts come out.
    """
    try:
        from dynamicprompts.generators import CombinatorialPromptGenerator
        from dynamicprompts.wildcards import WildcardManager
    except ImportError as error:
        raise InputError("--expand needs the dynamicprompts library: pip install 'promptprobe[batch]'") from error
    generator = CombinatorialPromptGenerator(wildcard_manager=WildcardManager(wildcards) if wildcards else None)
    result: dict[str, None] = {}
    for template in prompts:
        try:
            made = generator.generate(template, max_prompts=MAX_EXPANDED - len(result) + 1)
        except Exception as error:  # the library's parser has its own classes
            raise InputError(f"prompt {template[:80]!r} can't be expanded: {reason_of(error)}") from error
        result |= dict.fromkeys(clean_prompt(m) for m in made if m.strip())
        if len(result) > MAX_EXPANDED:
            raise InputError(f"the templates make more than {MAX_EXPANDED} prompts; give fewer choices")
    return list(result)


def _lines(path: Path, text: str, column: str | None) -> list[tuple[int, str]]:
    return list(enumerate(text.splitlines(), 1))


def _csv(path: Path, text: str, column: str | None) -> list[tuple[int, str]]:
    csv.field_size_limit(2**24)
    reader = csv.reader(io.StringIO(text), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    try:
        header = [h.strip() for h in next(reader, [])]
        place = _pick(path, header, column, "columns")
        found = [(reader.line_num, row[header.index(place)]) for row in reader if len(row) > header.index(place)]
    except csv.Error as error:
        raise InputError(f"{str(path)!r}, line {reader.line_num}: broken CSV ({error})") from error
    return found


def _json_lines(path: Path, text: str, column: str | None) -> list[tuple[int, str]]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise InputError(f"{str(path)!r}, line {number}: broken JSON ({error})") from error
        found.append((number, _text_of(path, number, value, column)))
    return found


def _json(path: Path, text: str, column: str | None) -> list[tuple[int, str]]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{str(path)!r}: broken JSON ({error})") from error
    if isinstance(value, dict):  # MS-COCO: {"annotations": [{"caption": ...}]}
        lists = [v for k, v in value.items() if k in ("annotations", "prompts") and isinstance(v, list)]
        if not lists:
            raise InputError(
                f"{str(path)!r} has no list 'annotations' or 'prompts'; its keys are {', '.join(value)[:200]}"
            )
        value = lists[0]
    if not isinstance(value, list):
        raise InputError(f"{str(path)!r} holds no list of prompts")
    return [(i, _text_of(path, i, item, column)) for i, item in enumerate(value, 1)]


def _text_of(path: Path, number: int, value: Any, column: str | None) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        given = value[_pick(path, list(value), column, "keys")]
        if isinstance(given, str):
            return given
    raise InputError(f"{str(path)!r}, item {number}: no text but {str(value)[:60]!r}")


def _pick(path: Path, names: list[str], column: str | None, what: str) -> str:
    wanted = [column] if column else list(COLUMNS)
    lower = {n.lower(): n for n in names}
    for name in wanted:
        if name.lower() in lower:
            return lower[name.lower()]
    raise InputError(
        f"{str(path)!r} has no {' or '.join(wanted)}; its {what} are: {', '.join(names)[:200]}; use --column"
    )
