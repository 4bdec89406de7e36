"""Data from files that anybody may have written or damaged: checked and bounded before anything reads it.

Comes in: parsed JSON, or the text that an image carries. Goes out: the same, of the right kinds, or one line that says what is
wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from .errors import InputError
from .text import MAX_CHARACTERS

MAX_RECORD = 2**22  # characters
DEEPEST = 12  # lists and objects in each other
MOST_CANDIDATES = 10_000

_Prompt = Annotated[str, Field(max_length=MAX_CHARACTERS)]
_Line = Annotated[str, Field(max_length=MAX_CHARACTERS)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Candidate(_Strict):
    prompt: _Prompt
    score: FiniteFloat | int | None = None
    rejected: _Line | None = None
    unsure: list[_Line] = []


class _Record(_Strict):
    """What of a record is read. Other fields are kept as they are."""

    prompt: _Prompt | None = None
    best_prompt: _Prompt | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    stop_reason: _Line | None = None
    predicted_reward: FiniteFloat | int | None = None
    reward: FiniteFloat | int | None = None
    tau: FiniteFloat | int | None = None
    rewriter: _Line | None = None
    version: Annotated[str, Field(max_length=100)] | None = None
    settings: dict[str, Any] = {}
    call: dict[str, Any] = {}
    loading: dict[str, Any] = {}
    candidates: Annotated[list[_Candidate], Field(max_length=MOST_CANDIDATES)] = []


def checked(kind: Any, value: Any) -> Any:
    """The value as `kind`, a type, with its parts converted as pydantic does; raises `ValueError` in one line that names the
    part that is wrong."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise ValueError(f"{where}: {first['msg']}") from None


def record_of(text: str) -> dict[str, Any]:
    """The record in a picture's text.

    Raises `InputError` for what is too long, too deep, no JSON object, or has a field of another kind.
    """
    if len(text) > MAX_RECORD:
        raise InputError(f"it has {len(text):,} characters, at most {MAX_RECORD:,} are read")
    try:
        record = json.loads(text, parse_constant=_no_number)
        _check_depth(record)
        checked(_Record, record)
    except RecursionError:
        raise InputError(f"it is deeper than {DEEPEST} levels") from None
    except ValueError as error:
        raise InputError(str(error)) from None
    return record


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _check_depth(value: Any, depth: int = 0) -> None:
    if depth > DEEPEST:
        raise ValueError(f"it is deeper than {DEEPEST} levels")
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            _check_depth(inner, depth + 1)
