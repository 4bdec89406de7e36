"""What each command of a session does: from the kept state and what was said to what changes.

`COMMANDS` is the one table of them: help, completion and `act_on` are made from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..events import tau_text
from ..runs import notes_on
from ..seeds import seeds_from
from ..thresholds import threshold
from ..tokens import clean_prompt
from . import pictures
from .desk import Act, Desk, SessionState, candidate, numbers, rounded
from .guard import lost_words
from .rounds import ask, family_of, request_of, screen

MAX_UNDO = 50  # commands
MAX_WISH = 500  # characters
MAX_PINNED = 20  # words at once
# What /undo brings back. A round alone is no change: it only makes the next /rewrite ask for something else.
UNDONE = ("prompt", "current", "seed", "tau", "pinned", "candidates", "round")


def act_on(state: SessionState, desk: Desk, line: str) -> SessionState:
    """What changes with a line: a command, or a wording of the person's own. Raises `InputError` for what can't be done.

    Whatever changed can be undone: what was before is added to the history.
    """
    desk.asked = state.get("prompt", "")
    changes = _changes(state, desk, line)
    before: dict[str, Any] = {key: state[key] for key in UNDONE if key in state}  # type: ignore[literal-required]
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
        "candidates": [*before, own], "current": own["id"], "said": "\n".join([verdict(state, own) + note, *notes_on([prompt], desk.plan.scorer.model)]),
        "show": True
    }  # fmt: skip
    return changes if before else {**changes, "prompt": prompt}


def verdict(state: SessionState, candidate: dict[str, Any]) -> str:
    """A candidate's predicted reward in words: against τ, and what the model hardly looks at or did not get."""
    tau = state["tau"]
    side = "" if tau is None else f", {'at or above' if candidate['score'] >= tau else 'below'} {tau_text(tau)}"
    diffuse = [w["word"] for w in candidate["words"] if w["diffuse"]]
    more = f"; hardly looked at: {', '.join(diffuse)}" if diffuse else ""
    cut = f"; the last {candidate['cut_tokens']} tokens did not fit" if candidate["cut_tokens"] else ""
    return f"predicted reward {candidate['score']:.3f}{side}{more}{cut}"


def rewrite(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """One round of the loop on the current candidate; what was tried anywhere in the session is not offered again."""
    plan, seed, tried = desk.plan, state["seed"], state["candidates"]
    if plan.rewriter is None:
        raise InputError("there is no rewriter: set OPENAI_API_KEY, or start with --rewriter offline")
    current = tried[state["current"]]
    pinned, number = list(state.get("pinned", [])), state.get("round", 0) + 1
    answer = ask(
        plan.rewriter,
        request_of(
            desk.score([current["prompt"]], seed)[0], current, tried, tau=state["tau"], count=plan.candidates,
            round=number, direction=rest[:MAX_WISH], keep=pinned, family=family_of(plan.scorer),
        ),
    )  # fmt: skip
    proposals = screen(
        answer.rewrites[: plan.candidates], current["prompt"], [c["prompt"] for c in tried], pinned, plan.scorer
    )
    usable = [s for s in proposals if s.rejected is None]
    desk.score([s.prompt for s in usable], seed)
    made = [candidate(desk, seed, i, s.prompt, s.strategy) for i, s in enumerate(usable, start=len(tried))]
    best = max([current, *made], key=lambda c: c["score"])
    said = f"best: {best['id']}, {verdict(state, best)}"
    if best is current:
        said = "nothing better than what you have" if made else "no usable rewrite"
    out = [f"out: {s.prompt} ({s.rejected})" for s in proposals if s.rejected]
    return {
        "candidates": [*tried, *made], "round": number, "said": "\n".join([said, *out, *answer.notes]), "show": bool(made)
    }  # fmt: skip


def pick(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Go on from another candidate."""
    number = numbers(state, rest)[0]
    return {"current": number, "said": f"{number}: {verdict(state, state['candidates'][number])}", "show": True}


def pin(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Words that every rewrite must keep."""
    words = re.findall(r"\w+", rest)[:MAX_PINNED]
    if not words:
        raise InputError("name the words to keep, such as /pin red car")
    return _pinned(list(dict.fromkeys([*state.get("pinned", []), *words])))


def unpin(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Words that need not be kept any more; without words, all of them."""
    gone = {w.casefold() for w in re.findall(r"\w+", rest)}
    return _pinned([w for w in state.get("pinned", []) if gone and w.casefold() not in gone])


def _pinned(words: list[str]) -> SessionState:
    return {"pinned": words, "said": f"kept: {', '.join(words) or 'nothing'}", "show": False}


def change_seed(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Another seed; all candidates are scored on it."""
    try:
        seed = seeds_from(int(rest), 1)[0]
    except ValueError as error:
        raise InputError(f"seed is {rest!r}; give a whole number") from error
    before = state.get("candidates", [])
    desk.score([c["prompt"] for c in before], seed)
    scored = [candidate(desk, seed, c["id"], c["prompt"], c["strategy"]) for c in before]
    return {"seed": seed, "candidates": scored, "said": f"seed {seed}", "show": bool(scored)}


def change_tau(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Another threshold."""
    tau = rounded(threshold(rest, desk.plan.scorer))
    return {"tau": tau, "said": tau_text(tau), "show": bool(state.get("candidates"))}


def undo(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Take back the last command that changed something."""
    history = state.get("history", [])
    if not history:
        raise InputError("there is nothing to undo")
    empty: Any = {"prompt": "", "current": 0, "pinned": [], "candidates": [], "round": 0}
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
    "pick": SessionCommand(pick, "N", "go on from candidate N"),
    "pin": SessionCommand(pin, "WORD...", "words that every rewrite must keep", needs_prompt=False),
    "unpin": SessionCommand(unpin, "[WORD...]", "words that need not be kept (default: all)", needs_prompt=False),
    "seed": SessionCommand(change_seed, "N", "another seed; all candidates are scored on it", needs_prompt=False),
    "tau": SessionCommand(
        change_tau, "X", "another threshold: a number, or a quantile such as q0.8", needs_prompt=False
    ),
    "compare": SessionCommand(pictures.compare, "A B", "two candidates on the same seed, previews side by side"),
    "preview": SessionCommand(
        pictures.show_previews,
        "[N...]",
        f"cheap pictures of what is coming (default: of the latest {pictures.PREVIEWS})",
    ),
    "finish": SessionCommand(pictures.finish_some, "N...", "finish only the ones you like"),
    "generate": SessionCommand(pictures.generate, "", "finish the current one"),
    "heat": SessionCommand(pictures.heat, "[N]", "where the words are looked for, as a file"),
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
