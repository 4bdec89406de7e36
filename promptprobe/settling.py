"""The options of a call, one beside the other: what is given, the defaults of the rest, and what would do nothing.

`UNUSED` is the one table of options that do nothing beside others. They are refused by name, in commands, functions and
tools alike. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import InputError
from .options import (
    OPTIONS,
    LLMOptions,
    PlanOptions,
    SessionOptions,
    check,
    default_of,
    names_of,
    refuse_unknown,
    said_of,
)

OWN = object()  # stands for any object of the caller's own
_LLM = tuple(n for n in names_of(LLMOptions) if n not in ("rewriter", "llm_price"))
_BLIND = ("probe", "gap", "focus")  # judges that decode nothing


@dataclass(frozen=True)
class Unused:
    """A row: `names` do nothing while each option of `beside` has one of its values; `within` says where (nowhere named:
    everywhere). `measured` is the name of what measures images, known once it is loaded."""

    names: tuple[str, ...]
    beside: Mapping[str, tuple[Any, ...]]
    within: tuple[str, ...] = ()


UNUSED = (
    Unused((*_LLM, "llm_price", "llm_calls", "max_llm_calls", "max_llm_tokens"), {"rewriter": ("offline",)}),
    Unused(_LLM, {"rewriter": (OWN,)}),
    Unused(("judge", "last_judge", "probe", "objective", "probe_step", "preview_decoder", "diverse"), {"policy": ("full",)}),
    Unused(("judge", "probe", "objective"), {"policy": ("decoded",)}),
    Unused(("diverse", "last_judge"), {"policy": ("staged",)}),
    Unused(("diverse",), {"top": (1,)}),
    Unused(("reward", "preview_decoder"), {"judge": _BLIND}, within=("score",)),
    Unused(("preview_decoder",), {"policy": ("racing", "fixed", "staged"), "judge": _BLIND}),
    Unused(("preview_decoder",), {"measured": (None,), "judge": _BLIND}),
    Unused(("workers",), {"engine": ("local",)}),
    Unused(("wildcards",), {"expand": (False,)}),
    Unused(("host", "mcp_port"), {"transport": ("stdio",)}),
    Unused(("seeds_per_prompt", "probe_steps", "blocks", "seed"), {"only_texts": (True,)}),
    Unused(("filter_step", "share", "wider", "least_spread"), {"filter": ("none",)}, within=("grpo",)),
    Unused(("noisy_steps", "noise"), {"likelihood": ("matching",)}, within=("grpo",)),
    Unused(("draws",), {"likelihood": ("path",)}, within=("grpo",)),
    Unused(("probe", "objective"), {"filter": ("preview", "random", "none")}, within=("grpo",)),
    Unused((*names_of(PlanOptions), *(n for n in names_of(SessionOptions) if n == "name")), {"sessions": (True,)}),
)  # fmt: skip


def settle(kind: type, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """All options of `kind`: those given, checked, and the defaults of the others.

    Raises `UnknownOptionError` for an option that `where` has not, `InputError` for one that would do nothing, and as
    `check`.
    """
    refuse_unknown(kind, given, where)
    settled = {name: check(name, given[name]) if name in given else default_of(name) for name in names_of(kind)}
    refuse_unused(settled, where)
    return settled


def refuse_unused(given: Mapping[str, Any], where: str = "", **known: Any) -> None:
    """Raise `InputError` for the first option of `given` that would do nothing, with its value and the remedy.

    A value equal to the default is none of the caller's. `known` is what became of options since, such as a judge chosen.
    """
    for told in unused(given, where, **known):
        raise InputError(told)


def unused(given: Mapping[str, Any], where: str = "", **known: Any) -> list[str]:
    """A line for each option that would do nothing; as `refuse_unused`."""
    state = {**given, **known}
    told = []
    for row in UNUSED:
        if row.within and where not in row.within:
            continue
        if not all(name in state and _is(state[name], values) for name, values in row.beside.items()):
            continue
        beside = " and ".join(_beside(name, state[name]) for name in row.beside)
        change = " or ".join(_said(name) for name in row.beside)
        told += [
            f"{_said(name)} is {_shown(given[name])}, which does nothing {beside}; leave it out, or change {change}"
            for name in row.names
            if name in given and given[name] != (default_of(name) if name in OPTIONS else None)
        ]
    return told


def _shown(value: Any) -> str:
    """A value as it was given; an object of the caller's own by its name."""
    plain = isinstance(value, (str, int, float, Path, tuple, list, dict))
    return f"{value!r:.80}" if plain else str(getattr(value, "name", type(value).__name__))


def _is(value: Any, values: tuple[Any, ...]) -> bool:
    return value in values or (OWN in values and value is not None and not isinstance(value, str))


def _said(name: str) -> str:
    return said_of(name) if name in OPTIONS else {"measured": "reward"}.get(name, name.replace("_", " "))


def _beside(name: str, value: Any) -> str:
    """An option with its value, in words."""
    if value is None or value is False:
        return f"without {_said(name)}"
    return f"beside {_said(name)}" + (
        "" if value is True else f" {value}" if isinstance(value, (str, int, float)) else " of your own"
    )
