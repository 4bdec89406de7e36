"""Where a wildcard's values come from: a folder of files, read by the dynamicprompts library.

Comes in: a folder and a wildcard's name, also a pattern such as `animals/*`. Goes out: its values, cleaned; what the
library had to say goes into the notes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError, reason_of
from ..text import clean_prompt
from .rows import Notes

Values = Callable[[str], list[str]]


def wildcard_values(folder: Path | None, notes: Notes) -> Values:
    """A function from a wildcard's name to its values; without a folder no wildcard has any.

    Raises `InputError` when the folder is none, or the library is not installed.
    """
    if folder is None:
        return lambda name: []
    if not Path(folder).is_dir():
        raise InputError(f"--wildcards {str(folder)!r} is no folder; give the one that holds the wildcard files")
    try:
        from dynamicprompts.wildcards import WildcardManager
    except ImportError as error:
        raise InputError("--wildcards needs the dynamicprompts library: pip install 'promptprobe[batch]'") from error
    manager = WildcardManager(Path(folder))

    def values(name: str) -> list[str]:
        with _heard(notes):
            try:
                found = manager.get_values(name).string_values
            except Exception as error:  # a pattern or a file that the library can't read: classes of its own
                notes.say(f"wildcard __{name[:40]}__ can't be read: {reason_of(error)}; correct its file")
                return []
        return list(dict.fromkeys(_cleaned(found, name, notes)))

    return values


def _cleaned(values: list[str], name: str, notes: Notes) -> Iterator[str]:
    for value in values:
        try:
            yield clean_prompt(value)
        except InputError:
            notes.say(f"wildcard __{name[:40]}__: values that are blank or have half of a surrogate pair were left out")


@contextmanager
def _heard(notes: Notes) -> Iterator[None]:
    """Takes the library's log into the notes instead of the terminal."""
    logger = logging.getLogger("dynamicprompts")
    handler = _ToNotes(notes)
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


class _ToNotes(logging.Handler):
    def __init__(self, notes: Notes) -> None:
        super().__init__(logging.WARNING)
        self.notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        self.notes.say(f"wildcards: {' '.join(record.getMessage().split())[:300]}")
