"""What each command of a session does: from the kept state and what was said to what changes.

`COMMANDS` is the one table of them: help, completion and `act_on` are made from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..events import diffuse_words, spent_in_words, tau_text
from ..grades import grade_in_words, grade_of
from ..options import read_text
from ..runs import notes_on
from ..thresholds import threshold
from ..tokens import clean_prompt
from . import columns, pictures
from .checking import ask, screen
from .choice import best_of, margin_of, scale_of
from .desk import Act, Desk, SessionState, candidate, places, rounded
from .guard import has_word, lost_words
from .plan import cost_of
from .rewrites import RewriteAnswer
from .rounds import family_of, request_of
from .session_facts import facts, guarding_of

MAX_UNDO = 50  # commands
MAX_WISH = 500  # characters
MAX_PINNED = 20  # words at once
TURNED_DOWN = "the person turned it down"
# What /undo brings back. A round alone is no change: it only makes the next /rewrite ask for something else.
UNDONE = ("prompt", "current", "seed", "tau", "pinned", "candidates", "round", "facts", "seeds", "rejected")


def act_on(state: SessionState, desk: Desk, line: str) -> SessionState:
    """What changes with a line: a command, or a wording of the person's own. Raises `InputError` for what can't be done.

    Whatever changed can be undone: what was before is added to the history.
    """
    desk.asked = state.get("prompt", "")
    desk.tiles = []
    changes = _changes(state, desk, line)
    now: SessionState = {**state, **changes}  # type: ignore[typeddict-item]
    desk.asked = now.get("prompt", "")
    cells = columns.with_cells(now, desk)
    if cells != (state.get("cells") or {}):
        changes = {**changes, "cells": cells}
    before: dict[str, Any] = {"facts": {}, "seeds": [], "rejected": []} | {
        key: state[key]  # type: ignore[literal-required]
        for key in UNDONE
        if key in state
    }
    after = before | {key: value for key, value in changes.items() if key in UNDONE}
    if "history" in changes or before | {"round": 0} == after | {"round": 0}:
        return changes
    return {**changes, "history": [*state.get("history", []), before][-MAX_UNDO:]}


def _changes(state: SessionState, desk: Desk, line: str) -> SessionState:
    if not line:
        return {"said": "", "show": False}
    if not line.startswith("/"):
        return wording(state, desk, line)
    name, _, rest = line[1:].partition(" ")
    if name not in COMMANDS:
        raise InputError(f"unknown command /{name[:40]}; /help lists them")
    if COMMANDS[name].needs_prompt and not state.get("candidates"):
        raise InputError("there is no prompt yet: type one")
    return COMMANDS[name].act(state, desk, rest.strip())


def wording(state: SessionState, desk: Desk, text: str) -> SessionState:
    """The prompt, if it is the first; else a candidate of the person's own, or the one that has this wording already."""
    prompt = clean_prompt(text)
    before = state.get("candidates", [])
    for known in before:
        if known["prompt"] == prompt:
            return pick(state, desk, str(known["id"]))
    own = candidate(desk, state["seed"], len(before), prompt, "your own" if before else "as it is")
    missing = lost_words(state.get("pinned", []), prompt) if before else []
    note = f" (lost {', '.join(missing)})" if missing else ""
    changes: SessionState = {
        "candidates": [*before, own], "current": own["id"], "said": "\n".join([verdict(state, desk, own) + note, *notes_on([prompt], desk.plan.scorer.model)]),
        "show": True
    }  # fmt: skip
    return changes if before else {**changes, "prompt": prompt}


def verdict(state: SessionState, desk: Desk, candidate: Mapping[str, Any]) -> str:
    """A candidate's predicted reward in words: against τ, and what the model hardly looks at or did not get."""
    tau = state["tau"]
    side = "" if tau is None else f", {'at or above' if candidate['score'] >= tau else 'below'} {tau_text(tau)}"
    diffuse = diffuse_words(candidate["words"])
    more = f"; hardly looked at: {', '.join(diffuse)}" if diffuse else ""
    cut = f"; the last {candidate['cut_tokens']} tokens did not fit" if candidate["cut_tokens"] else ""
    scorer = desk.plan.scorer
    grade = grade_in_words(grade_of(scorer.judge, candidate["score"], scorer.probe_step, scorer.steps))
    return f"predicted reward {candidate['score']:.3f}{side}{', ' + grade if grade else ''}{more}{cut}"


def rewrite(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """One round of the loop on the current candidate; what was tried anywhere in the session is not offered again."""
    plan, seed, tried = desk.plan, state["seed"], state["candidates"]
    if plan.rewriter is None:
        raise InputError("there is no rewriter: set OPENAI_API_KEY, or start with --rewriter offline")
    current = tried[state["current"]]
    told = [{**c, "rejected": TURNED_DOWN} if str(c["id"]) in state.get("rejected", []) else c for c in tried]
    pinned, number = list(state.get("pinned", [])), state.get("round", 0) + 1
    answer = ask(
        plan.rewriter,
        request_of(
            desk.score([current["prompt"]], seed)[0], current, told, tau=state["tau"], count=plan.candidates,
            round=number, direction=rest[:MAX_WISH], keep=pinned, family=family_of(plan.scorer),
            scale=scale_of(plan.scorer) or (), label=plan.scorer.label,
        ),
        guarding_of(state, desk), on_wait=desk.on_wait,
    )  # fmt: skip
    proposals = screen(
        answer.rewrites[: plan.candidates], current["prompt"], [c["prompt"] for c in tried], pinned, plan.scorer,
        answer.verdicts,
    )  # fmt: skip
    usable = [s for s in proposals if s.rejected is None]
    desk.score([s.prompt for s in usable], seed)
    made = [candidate(desk, seed, i, s.prompt, s.strategy, s.unsure) for i, s in enumerate(usable, start=len(tried))]
    best = best_of([current, *made], margin_of(plan.scorer))
    said = f"best: {best['id']}, {verdict(state, desk, best)}"
    if best is current:
        said = "nothing better than what you have" if made else "no usable rewrite"
    out = [f"out: {s.prompt} ({s.rejected})" for s in proposals if s.rejected]
    spent = spent_by(state.get("spent") or {}, answer, plan.prices)
    money = [f"LLM: {spent_in_words(spent)} in this session"] if answer.requests else []
    return {
        "candidates": [*tried, *made], "round": number, "said": "\n".join([said, *out, *answer.notes, *money]),
        "show": bool(made), "spent": spent,
    }  # fmt: skip


def spent_by(before: dict[str, Any], answer: RewriteAnswer, prices: tuple[float, float] | None) -> dict[str, Any]:
    """What the LLM took in a session, with one answer more."""
    spent = {
        name: before.get(name, 0) + getattr(answer, name) for name in ("requests", "input_tokens", "output_tokens")
    }
    return {**spent, "cost": cost_of(prices, spent)}


def new(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Another prompt: candidates, pins and facts of the last one are put away, until /undo."""
    if not rest:
        raise InputError("give the other prompt, such as /new two red cars")
    desk.asked = ""
    empty: SessionState = {
        **state,
        "candidates": [],
        "pinned": [],
        "facts": {},
        "round": 0,
        "current": 0,
        "rejected": [],
    }
    return {**wording(empty, desk, rest), "pinned": [], "facts": {}, "round": 0, "rejected": []}


def pick(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Go on from another candidate, and from another seed where one is named."""
    number, seed = places(state, rest)[0]
    moved = change_seed(state, desk, str(seed)) if seed != state["seed"] else SessionState()
    chosen = moved.get("candidates", state["candidates"])[number]
    return {**moved, "current": number, "said": f"{number}: {verdict(state, desk, chosen)}", "show": True}


def pin(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Words that every rewrite must keep."""
    words = words_in(rest)
    if not words:
        raise InputError("name the words to keep, such as /pin red car")
    if not state.get("candidates"):
        raise InputError("there is no prompt yet: type one")
    prompt = state["candidates"][state["current"]]["prompt"]
    absent = [w for w in words if not has_word(w, prompt)]
    if absent:
        raise InputError(
            f"{', '.join(map(repr, absent))} can't be kept: not in {prompt[:200]!r}; pin words that it has"
        )
    return _pinned(list(dict.fromkeys([*state.get("pinned", []), *words])))


def unpin(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Words that need not be kept any more; without words, all of them."""
    gone = {w.casefold() for w in words_in(rest)}
    return _pinned([w for w in state.get("pinned", []) if gone and w.casefold() not in gone])


def words_in(text: str) -> list[str]:
    """Words without the marks around them."""
    return [w for part in text.split()[:MAX_PINNED] if (w := re.sub(r"^[\W_]+|[\s!-/:-@\[-`{-~]+$", "", part))]


def _pinned(words: list[str]) -> SessionState:
    return {"pinned": words, "said": f"kept: {', '.join(words) or 'nothing'}", "show": False}


def change_seed(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Another seed; all candidates are scored on it."""
    seed = read_text("seed", rest)
    before = state.get("candidates", [])
    desk.score([c["prompt"] for c in before], seed)
    scored = [candidate(desk, seed, c["id"], c["prompt"], c["strategy"], c.get("unsure", ())) for c in before]
    seeds = state.get("seeds") or []
    kept = seeds if seed in seeds else []
    return {"seed": seed, "seeds": kept, "candidates": scored, "said": f"seed {seed}", "show": bool(scored)}


def change_tau(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Another threshold."""
    tau = rounded(threshold(rest, desk.plan.scorer))
    return {"tau": tau, "said": tau_text(tau), "show": bool(state.get("candidates"))}


def undo(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Take back the last command that changed something."""
    history = state.get("history", [])
    if not history:
        raise InputError("there is nothing to undo")
    empty: Any = {
        "prompt": "",
        "current": 0,
        "pinned": [],
        "candidates": [],
        "round": 0,
        "facts": {},
        "seeds": [],
        "rejected": [],
    }
    before: Any = empty | history[-1]
    return {**before, "history": history[:-1], "said": "undone", "show": True}


def list_candidates(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """All candidates."""
    return {"said": "", "show": True}


def saved(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Nothing is left to do: every command's outcome is on the disk already."""
    return {"said": "saved: everything is kept after every command", "show": False}


def tell_help(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """The commands."""
    return {"said": HELP, "show": False}


@dataclass(frozen=True)
class SessionCommand:
    """A row of the table: the function, what may follow the name, and what it is for."""

    act: Act
    arguments: str
    help: str
    needs_prompt: bool = True


COMMANDS = {
    "rewrite": SessionCommand(rewrite, "[WISH]", "ask for rewrites, in a direction such as: more painterly"),
    "new": SessionCommand(new, "PROMPT", "another prompt; /undo goes back to this one", needs_prompt=False),
    "pick": SessionCommand(pick, "N[@SEED]", "go on from candidate N, on another seed that is shown"),
    "pin": SessionCommand(pin, "WORD...", "words that every rewrite must keep", needs_prompt=False),
    "unpin": SessionCommand(unpin, "[WORD...]", "words that need not be kept (default: all)", needs_prompt=False),
    "facts": SessionCommand(
        facts, "[drop|keep|pin|unpin N...|add TEXT|reset]", "what rewrites must keep; drop, pin or add some"
    ),
    "seed": SessionCommand(change_seed, "N", "another seed; all candidates are scored on it", needs_prompt=False),
    "seeds": SessionCommand(
        columns.change_seeds, "N...", "compare all on so many seeds, or on these", needs_prompt=False
    ),
    "reject": SessionCommand(columns.reject, "N[@SEED]...", "turn wordings or cells down, or take that back"),
    "further": SessionCommand(columns.further, "N[@SEED]...", "denoise some on, and look again"),
    "tau": SessionCommand(
        change_tau, "X", "another threshold: a number, balanced, or a quantile such as q0.8", needs_prompt=False
    ),
    "compare": SessionCommand(pictures.compare, "A B", "two candidates on the same seed, previews side by side"),
    "preview": SessionCommand(
        pictures.show_previews,
        "[N...]",
        f"cheap pictures of what is coming (default: of the latest {pictures.PREVIEWS})",
    ),
    "finish": SessionCommand(pictures.finish_some, "N[@SEED]...", "finish only the ones you like"),
    "generate": SessionCommand(pictures.generate, "", "finish the current one"),
    "heat": SessionCommand(pictures.heat, "[N]", "where the words are looked for, as a file"),
    "show": SessionCommand(pictures.show_files, "[N]", "the last picture again, or the last N", needs_prompt=False),
    "list": SessionCommand(list_candidates, "", "all candidates", needs_prompt=False),
    "undo": SessionCommand(undo, "", "take back the last command that changed something", needs_prompt=False),
    "save": SessionCommand(saved, "", "not needed: everything is kept after every command", needs_prompt=False),
    "help": SessionCommand(tell_help, "", "these lines", needs_prompt=False),
    "quit": SessionCommand(saved, "", "leave; the same name takes the session up again", needs_prompt=False),
}

HELP = "\n".join(
    f"{usage:20} {text}"
    for usage, text in [
        ("TEXT", "the prompt, or your own next wording"),
        *((f"/{name} {row.arguments}".strip(), row.help) for name, row in COMMANDS.items()),
    ]
)
