"""Options that are written in a form of their own: τ, prices, names of files and sessions.

Comes in: what a person gave. Goes out: its parts, checked before anything is loaded. Nothing here imports torch.
"""

from __future__ import annotations

import math
import re
from typing import Any

from .errors import InputError

_CHANCE = r"(0(?:\.\d+)?|1(?:\.0+)?|\.\d+)"


def read_tau_form(tau: Any) -> tuple[float | None, float | None]:
    """τ's number and its share or probability: `0.7` is (0.7, None), `q0.8` (None, 0.8), `0.9@0.8` both, `balanced` and `auto` neither.

    Raises `InputError` when it is none of these.
    """
    text = str(tau).strip() if isinstance(tau, (str, int, float)) and not isinstance(tau, bool) else ""
    if text in ("auto", "balanced"):
        return None, None
    if match := re.fullmatch("q" + _CHANCE, text):
        return None, float(match[1])
    if match := re.fullmatch(r"(-?\d+(?:\.\d+)?|-?\.\d+)@" + _CHANCE, text):
        return float(match[1]), float(match[2])
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f"tau is {tau!r:.80}; give a number, balanced, a quantile from q0 to q1 such as q0.8, or reward@probability such as 0.9@0.8"
        )
    return value, None


def prices_of(text: str | None) -> tuple[float, float] | None:
    """Prices of a million input and output tokens, given as `1.6,6.4`; raises `InputError` for anything else."""
    if text is None:
        return None
    try:
        given, got = (float(x) for x in text.split(","))
    except (ValueError, AttributeError) as error:
        raise InputError(
            f"LLM price is {text!r:.80}; give two numbers, for a million input and output tokens"
        ) from error
    if not (math.isfinite(given) and math.isfinite(got) and min(given, got) >= 0):
        raise InputError(f"LLM price is {text!r:.80}; both numbers must be at least 0")
    return given, got


def session_name(name: Any) -> Any:
    """A session's name; raises `InputError` for anything that is no short word."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w][\w.-]{0,63}", name):
        raise InputError(f"session name is {name!r:.80}; use letters, digits, dots and dashes, at most 64")
    return name


def report_file(path: Any) -> Any:
    """The path of a report; raises `InputError` unless it ends in .html."""
    if path is not None and not str(path).lower().endswith((".html", ".htm")):
        raise InputError(f"report is {str(path)!r}; it must end in .html")
    return path
