"""How the rows of a prompt file travel into a batch's results: ids, all columns, and repeats linked to the first of them.

Comes in: rows as `read_prompts` gives them. Goes out: what a result's line says of its rows, and rows of the summary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..prompt_files import PromptRow

FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # what a spreadsheet takes for the begin of one


def links_of(rows: Iterable[PromptRow]) -> dict[str, dict[str, Any]]:
    """By prompt, what its line says: `row` is the first one's id, line, columns and settings, `repeated_by` the later ones'."""
    links: dict[str, dict[str, Any]] = {}
    for row in rows:
        told = {"id": row.id, "line": row.line, "columns": dict(row.columns), "settings": dict(row.settings)}
        if row.prompt not in links:
            links[row.prompt] = {"row": told, "repeated_by": []}
        else:
            links[row.prompt]["repeated_by"].append(told)
    return links


def summary_rows(
    columns: Sequence[str], flat: Mapping[str, Mapping[str, Any]], rows: Sequence[PromptRow]
) -> Iterator[list[Any]]:
    """The head, then a row for each of `rows` that has a result: its id and line, the result `flat[prompt]` by `columns`,
    the id that it repeats, and its own columns; one whose name is taken is called `file_NAME`."""
    own = list(dict.fromkeys(name for row in rows for name in row.columns if row.columns[name] != row.id))
    with_settings = any(row.settings for row in rows)
    head = ["id", "line", *columns, "repeats", *(["settings"] if with_settings else [])]
    taken = {name.casefold() for name in head}
    yield [*head, *(f"file_{name}" if name.casefold() in taken else name for name in own)]
    for row in rows:
        if row.prompt in flat:
            result = [flat[row.prompt].get(name) for name in columns]
            settings = [dict(row.settings) or None] if with_settings else []
            yield [row.id, row.line, *result, row.repeats, *settings, *(row.columns.get(name) for name in own)]


def cell(value: Any) -> Any:
    """A value for a spreadsheet: lists and objects as JSON; text that would be taken for a formula gets an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
