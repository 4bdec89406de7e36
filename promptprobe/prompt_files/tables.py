"""Prompts of a table: the separator is found, columns travel, rows that don't fit their header are named.

Comes in: text with a header. Goes out: a `Found` for each record; a broken one stops no other.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator

from ..errors import InputError
from .decoding import split_lines
from .rows import MAX_LINE, Found, Notes, choose, id_of, no_column

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_MAX_RECORD = 1000  # lines of a quoted field; longer ones are a quote that was never closed


def read_table(text: str, column: str | None, notes: Notes, tabs: bool = False) -> Iterator[Found]:
    """Records of a .csv, or with `tabs` of a .tsv, whose quotes are letters like others.

    Raises `InputError` when no column holds the prompts.
    """
    lines = split_lines(text)
    first = 0
    while first < len(lines) and not lines[first].strip():
        first += 1
    if first == len(lines):
        return
    if lines[first].lower().startswith("sep=") and len(lines[first]) <= 5:  # Excel's hint
        first += 1
    header_line = lines[first] if first < len(lines) else ""
    separator = _separator(header_line[:MAX_LINE], column, tabs)
    quoted = not (tabs and separator == "\t")
    if separator != ("\t" if tabs else ","):
        notes.say(f"its columns are separated by a {SEPARATORS[separator]}")
    names, after = _record(lines, first, separator, quoted)
    header = [h.strip() for h in (header_line.split(separator) if names is None else names)]
    name = choose(header, column)
    if name is None:
        raise InputError(f"{notes.path!r}, line {first + 1}: {no_column(header, column, 'columns')}")
    place = header.index(name)
    notes.taken[name] += 0
    number = after
    while number < len(lines):
        line = number + 1
        if not lines[number].strip():
            number += 1
            continue
        try:
            row, number = _record(lines, number, separator, quoted)
        except csv.Error as error:
            notes.left_out(line, f"broken CSV ({error}); put its prompt in double quotes")
            number += 1
            continue
        whole = row is not None
        if row is None:  # a quote that is never closed would swallow the lines behind it
            notes.count("its quotes are broken: it was read as it stands; double the quotes inside of a field", line)
            row = lines[line - 1].split(separator)
        yield from _fitted(row, line, header, place, separator, whole, notes)


def _fitted(
    row: list[str], line: int, header: list[str], place: int, separator: str, whole: bool, notes: Notes
) -> Iterator[Found]:
    while len(row) > len(header) and not row[-1].strip():
        row.pop()
    extra = len(row) - len(header)
    if extra > 0:
        notes.count(
            f"wider than the header's {len(header)} columns: the bare {SEPARATORS[separator]}s were taken as the prompt's own; "
            + ("take them out" if separator == "\t" else "put such prompts in double quotes"),
            line,
        )
        row[place : place + extra + 1] = [separator.join(row[place : place + extra + 1])]
    if len(row) <= place:
        notes.left_out(line, f"it has {len(row)} of {len(header)} columns, and none for {header[place]!r}; add it")
        return
    if not whole:
        row = [_unquoted(f) for f in row]
    columns = {h: v for i, (h, v) in enumerate(zip(header, row, strict=False)) if i != place and h}
    notes.taken[header[place]] += 1
    yield Found(line, row[place], id_of(columns), columns)


def _separator(header: str, column: str | None, tabs: bool) -> str:
    """The separator under which the header has a column of prompts, and most columns."""
    order = ["\t", ",", ";", "|"] if tabs else [",", ";", "\t", "|"]
    best, most = order[0], 0
    for separator in order:
        names = [n.strip().strip('"') for n in header.split(separator)]
        if choose(names, column) is not None and len(names) > most:
            best, most = separator, len(names)
    if not most:  # the error lists the columns: split by what the header has most of
        best = max(order, key=header.count)
    return best


def _record(lines: list[str], number: int, separator: str, quoted: bool) -> tuple[list[str] | None, int]:
    """The record that begins in line `number` (None where its quotes are broken), and the number of the next line."""
    line = lines[number]
    if len(line) > MAX_LINE:
        raise csv.Error(f"{len(line)} characters; at most {MAX_LINE} are read")
    if not quoted or '"' not in line:
        return [_unescaped(f) if not quoted else f for f in line.split(separator)], number + 1
    feed = _Feed(lines, number)
    before = csv.field_size_limit(MAX_LINE)
    try:
        return next(csv.reader(feed, delimiter=separator, strict=True)), feed.number
    except (csv.Error, StopIteration):
        return None, number + 1
    finally:
        csv.field_size_limit(before)


class _Feed:
    """Lines for `csv.reader`, which asks for another as long as a quote is open."""

    def __init__(self, lines: list[str], number: int) -> None:
        self.lines, self.number, self.last = lines, number, min(len(lines), number + _MAX_RECORD)

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if self.number >= self.last:
            raise StopIteration
        self.number += 1
        return self.lines[self.number - 1] + "\n"


def _unquoted(value: str) -> str:
    """A field whose quotes are not CSV's, without the outer ones."""
    text = value.strip()
    if text[:1] != '"':
        return value
    return text[1:-1].replace('""', '"') if len(text) > 1 and text[-1] == '"' else text[1:]


def _unescaped(value: str) -> str:
    """A tab-separated field as it stands, but for one that is plainly CSV's: in quotes, with doubled ones inside."""
    inner = value[1:-1]
    if len(value) > 3 and value[0] == value[-1] == '"' and '""' in inner and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return value
