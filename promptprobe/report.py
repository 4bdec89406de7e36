"""A report as one HTML file: it opens offline, runs no script and asks for nothing from elsewhere; all text is escaped.

Comes in: what a report shows, as plain values and pictures. Goes out: the file. `reports` makes them of runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from .errors import InputError
from .files import write_together
from .forms import report_file
from .notebook import data_url, read_picture
from .text import UNPRINTABLE
from .version import __version__

LEFT, RIGHT, TOP, BOTTOM = 44, 330, 10, 220  # of a plot's field, in units of its drawing
MOST_DOTS = 1500
BINS = 10
ENOUGH = 20  # pairs of a reliability plot
SIDES = ((6, 420), (40, 256), (120, 160))  # up to so many pictures, the side of each in pixels
SMALL = 112  # of more


@dataclass
class Report:
    """What a report shows. `runs`, `plots` and `tables` are made by the functions below; `unfinished` says why it is not
    whole, `side` is the pictures' in pixels, `letters` how much of a long text is shown."""

    title: str
    subtitle: str
    facts: list[tuple[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    plots: list[dict[str, Any]] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)
    settings: list[tuple[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unfinished: str = ""
    runs_title: str = "Wordings"
    side: int = SIDES[0][1]
    letters: int = 2000
    version: str = __version__


def write_report(report: Report, path: Path | str) -> Path:
    """Write a report; raises `InputError` for another suffix and where nothing can be written."""
    path = Path(report_file(path))
    write_together({path: render(report).encode()})
    return path


def render(report: Report) -> str:
    """The HTML of a report."""
    from jinja2 import Environment, StrictUndefined

    made = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=printable, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["clip"] = clip
    text = (Path(__file__).parent / "report.html").read_text("utf-8")
    return made.from_string(text).render(r=report)


def printable(value: Any) -> Any:
    """A value as it stands in the file: of a text, what moves a cursor or turns its direction is replaced."""
    if not isinstance(value, str):
        return value
    return type(value)(UNPRINTABLE.sub(lambda m: m[0] if m[0] in "\n\t" else "\N{REPLACEMENT CHARACTER}", value))


def clip(text: str, most: int) -> str:
    """A text, its end left out where it is longer than `most`."""
    plain = str(text)[: most + 1]
    return plain if len(plain) <= most else plain[:most].rsplit(" ", 1)[0] + " …"


def sizes_for(pictures: int) -> tuple[int, int]:
    """Side of each of so many pictures, in pixels, and how many letters of a text are shown: the file stays small."""
    side = next((side for most, side in SIDES if pictures <= most), SMALL)
    return side, 2000 if pictures <= 6 else 600 if pictures <= 120 else 200


def picture(source: Image.Image | Path | str | None, caption: str, side: int) -> dict[str, Any]:
    """A picture of a report, from memory or its file; one that is gone says so in its place."""
    if source is None:
        return {"url": "", "caption": "no picture was made"}
    try:
        image = source if isinstance(source, Image.Image) else read_picture(source)
    except InputError as error:
        return {"url": "", "caption": str(error)}
    return {"url": data_url(image, side, "JPEG"), "caption": caption}


def marked(prompt: str, words: Sequence[dict[str, Any]], letters: int) -> list[tuple[str, bool]]:
    """A prompt in pieces, each with whether it is a diffuse word."""
    pieces, at = [], 0
    for w in words:
        if w["diffuse"] and at <= w["start"] < letters:
            pieces += [(prompt[at : w["start"]], False), (prompt[w["start"] : w["end"]], True)]
            at = w["end"]
    rest = clip(prompt[at:], max(letters - at, 1)) if at < len(prompt) else ""
    return [(clip(text, letters), weak) for text, weak in [*pieces, (rest, False)] if text]


def scatter(pairs: Sequence[tuple[float, float]], intervals: Sequence[tuple[float, float]] = ()) -> dict[str, Any]:
    """Measured against predicted rewards, with `intervals` of each prediction; the dashed line is where they are equal."""
    step = max(1, math.ceil(len(pairs) / MOST_DOTS))
    pairs, intervals = pairs[::step], intervals[::step]
    values = [v for pair in [*pairs, *intervals] for v in pair]
    field_ = _Field.of(values, values)
    errors = [
        (field_.x(p), field_.y(low), field_.y(high)) for (p, _), (low, high) in zip(pairs, intervals, strict=False)
    ]
    told = "bars: eight of ten rewards lie in them" if intervals else "dashed: predicted as measured"
    return field_.plot(
        "Each image", "predicted reward", "measured", told, even=True, errors=errors,
        dots=[field_.at(*pair) for pair in pairs], radius=4 if len(pairs) < 60 else 1.8,
    )  # fmt: skip


def reliability(pairs: Sequence[tuple[float, float]]) -> dict[str, Any] | None:
    """Mean measured reward by mean predicted reward, in tenths of the images; None of too few."""
    if len(pairs) < ENOUGH:
        return None
    ordered = sorted(pairs)
    bounds = [round(i * len(ordered) / BINS) for i in range(BINS + 1)]
    parts = [ordered[a:b] for a, b in pairwise(bounds) if b > a]
    means = [(sum(p for p, _ in part) / len(part), sum(m for _, m in part) / len(part)) for part in parts]
    values = [v for pair in means for v in pair]
    field_ = _Field.of(values, values)
    at = [field_.at(*pair) for pair in means]
    told = "on the dashed line a prediction is right on average"
    return field_.plot(
        "Reliability", "mean predicted, by tenths", "mean measured", told, even=True, dots=at, path=at, radius=4
    )


def curve(title: str, values: Sequence[float], x: str, y: str) -> dict[str, Any]:
    """A line through values that follow each other."""
    field_ = _Field.of([1, max(len(values), 2)], values)
    path = [field_.at(i, v) for i, v in enumerate(values, 1)]
    return field_.plot(title, x, y, "", path=path, dots=path[-1:], radius=4)


@dataclass(frozen=True)
class _Field:
    """From values to places in a plot's drawing."""

    low_x: float
    high_x: float
    low_y: float
    high_y: float

    @classmethod
    def of(cls, xs: Sequence[float], ys: Sequence[float]) -> _Field:
        def wide(values: Sequence[float]) -> tuple[float, float]:
            finite = [v for v in values if math.isfinite(v)] or [0.0]
            low, high = min(finite), max(finite)
            edge = (high - low) * 0.06 or 0.5
            return low - edge, high + edge

        return cls(*wide(xs), *wide(ys))

    def x(self, value: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * (value - self.low_x) / (self.high_x - self.low_x), 1)

    def y(self, value: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * (value - self.low_y) / (self.high_y - self.low_y), 1)

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self.x(x), self.y(y)

    def plot(self, title: str, x: str, y: str, told: str, even: bool = False, **marks: Any) -> dict[str, Any]:
        low, high = max(self.low_x, self.low_y), min(self.high_x, self.high_y)
        return {"errors": [], "path": [], "dots": []} | {
            "title": title, "x": x, "y": y, "told": told,
            "even": (*self.at(low, low), *self.at(high, high)) if even and high > low else (),
            "ticks_x": [{"at": self.x(v), "text": f"{v:.2f}"} for v in _ticks(self.low_x, self.high_x)],
            "ticks_y": [{"at": self.y(v), "text": f"{v:.2f}"} for v in _ticks(self.low_y, self.high_y)],
        } | marks  # fmt: skip


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers between two."""
    size = 10 ** math.floor(math.log10(high - low))
    step = next(s for s in (size / 5, size / 2, size, 2 * size) if (high - low) / s <= 6)
    first = math.ceil(low / step)
    return [i * step for i in range(first, math.floor(high / step) + 1)]
