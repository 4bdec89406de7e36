"""Read a prompt file of any kind: choose the reader, clean every prompt, link repeats.

Comes in: a path. Goes out: a `PromptFile`. One bad line never stops the others; it is named in the notes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import InputError
from ..text import MAX_CHARACTERS, clean_prompt, has_controls, whole_pairs
from .decoding import split_lines, text_of
from .flags import Parts, is_info_line, read_flags, read_infotext
from .json_files import is_json, read_json, read_json_lines
from .lines import read_lines
from .rows import MAX_PROMPTS, Found, Notes, PromptFile, PromptRow, choose, plain, plain_text
from .tables import read_table

Reader = Callable[[str, str | None, Notes], Iterator[Found]]
_READERS: dict[str, Reader] = {
    ".csv": read_table, ".jsonl": read_json_lines, ".ndjson": read_json_lines, ".json": read_json,
    ".tsv": lambda text, column, notes: read_table(text, column, notes, tabs=True),
}  # fmt: skip
_BESIDE = "given beside the prompt: kept in its row; what is made follows the command's own options"


def read_prompts(path: Path | str, column: str | None = None) -> PromptFile:
    """Prompts of a .txt (one a line), .csv or .tsv (a column), .jsonl or .json file (a list, COCO captions, DiffusionDB).

    `column` names the column or key; default: the first of `COLUMNS`. A line that can't be used is named in `notes`
    and left out. Raises `InputError`, in one line with the remedy, for a file that can't be read at all.
    """
    path = Path(path)
    notes = Notes(str(path))
    text = text_of(path, notes)
    suffix = path.suffix.lower()
    reader = _READERS.get(suffix)
    if reader is None:
        reader = _reader_of(text, column, notes)
    elif reader is _READERS[".csv"] and is_json(text):
        notes.say("read as JSON, although it is named like a table")
        reader = read_json_lines
    rows: list[PromptRow] = []
    first: dict[str, str] = {}
    blank = 0
    others: Counter[str] = Counter()
    for found in reader(text, column, notes):
        if len(rows) >= MAX_PROMPTS:
            raise InputError(f"{str(path)!r} has more than {MAX_PROMPTS} prompts; split it into smaller files")
        if found.value is None or not str(found.value).strip():
            blank += 1
            continue
        row = _row(found, notes, others)
        if row is None:
            continue
        repeats = first.get(row.prompt)
        if repeats is None:
            first[row.prompt] = row.id
        else:
            row = PromptRow(row.prompt, row.line, row.id, row.columns, row.settings, repeats)
            notes.count("repeats an earlier prompt: made once, and linked to the first one's id", row.line)
        rows.append(row)
    if not rows:
        raise notes.nothing()
    if others:
        flags = ", ".join(f"{'' if name == '::' else '--'}{name} ({n})" for name, n in others.most_common(12))
        notes.say(f"Midjourney flags that mean nothing here were left out of the prompts: {flags}")
    if blank and reader is not read_lines:
        notes.say(f"{blank} blank prompts were left out")
    return PromptFile(rows, notes.lines(), notes.bad_count, notes.unit)


def _reader_of(text: str, column: str | None, notes: Notes) -> Reader:
    """The reader for a file whose name says nothing: lines, unless it plainly is JSON or a table with tabs."""
    if is_json(text):
        notes.say("read as JSON, although it is not named so")
        return read_json_lines
    header = next((line for line in split_lines(text[:100_000]) if line.strip()), "")
    if "\t" in header and choose(header.split("\t"), column) is not None:
        notes.say("read as a table with tabs, although it is not named so")
        return _READERS[".tsv"]
    if column is not None:
        notes.say(f"--column {column!r} was not used: this file is read line by line")
    return read_lines


def _row(found: Found, notes: Notes, others: Counter[str]) -> PromptRow | None:
    """The row of what a reader found, or None when it can't be used; flags count in `others`."""
    line, text = found.line, found.value
    if not isinstance(text, str):
        text = str(text)
        if text in ("nan", "inf", "-inf"):
            notes.left_out(line, "its prompt is no text but no number either; put it in quotes or leave it out")
            return None
        notes.count("a number, taken as text", line)
    if len(text) > MAX_CHARACTERS:
        notes.left_out(line, f"a prompt of {len(text)} characters; at most {MAX_CHARACTERS} are taken: shorten it")
        return None
    try:
        text = whole_pairs(text)
    except InputError as error:
        notes.left_out(line, str(error))
        return None
    if has_controls(text):
        notes.count("control characters (such as NUL) became blanks", line)
    parts = read_infotext(text) if any(map(is_info_line, text.split("\n")[1:])) else Parts(text)
    flags = read_flags(parts.prompt or "")
    others.update(flags.others.keys())
    settings = {**parts.settings, **found.settings, **flags.settings}
    if settings:
        notes.count(f"{', '.join(settings)} {_BESIDE}", line)
    try:
        prompt = clean_prompt(flags.prompt or "")
    except InputError:
        notes.left_out(line, "nothing but flags or controls; write what the picture should show")
        return None
    columns = {plain_text(k): plain(v) for k, v in {**found.columns, **parts.others, **flags.others}.items()}
    name = str(line) if found.id is None else plain_text(found.id)
    return PromptRow(prompt, line, name, columns, {k: plain(v) for k, v in settings.items()})
