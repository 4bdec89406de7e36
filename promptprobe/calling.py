"""One call of a pipeline: what it may be told, how it tells of its steps, and how it is stopped between two of them.

Comes in: a pipeline, prompts, generators, settings. Goes out: what the pipeline's own `__call__` makes.
"""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Mapping
from numbers import Integral, Real
from types import UnionType
from typing import Any, Union, get_args, get_origin

import torch

from .backbones import backbone_of
from .errors import InputError, ModelError
from .options import ENGINES_OWN
from .solver import listening
from .text import check_text


def check_settings(pipeline, settings: Mapping[str, Any]) -> None:
    """Raise `InputError` for a setting that the pipeline doesn't take, that would not be the same for every prompt, or
    that is the engine's own."""
    taken = inspect.signature(pipeline.__call__).parameters
    for key, value in settings.items():
        if key in ENGINES_OWN:
            raise InputError(f"{key} is set by the engine; {ENGINES_OWN[key]}")
        if key.endswith(("_embeds", "_embeds_mask", "_attention_mask")):
            raise InputError(f"{key} is set by the engine, which has the pipeline encode every text; give the text")
        if key.startswith("negative_prompt") and not isinstance(value, (str, type(None))):
            raise InputError(f"{key} is {value!r}; give one text, it is the same for every prompt and seed")
        if key not in taken:
            raise InputError(f"{type(pipeline).__name__} takes no {key!r}")
        if isinstance(value, str):
            check_text(value, key)
        if wanted := _other_kind(value, taken[key]):
            raise InputError(f"{key} is {value!r:.80}; {type(pipeline).__name__} takes {wanted}")


_PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "names with values",
          list: "a list", tuple: "a list"}  # fmt: skip


def _other_kind(value: Any, parameter: inspect.Parameter) -> str:
    """What a parameter takes, in words, where its annotation names plain kinds only and the value is of none of them."""
    hint = parameter.annotation
    union = isinstance(hint, UnionType) or get_origin(hint) is Union
    named = {get_origin(k) or k for k in (get_args(hint) if union else (hint,))}
    kinds = named - {type(None)}
    if not kinds <= {*_PLAIN} or (value is None and (named != kinds or parameter.default is None)):
        return ""
    return (
        ""
        if any(_fits(value, k) for k in kinds)
        else " or ".join(dict.fromkeys(said for k, said in _PLAIN.items() if k in kinds))
    )


def _fits(value: Any, kind: type) -> bool:
    """Whether a value does for a kind: numbers and lists of NumPy's and PyTorch's do as well."""
    if kind in (list, tuple):
        return hasattr(value, "__iter__") and not isinstance(value, (str, bytes, Mapping))
    does: dict[type, type] = {int: Integral, float: Real, dict: Mapping}
    return isinstance(value, does.get(kind, kind)) and (kind is bool or not isinstance(value, bool))


class Stopped(Exception):
    """Raised in a callback of a pipeline that can't be interrupted otherwise."""


def call(pipeline, *, prompts, generators, steps, callback, output, settings, told=None, gradient=False, **more):
    """One call of the pipeline, by keyword, without its own progress bar; None when the callback stopped it.

    `told` hears what each evaluation predicted, as in `listening`. With `gradient` the call goes past the pipeline's own
    `torch.no_grad`.

    Raises `ModelError` when the pipeline tells nobody after its steps, `InputError` for what its own check refuses.
    """
    taken = inspect.signature(pipeline.__call__).parameters
    if "callback_on_step_end" in taken:
        more["callback_on_step_end"] = callback
    elif "callback_steps" in taken:  # PixArt: an older kind of callback, and no way to interrupt
        if getattr(pipeline.scheduler, "order", 1) != 1:
            raise ModelError(
                f"{type(pipeline).__name__} tells nobody of the two evaluations in a step of "
                f"{type(pipeline.scheduler).__name__}, so it can't be paused with it; choose another scheduler"
            )

        def older(index: int, timestep, latents: torch.Tensor) -> None:
            callback(pipeline, index, timestep, {"latents": latents})

        more |= {"callback": older, "callback_steps": 1}
    else:
        raise ModelError(f"{type(pipeline).__name__} has no callback_on_step_end, so it can't be paused")
    if "negative_prompt" not in inspect.signature(type(pipeline).encode_prompt).parameters:
        # Pipelines with a second call for guidance encode it on its own, and want one for each prompt.
        own = {k: v for k, v in settings.items() if k.startswith("negative_prompt") and isinstance(v, str)}
        settings = settings | {k: [v] * len(prompts) for k, v in own.items()}
    bar = dict(getattr(pipeline, "_progress_bar_config", {}))
    pipeline.set_progress_bar_config(disable=True)
    settings = {**backbone_of(pipeline).defaults, **settings}
    run = functools.partial(inspect.unwrap(type(pipeline).__call__), pipeline) if gradient else pipeline
    try:
        with listening(pipeline.scheduler, generators, told):
            return run(
                prompt=list(prompts),
                generator=generators,
                num_inference_steps=steps,
                output_type=output,
                **settings,
                **more,
            ).images
    except Stopped:
        return None
    except ValueError as error:
        if any(frame.name == "check_inputs" for frame in traceback.extract_tb(error.__traceback__)):
            raise InputError(f"{type(pipeline).__name__}: {str(error).partition(chr(10))[0]}") from error
        raise
    finally:
        pipeline.set_progress_bar_config(**{"disable": False, **bar})
        pipeline.maybe_free_model_hooks()
