"""What a session's commands work on: the kept state, plain JSON, and the desk beside it with what is loaded and probed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypedDict

from ..errors import InputError
from ..events import OnStep
from ..scoring import Scored
from ..sheets import Tile
from .plan import Plan
from .rewrites import OnWait
from .rounds import shown


class SessionState(TypedDict, total=False):
    """What is kept after every command.

    `model` is what it was begun with, absent from sessions of version 0.1. `facts` are what the person changed about the prompt's (`session_facts`), `spent` what the LLM took so far. `history` are
    earlier states for undo. `seeds` are the columns in which wordings are compared (default: `seed` alone), `cells` what was last
    seen of a wording on a seed, by `cell_key`; `rejected` are wordings (`2`) and cells (`2@7`) that the person turned down,
    `finished` says what each image is of. `said` is the answer to the last command, `show` whether it calls for the list.
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
    seeds: list[int]
    cells: dict[str, dict[str, Any]]
    rejected: list[str]
    finished: list[dict[str, Any]]
    spent: dict[str, Any]
    history: list[dict[str, Any]]
    command: str
    said: str
    show: bool


@dataclass
class Desk:
    """A loaded plan, the folder for files, what was probed, by prompt, seed and what was asked for, and who is told that an
    LLM is waited for, a step is done (`on_step`), something else is begun (`on_doing`), trajectories were looked at (`on_look`).

    `tiles` are the pictures that the last command made. `asked` is the session's own prompt, against which predicted images are measured; empty before there is one.
    """

    plan: Plan
    out: Path
    scored: dict[tuple[str, int, str], Scored] = field(default_factory=dict)
    on_wait: OnWait | None = None
    asked: str = ""
    on_step: OnStep | None = None
    on_doing: Callable[[str], None] | None = None
    on_look: Callable[[Sequence[Scored]], None] | None = None
    tiles: list[Tile] = field(default_factory=list)

    def take_tiles(self) -> list[Tile]:
        """The pictures that the last command made, once."""
        taken, self.tiles = self.tiles, []
        return taken

    def score(self, prompts: Sequence[str], seed: int) -> list[Scored]:
        """Scores on one seed; what is known is not computed again, what was paused before the probe step goes on to it."""
        scorer, each = self.plan.scorer, list(dict.fromkeys(prompts))
        missing = [p for p in each if self.known(p, seed) is None]
        if missing:
            self.tell(f"probing {len(missing)} wordings on seed {seed}")
            against = [self.asked or p for p in missing]
            self.keep(scorer.score(missing, [seed], self.on_step, range(len(missing)), against=against))
        self.go_on([(p, seed) for p in each if self.step_of(p, seed) < scorer.probe_step], scorer.probe_step)
        return [self.scored[p, seed, self.asked or p] for p in prompts]

    def known(self, prompt: str, seed: int) -> Scored | None:
        """What is paused of a wording on a seed, if anything."""
        return self.scored.get((prompt, seed, self.asked or prompt))

    def step_of(self, prompt: str, seed: int) -> int:
        """The step at which a wording is paused on a seed."""
        return self.scored[prompt, seed, self.asked or prompt].trajectories[0][0].step

    def go_on(self, pairs: Sequence[tuple[str, int]], step: int) -> None:
        """Denoise paused wordings on to `step` and look at them there; nothing is done for those that are there."""
        before = [self.scored[p, s, self.asked or p] for p, s in pairs if self.step_of(p, s) < step]
        if before:
            self.tell(f"going on to step {step} with {len(before)}")
            scorer, against = self.plan.scorer, [self.asked or s.prompt for s in before]
            seen = scorer.look_again(before, scorer.judge, step, against, self.on_step)
            self.keep([replace(s, dropped=None) for s in seen])  # who goes on is dropped no more

    def keep(self, scored: Sequence[Scored]) -> None:
        """Remember trajectories of one seed each that were looked at, and tell of them."""
        for s in scored:
            self.scored[s.prompt, s.seeds[0], self.asked or s.prompt] = s
        if self.on_look:
            self.on_look(scored)

    def tell(self, what: str) -> None:
        """Say what is begun."""
        if self.on_doing:
            self.on_doing(what)


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


def places(state: SessionState, text: str, least: int = 1) -> list[tuple[int, int]]:
    """Candidate numbers and seeds in a text such as `0 2@7`; without one the seed is the session's. Raises as `numbers`, and
    for a seed that is no column."""
    parts = [part.partition("@") for part in text.split()]
    chosen = numbers(state, " ".join(number for number, _, _ in parts), least)
    columns = state.get("seeds") or [state["seed"]]
    seeds = [state["seed"] if not at else _column(seed, columns) for _, at, seed in parts]
    return list(zip(chosen, seeds, strict=True))


def _column(text: str, columns: Sequence[int]) -> int:
    if not text.isdecimal() or int(text) not in columns:
        raise InputError(
            f"{text[:40]!r} is no seed that is shown ({', '.join(map(str, columns))}); /seeds shows others"
        )
    return int(text)


def cell_key(prompt: str, seed: int, asked: str) -> str:
    """The name of a wording on a seed, measured against what was asked for."""
    return sha256(json.dumps([prompt, seed, asked]).encode()).hexdigest()[:20]
