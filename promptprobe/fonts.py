"""Draw text of any script with the system's fonts.

Comes in: a text and a size. Goes out: a font that has all of its letters, or None: where no font has them, or where the
script needs shaping (Arabic, Devanagari, ...) and Pillow is built without raqm.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import regex
from PIL import ImageFont, features

from .text import clusters

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_SECONDS = 5.0  # for looking through all fonts where fontconfig is absent
# Letters that change with their neighbours or run from right to left.
_SHAPED = regex.compile(
    r"[\p{Arabic}\p{Hebrew}\p{Syriac}\p{Thaana}\p{Nko}\p{Devanagari}\p{Bengali}\p{Gurmukhi}\p{Gujarati}\p{Oriya}\p{Tamil}"
    r"\p{Telugu}\p{Kannada}\p{Malayalam}\p{Sinhala}\p{Thai}\p{Lao}\p{Tibetan}\p{Myanmar}\p{Khmer}\p{Mongolian}]"
)
_IGNORED = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Cc}\s]")
_SCRIPTS = (
    "Han", "Hiragana", "Katakana", "Hangul", "Arabic", "Hebrew", "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Tamil", "Telugu",
    "Kannada", "Malayalam", "Sinhala", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Ethiopic", "Georgian", "Armenian",
)  # fmt: skip


@functools.lru_cache(maxsize=512)
def font_for(text: str, size: int) -> Font | None:
    """A font of `size` pixels that draws every letter of `text`, or None; Pillow's own where that will do."""
    own = ImageFont.load_default(size)
    if has_letters(own, text):
        return own
    if _SHAPED.search(text) and not features.check("raqm"):
        return None
    until = time.monotonic() + _SECONDS
    for path, index in _candidates(text):
        if time.monotonic() > until:
            return None
        try:
            font = ImageFont.truetype(path, size, index=index)
            if has_letters(font, text):
                return font
        except (OSError, ValueError):  # bitmaps of another size, a broken file
            continue
    return None


def has_letters(font: Font, text: str) -> bool:
    """Whether a font draws each letter of `text` with a shape of its own, not with the box for what it hasn't."""
    box = bytes(font.getmask("\U0010fffd"))
    size = font.getmask("\U0010fffd").size
    for letter in set(_IGNORED.sub("", text)):
        mask = font.getmask(letter)
        if mask.getbbox() is None or (mask.size == size and bytes(mask) == box):
            return False
    return True


def fitted(text: str, font: Font, width: float) -> str:
    """`text`, or as much of its beginning as `width` pixels hold, with an ellipsis; never half of a letter."""
    if font.getlength(text) <= width:
        return text
    mark = "…" if has_letters(font, "…") else "..."
    parts = clusters(text)
    low, high = 0, len(parts)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength("".join(parts[:middle]) + mark) <= width:
            low = middle
        else:
            high = middle - 1
    return "".join(parts[:low]) + mark


def script_of(text: str) -> str:
    """The script of a text for people, such as Devanagari or emoji."""
    for name in _SCRIPTS:
        if regex.search(rf"\p{{{name}}}", text):
            return name
    if regex.search(r"\p{Extended_Pictographic}|\p{Regional_Indicator}", text):
        return "emoji"
    return unicodedata.name(text[0], "unknown").split()[0].capitalize() if text else "unknown"


def _candidates(text: str) -> Iterator[tuple[str, int]]:
    """Files (and places in them) of fonts that may have the letters, by fontconfig or from the system's folders."""
    letters = sorted({ord(c) for c in _IGNORED.sub("", text)})
    if program := shutil.which("fc-list"):
        pattern = ":charset=" + " ".join(f"{c:x}" for c in letters)
        try:
            listed = subprocess.run(
                [program, "-f", "%{file}\t%{index}\t%{style}\n", pattern],
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            ).stdout.decode("utf-8", "replace")
        except (OSError, subprocess.TimeoutExpired):
            listed = ""
        found = [line.split("\t") for line in listed.splitlines() if line.count("\t") == 2]
        # Named instances of variable fonts have an index beyond 16 bits.
        found.sort(
            key=lambda f: ("Regular" not in f[2] and "Book" not in f[2], "Sans" not in f[0], "Mono" in f[0], f[0])
        )
        yield from ((path, int(index) & 0xFFFF) for path, index, _ in found if index.isdigit())
        return
    likely = regex.compile(
        "cjk|unicode|msyh|simsun|yahei|meiryo|malgun|gothic|pingfang|hiragino|nirmala|mangal|kohinoor|segoe|noto"
    )
    files = [
        f for folder in _folders() for f in sorted(folder.rglob("*")) if f.suffix.lower() in (".ttf", ".otf", ".ttc")
    ]
    files.sort(key=lambda f: likely.search(f.name.lower()) is None)
    yield from ((str(f), 0) for f in files[:3000])


def _folders() -> list[Path]:
    home = Path.home()
    if sys.platform == "win32":
        places = [
            Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts",
            home / "AppData/Local/Microsoft/Windows/Fonts",
        ]
    elif sys.platform == "darwin":
        places = [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
        places = [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), data / "fonts", home / ".fonts"]
    return [p for p in places if p.is_dir()]
