"""The facts of a session's prompt: shown by number, left out, added and pinned by the person; rewrites are checked against them.

In the kept state, `facts` has the texts of those `dropped` and `pinned`, and what was typed for those `added`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import InputError
from ..facts import Fact, Facts, facts_of
from .checking import Guarding
from .desk import Desk, SessionState

MOST_ADDED = 20
_USAGE = (
    "/facts, /facts drop N..., /facts keep N..., /facts pin N..., /facts unpin N..., /facts add TEXT, or /facts reset"
)


def guarding_of(state: SessionState, desk: Desk) -> Guarding:
    """How rewrites of the current wording are checked."""
    edits = state.get("facts") or {}
    if not any(edits.values()):
        return Guarding(desk.plan.guard)
    dropped = set(edits.get("dropped", ()))
    read = facts_of(_wording(state))
    kept = tuple(f for f in _facts(state) if f.text not in dropped)
    return Guarding(desk.plan.guard, Facts(read.prompt, kept, read.language, read.cut), tuple(edits.get("pinned", ())))


def facts(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Show the facts of the current wording, or change which of them rewrites must keep."""
    edits = {key: list((state.get("facts") or {}).get(key, ())) for key in ("dropped", "pinned", "added")}
    what, _, text = rest.partition(" ")
    if what in _LISTS:
        name, puts_in = _LISTS[what]
        chosen = [f.text for f in _numbered(state, text)]
        edits[name] = [t for t in edits[name] if t not in chosen] + (chosen if puts_in else [])
    elif what == "add":
        added = facts_of(text).facts
        if not added or len(edits["added"]) >= MOST_ADDED:
            raise InputError(
                f"{text[:80]!r} names nothing to keep; give a phrase such as /facts add two red cars"
                if not added else f"{MOST_ADDED} facts were added; /facts reset takes them out"
            )  # fmt: skip
        edits["added"].append(text.strip())
    elif what == "reset":
        edits = {key: [] for key in edits}
    elif what:
        raise InputError(f"/facts {what[:40]} is unknown; there is {_USAGE}")
    now: SessionState = {**state, "facts": edits}
    return {"facts": edits, "said": "\n".join(_shown(now, desk)), "show": False} if what else {
        "said": "\n".join(_shown(now, desk)), "show": False
    }  # fmt: skip


_LISTS = {"drop": ("dropped", True), "keep": ("dropped", False), "pin": ("pinned", True), "unpin": ("pinned", False)}


def _wording(state: SessionState) -> str:
    return state["candidates"][state["current"]]["prompt"]


def _facts(state: SessionState) -> list[Fact]:
    """Those that are read in the current wording, then those that the person added."""
    added = (state.get("facts") or {}).get("added", ())
    found = [*facts_of(_wording(state)), *(f for text in added for f in facts_of(text))]
    return list({f.text: f for f in found}.values())


def _numbered(state: SessionState, text: str) -> Sequence[Fact]:
    known = _facts(state)
    try:
        given = [int(x) for x in text.split()]
    except ValueError as error:
        raise InputError(f"{text[:80]!r} are no numbers of facts; /facts shows them") from error
    wrong = [n for n in given if not 1 <= n <= len(known)]
    if wrong or not given:
        raise InputError(f"give numbers from 1 to {len(known)}" + (f", not {wrong[0]}" if wrong else ""))
    return [known[n - 1] for n in given]


def _shown(state: SessionState, desk: Desk) -> list[str]:
    edits: dict[str, Any] = dict(state.get("facts") or {})
    marks = {"dropped": "need not be kept", "pinned": "must surely be kept"}
    lines = []
    for n, fact in enumerate(_facts(state), 1):
        told = [said for key, said in marks.items() if fact.text in edits.get(key, ())]
        lines.append(f"{n:3}  {fact.kind:9}  {fact.text}" + (f"   ({', '.join(told)})" if told else ""))
    language = facts_of(_wording(state)).language
    if language != "english":
        lines.append(f"of this language ({language}) only quoted text, numbers and names are read")
    if desk.plan.guard == "off":
        lines.append("the guard is off: rewrites are not checked against them")
    return [*(lines or ["no facts were read"]), _USAGE]
