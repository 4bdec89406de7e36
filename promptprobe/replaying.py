"""The same image again, from the record that it carries: what somebody else's picture may make us load.

Comes in: a PNG file. Goes out: the image made anew, and how far it differs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .calling import check_settings
from .errors import InputError, PromptProbeError, reason_of
from .events import OnEvent
from .files import check_picture, write_together
from .options import LoadingOptions, check, names_of
from .pipelines import load_pipeline, loaded_of, loading_here
from .pnginfo import png_bytes, read_record
from .runs import picture_of, tell_notes, telling_steps
from .seeds import seeds_from
from .sizes import check_world_size
from .text import clean_prompt, printable
from .worlds import is_built_in, name_since

NAMES_MORE = ("lora", "config", "revision", "variant")  # options of loading that name more than the model


def replay(
    image: Path | str,
    out: Path | str | None = None,
    *,
    model: str | Path | None = None,
    trust_record: bool = False,
    on_event: OnEvent | None = None,
) -> tuple[Any, int]:
    """Make the image of a PNG file again from the record it carries; return it and the largest pixel difference.

    The record is data that anybody may have written: of itself only a built-in world is loaded. `model` is loaded in place
    of the one that it names, and with `trust_record` all that it names is, adapters too.
    With `out`, a .png file, the new image is written there. A device that this machine has not is replaced, and `on_event` is told
    `note` with a `text` for that, and each `step` of the `steps`. Raises `InputError` when the file carries no record that can be replayed.
    """
    import numpy as np

    from .rewards.images import open_image

    out = None if out is None else check_picture(out)
    record = read_record(image)
    try:
        prompt, seed = clean_prompt(record["best_prompt"]), int(record["seed"])
        steps = record["settings"]["steps"]
        named = name_since(str(record["settings"]["model"]), str(record.get("version", "")))
        call, loading = dict(record["call"]), dict(record["loading"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the record of {str(image)!r} lacks what a replay needs: {error}") from error
    unknown = sorted(set(loading) - {*names_of(LoadingOptions)})
    if unknown:
        raise InputError(f"the record of {str(image)!r} has an unknown loading option {unknown[0]!r}")
    check("steps", steps)
    seeds_from(seed, 1)
    for name, value in (*call.items(), *loading.items()):
        _check_recorded(name, value)
    model = _trusted(named, model, loading, trust_record)
    check_world_size(model, call)
    loading, notes = loading_here(loading)
    pipeline = load_pipeline(model, **loading)
    tell_notes(on_event, [*notes, *loaded_of(pipeline).notes])
    check_settings(pipeline, call)
    try:
        made = picture_of(pipeline, steps, call, prompt, seed, telling_steps(on_event, steps))
    except PromptProbeError:
        raise
    except Exception as error:  # what a record says may be of a right name and kind and yet be no sense to a pipeline
        raise InputError(f"the record of {str(image)!r} can't be made again: {reason_of(error)}") from error
    before, now = np.asarray(open_image(image), int), np.asarray(made.convert("RGB"), int)
    difference = 255 if before.shape != now.shape else int(abs(before - now).max())
    if out is not None:
        write_together({out: png_bytes(made, record)})
    return made, difference


def _trusted(named: str, model: str | Path | None, loading: dict[str, Any], trust: bool) -> str | Path:
    """The model to load for a record that names one; raises `InputError` for what nobody said may be loaded."""
    if trust:
        return named if model is None else model
    if model is None and not is_built_in(named):
        raise InputError(
            f"the record names the model {printable(named, 200)!r}; give --model for what to load, or --trust-record to load it"
        )
    more = [n for n in NAMES_MORE if loading.get(n)]
    if more:
        raise InputError(
            f"the record also wants {more[0]} {printable(str(loading[more[0]]), 200)!r}; give --trust-record to load that, too"
        )
    return named if model is None else model


def _check_recorded(name: str, value: Any) -> None:
    """Raise `InputError` for an option in a record that is no plain value, or out of its range."""
    plain = (str, int, float, bool, type(None))
    if not isinstance(value, plain) and not (isinstance(value, list) and all(isinstance(v, plain) for v in value)):
        raise InputError(f"the record's {printable(name, 100)} is a {type(value).__name__}; it must be a plain value")
    if name in ("height", "width") and value is not None:
        check(name, value)
    if name == "max_sequence_length" and not (isinstance(value, int) and 0 < value <= 4096):
        raise InputError(f"the record's {name} is {value!r}; it must be from 1 to 4096")
