"""From a file's bytes to its text: byte order marks, UTF-16 without one, lines that are no UTF-8; what is no text at all.

Comes in: a path. Goes out: text, or an `InputError` with the remedy for files of another kind.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from ..errors import InputError
from .rows import MAX_BYTES, Notes

_LIST = "save its prompts as .txt (one a line), .csv or .jsonl"
_ENDINGS = {
    (".yaml", ".yml"): "YAML holds wildcards or settings, not a list of prompts: point --wildcards at its folder, or save the "
    "prompts one a line as .txt",
    (".toml", ".ini", ".cfg", ".xml", ".html", ".htm", ".py", ".ipynb"): f"this kind of file is no list of prompts; {_LIST}",
}  # fmt: skip
_BEGINNINGS = {
    b"PAR1": "Parquet; turn it into a table first: python -c \"import pandas; pandas.read_parquet('FILE').to_csv('prompts.csv')\"",
    b"ARROW1": "Arrow; turn it into a table first: python -c \"import pandas; pandas.read_feather('FILE').to_csv('prompts.csv')\"",
    b"PK\x03\x04": "a ZIP archive or an Office document (.xlsx, .docx); unpack it, or save the sheet as CSV",
    b"\x1f\x8b": "gzip; unpack it first: gunzip FILE", b"BZh": "bzip2; unpack it first: bunzip2 FILE",
    b"\xfd7zXZ\x00": "xz; unpack it first: unxz FILE", b"(\xb5/\xfd": "zstd; unpack it first: unzstd FILE",
    b"\xd0\xcf\x11\xe0": "an old Office document; save the sheet as CSV", b"%PDF-": f"PDF; {_LIST}",
    b"\x89PNG": f"an image; {_LIST}", b"\xff\xd8\xff": f"an image; {_LIST}", b"GIF8": f"an image; {_LIST}",
    b"SQLite format 3\x00": f"a database; {_LIST}", b"\x93NUMPY": f"a NumPy array; {_LIST}",
}  # fmt: skip
_SUFFIXES = {
    ".parquet": b"PAR1", ".arrow": b"ARROW1", ".feather": b"ARROW1", ".xlsx": b"PK\x03\x04", ".ods": b"PK\x03\x04", ".zip":
    b"PK\x03\x04", ".xls": b"\xd0\xcf\x11\xe0", ".gz": b"\x1f\x8b", ".pdf": b"%PDF-", ".png": b"\x89PNG", ".jpg": b"\xff\xd8\xff",
    ".jpeg": b"\xff\xd8\xff",
}  # fmt: skip
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe\x00\x00", "utf-32-le"), (b"\x00\x00\xfe\xff", "utf-32-be"), (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)  # fmt: skip
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_SAMPLE = 200_000


def text_of(path: Path, notes: Notes) -> str:
    """The text of a file, without a byte order mark; raises `InputError` for one that is absent, too big or no text."""
    name = str(path)
    suffix = path.suffix.lower()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"can't read prompts from {name!r}: {reason}; give a .txt, .csv, .jsonl or .json file"
        ) from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{name!r} has more than {MAX_BYTES // 2**20} MiB; split it into smaller files")
    for endings, remedy in _ENDINGS.items():
        if suffix in endings:
            raise InputError(f"{name!r}: {remedy}")
    for beginning, kind in _BEGINNINGS.items():
        if data.startswith(beginning) or _SUFFIXES.get(suffix) == beginning:
            raise InputError(f"{name!r} is no text but {kind.replace('FILE', path.name)}")
    text = _decoded(data, notes)
    controls = len(_CONTROLS.findall(text[:_SAMPLE]))
    if controls > 8 and controls > len(text[:_SAMPLE]) / 10:
        raise InputError(
            f"{name!r} is no text: {controls} of its first {len(text[:_SAMPLE])} characters are controls; {_LIST}"
        )
    return text


def split_lines(text: str) -> list[str]:
    """Lines, ended by a line feed, a carriage return or both; U+2028, U+2029 and U+0085 end none."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _decoded(data: bytes, notes: Notes) -> str:
    mark, encoding = next(((m, e) for m, e in _MARKS if data.startswith(m)), (b"", ""))
    data = data[len(mark) :]
    if not encoding:
        encoding = _encoding_of(data)
        if encoding != "utf-8":
            notes.say(
                f"read as {encoding.upper()} (it has no byte order mark); if the prompts look wrong, save it as UTF-8"
            )
    if encoding == "utf-8":
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "\n".join(_line(line, n, notes) for n, line in enumerate(data.split(b"\n"), 1))
    if rest := len(data) % (4 if encoding.startswith("utf-32") else 2):
        notes.say(f"the file ends in the middle of a character: its last {rest} bytes were left out")
        data = data[:-rest]
    if encoding.startswith("utf-32"):
        return data.decode(encoding, "replace")
    return data.decode(encoding, "surrogatepass")  # half pairs are refused with the line's number


def _line(line: bytes, number: int, notes: Notes) -> str:
    try:
        return line.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        notes.count("no UTF-8: read as Latin-1 (Windows-1252); if letters look wrong, save the file as UTF-8", number)
        try:
            return line.decode("cp1252")
        except UnicodeDecodeError:
            return line.decode("latin-1")


def _encoding_of(data: bytes) -> str:
    """UTF-8, or UTF-16 without a mark: its ASCII letters, blanks and line ends have a NUL beside them."""
    sample = data[: _SAMPLE // 2 * 2]
    nuls = sample.count(0)
    if nuls == 0:
        return "utf-8"
    try:
        sample.decode("utf-8")
        if nuls < len(sample) / 5:
            return "utf-8"  # some NUL in a text
    except UnicodeDecodeError:
        pass
    scores = {e: _likely(sample[: len(sample) // 2 * 2].decode(e, "replace")) for e in ("utf-16-le", "utf-16-be")}
    best = max(scores, key=lambda e: scores[e])
    return best if scores[best] > 0 else "utf-8"


def _likely(text: str) -> int:
    """How much a text looks like one: blanks and ASCII, less what no text has."""
    part = text[:20_000]
    good = sum(c in "\n\r" or " " <= c <= "~" for c in part)
    # A line end, a return and a blank with their bytes swapped are the first three.
    bad = sum(
        c in "\u0a00\u0d00\u2000\ufffd" or unicodedata.category(c) in ("Cn", "Co", "Cc")
        for c in part
        if c not in "\n\r\t"
    )
    return good - 5 * bad if bad <= len(part) / 50 or good > 3 * bad else -1
