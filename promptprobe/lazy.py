"""Attributes of a package that import their module when they are first used, and are listed before that (PEP 562)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def attributes_of(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__`: `modules` names the module of each attribute."""

    def get(name: str) -> Any:
        if name in modules:
            return getattr(import_module(f".{modules[name]}", package), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get


def listing_of(names: Sequence[str]) -> Callable[[], list[str]]:
    """A package's `__dir__`: the public `names`, which `dir()` and tab completion show."""
    return lambda: sorted(names)
