"""What a notebook shows of records, and their tables for pandas. Everything that people or models wrote is escaped.

Comes in: a headline, facts, rows, pictures. Goes out: a piece of HTML that needs nothing from elsewhere.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from .errors import InputError

SIDE = 256  # pixels of a picture in a notebook
SHORT = 60  # characters of a prompt in one line
_PIECE = """<div style="font-family:system-ui,sans-serif;display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start">
{%- for caption, url in pictures %}<figure style="margin:0;max-width:{{ side }}px">
<img src="{{ url }}" alt="{{ caption }}" style="max-width:100%"><figcaption>{{ caption }}</figcaption></figure>{% endfor %}
<div><strong>{{ title }}</strong>
{%- for name, value in facts.items() %}<br>{{ name }}: {{ value }}{% endfor %}
{%- if rows %}<table><thead><tr>{% for c in head %}<th>{{ c }}</th>{% endfor %}</tr></thead><tbody>
{%- for row in rows %}<tr>{% for c in row %}<td style="text-align:left">{{ c }}</td>{% endfor %}</tr>{% endfor %}</tbody></table>
{%- endif %}</div></div>"""


class Pictured:
    """A record with a picture: the one that it was made with, or that of its file, read when it is first asked for."""

    image_file: str | None
    # None of a dataclass's fields: this class is no dataclass.
    _picture: Image.Image | None = None
    _before: Image.Image | None = None
    _make_before: Callable[[Any], Image.Image] | None = None

    @property
    def image(self) -> Image.Image | None:
        """The finished picture; None where there is none. Raises `InputError` when its file is gone or is no picture."""
        if self._picture is None and self.image_file is not None:
            self._picture = read_picture(self.image_file)
        return self._picture

    def keep_picture(self, picture: Image.Image | None) -> None:
        """Take the picture that belongs to this record."""
        self._picture = picture


def read_picture(path: Path | str) -> Image.Image:
    """The picture of a file; raises `InputError` when it is gone or is no picture."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    except FileNotFoundError as error:
        raise InputError(f"the picture {str(path)!r} is gone; it was moved or deleted") from error
    except Exception as error:  # a damaged file makes Pillow raise classes of many kinds
        raise InputError(f"{str(path)!r} is no picture that can be read ({error})") from error


def short(text: str, most: int = SHORT) -> str:
    """A text on one line, quoted, cut between words where it is long."""
    line = " ".join(text.split())
    if len(line) > most:
        line = line[:most].rsplit(" ", 1)[0] + " …"
    return repr(line)


def figure(value: float | None) -> str:
    """A reward in three decimals; a dash for none."""
    return "–" if value is None else f"{value:.3f}"


def data_url(image: Image.Image, side: int = SIDE, kind: str = "PNG") -> str:
    """A picture as a URL that carries it, its longer side `side` pixels at most; `kind` is PNG, or JPEG for small files."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, kind, **({"quality": 82} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def piece(
    title: str, facts: Mapping[str, Any], head: Sequence[str] = (), rows: Iterable[Sequence[Any]] = (),
    pictures: Iterable[tuple[str, Image.Image | None]] = (),
) -> str:  # fmt: skip
    """A piece of HTML: pictures with captions, a headline, facts, a table. All text is escaped."""
    from jinja2 import Environment

    shown = [(caption, data_url(image)) for caption, image in pictures if image is not None]
    template = Environment(autoescape=True).from_string(_PIECE)
    told = {k: v for k, v in facts.items() if v not in (None, "")}
    return template.render(title=title, facts=told, head=head, rows=list(rows), pictures=shown, side=SIDE)


def picture_or_none(record: Pictured) -> Image.Image | None:
    """A record's picture for showing; None where its file is gone, which is no reason not to show the rest."""
    try:
        return record.image
    except InputError:
        return None


def frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a pandas DataFrame; raises `InputError` where pandas isn't installed."""
    try:
        import pandas
    except ImportError as error:
        raise InputError("to_pandas() needs pandas: pip install 'promptprobe[notebook]'") from error
    return pandas.DataFrame(list(rows))
