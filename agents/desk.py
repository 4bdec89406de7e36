"""What a session's commands work on: the kept state, plain JSON, and the desk beside it with what is loaded and probed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from ..errors import InputError
from ..scoring import Scored
from ..sheets import Tile
from .plan import Plan
from .rewrites import OnWait
from .rounds import shown


class SessionState(TypedDict, total=False):
    """What is kept after every command.

    `model` is what it was begun with, absent from sessions of version 0.1. `facts` are what the person changed about the prompt's (`session_facts`), `spent` what the LLM took so far. `history` are
    earlier states for undo, `said` is the answer to the last command, `show` whether it calls for the list.
    """

    model: str | None
    prompt: str
    current: int
    seed: int
    tau: float | None
    pinned: list[str]
    facts: dict[str, list[str]]
    candidates: list[dict[str, Any]]
    round: int
    files: list[str]
    spent: dict[str, Any]
    history: list[dict[str, Any]]
    command: str
    said: str
    show: bool


@dataclass
class Desk:
    """A loaded plan, the folder for files, what was probed, by prompt, seed and what was asked for, and who is told that an
    LLM is waited for.

    `tiles` are the pictures that the last command made. `asked` is the session's own prompt, against which predicted images are measured; empty before there is one.
    """

    plan: Plan
    out: Path
    scored: dict[tuple[str, int, str], Scored] = field(default_factory=dict)
    on_wait: OnWait | None = None
    asked: str = ""
    tiles: list[Tile] = field(default_factory=list)

    def take_tiles(self) -> list[Tile]:
        """The pictures that the last command made, once."""
        taken, self.tiles = self.tiles, []
        return taken

    def score(self, prompts: Sequence[str], seed: int) -> list[Scored]:
        """Scores on one seed; what is known is not computed again, and none is given up early."""
        missing = [p for p in dict.fromkeys(prompts) if (p, seed, self.asked or p) not in self.scored]
        if missing:
            against = [self.asked or p for p in missing]
            for s in self.plan.scorer.score(missing, [seed], groups=range(len(missing)), against=against):
                self.scored[s.prompt, seed, self.asked or s.prompt] = s
        return [self.scored[p, seed, self.asked or p] for p in prompts]


Act = Callable[[SessionState, Desk, str], SessionState]


def rounded(tau: float | None) -> float | None:
    """A threshold as it is kept."""
    return None if tau is None else round(tau, 5)


def first_state(plan: Plan) -> SessionState:
    """A session in which nothing was said."""
    return {
        "model": plan.origin.model, "prompt": "", "current": 0, "seed": plan.seed, "tau": rounded(plan.threshold), "pinned": [], "candidates": [],
        "round": 0, "facts": {}, "files": [], "spent": {}, "history": [],
    }  # fmt: skip


def candidate(
    desk: Desk, seed: int, number: int, prompt: str, strategy: str, unsure: Sequence[str] = ()
) -> dict[str, Any]:
    """The record of a candidate, probed on `seed`; `unsure` is what nobody could decide of its meaning."""
    scored = desk.score([prompt], seed)[0]
    return {"id": number, "prompt": scored.prompt, "strategy": strategy, "unsure": list(unsure)} | shown(scored)


def numbers(state: SessionState, text: str, least: int = 1) -> list[int]:
    """Candidate numbers in a text; raises `InputError` for other words, unknown numbers, or fewer than `least`."""
    try:
        given = [int(x) for x in text.split()]
    except ValueError as error:
        raise InputError(f"{text!r} are no numbers; /list shows the candidates") from error
    wrong = [n for n in given if not 0 <= n < len(state["candidates"])]
    if wrong or len(given) < least:
        most = len(state["candidates"]) - 1
        more = f", not {wrong[0]}" if wrong else ""
        raise InputError(f"give {least} or more candidate numbers from 0 to {most}{more}")
    return given
