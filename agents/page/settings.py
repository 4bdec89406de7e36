"""The settings that a server was started with, by group, for people: name, value, what it means, and the flag."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...options import GROUPS, OPTIONS, PlanOptions, names_of
from ..plan import Plan


def settings_of(plan: Plan, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Groups of settings; `given` are the options of the command line, and what was chosen for `auto` is the plan's."""
    chosen: dict[str, Any] = {
        "judge": plan.scorer.judge.name,
        "rewriter": plan.rewriter_name,
        "guard": plan.guard,
        "tau": plan.tau,
    }
    chosen |= {
        "scheduler": plan.origin.scheduler,
        "reward": plan.label,
        **{k: v for k, v in plan.scorer.loading.items() if v},
    }
    names = names_of(PlanOptions)
    groups = []
    for group in GROUPS:
        rows = [
            {
                "name": name.replace("_", " "), "value": _text(given.get(name, chosen.get(name, OPTIONS[name].option.default)), chosen.get(name)),
                "help": OPTIONS[name].option.help, "flag": OPTIONS[name].flag,
            }
            for name in names if OPTIONS[name].group == group
        ]  # fmt: skip
        if rows:
            groups.append({"group": group, "rows": rows})
    return groups


def _text(value: Any, chosen: Any = None) -> str:
    if value in ("auto", None) and chosen not in (None, "auto"):
        return f"{chosen} (auto)" if value == "auto" else str(chosen)
    if value is None or value == () or value == {}:
        return "–"
    if isinstance(value, str) and "://" in value:  # without what may stand before an @
        return f"{urlsplit(value).scheme}://{urlsplit(value).hostname}"
    return value.name if isinstance(value, Path) else str(value)
