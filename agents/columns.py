"""The cells of a session: every wording on every seed that is shown, raced, dropped, turned down, and taken further.

Comes in: the kept state and what is paused on the desk. Goes out: what changes in the state. A cell that can hardly win is
paused where it was dropped, and goes on from there when a person wants it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import InputError
from ..judges import Judgement
from ..race import HOPELESS, Race, chance_to_beat
from ..scoring import scored_of
from ..seeds import seed_list
from .desk import Desk, SessionState, cell_key, places

MOST_COLUMNS = 16
MOST_CELLS = 2000  # remembered of a session
EARLY = 0.6  # of the way to the probe step: where a race of several cells looks first


def change_seeds(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """The seeds in which all wordings are compared: a number, counted from the session's seed, or a list."""
    given = list(dict.fromkeys(seed_list(rest.replace(" ", ","), state["seed"])))
    if len(given) > MOST_COLUMNS:
        raise InputError(f"{len(given)} seeds are too many to compare; give at most {MOST_COLUMNS}")
    seeds = given if state["seed"] in given else [state["seed"], *given]
    return {"seeds": seeds, "said": f"seeds {', '.join(map(str, seeds))}", "show": bool(state.get("candidates"))}


def reject(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Turn wordings or cells down, or take that back."""
    places(state, rest)
    before, given = list(state.get("rejected", [])), rest.split()
    kept = [r for r in before if r not in given] + [g for g in given if g not in before]
    return {"rejected": kept, "said": f"turned down: {', '.join(kept) or 'nothing'}", "show": False}


def further(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Denoise some on by as many steps as there are to the probe step, and look again."""
    scorer, prompts = desk.plan.scorer, {c["id"]: c["prompt"] for c in state["candidates"]}
    pairs = [(prompts[n], seed) for n, seed in dict.fromkeys(places(state, rest))]
    begun(desk, [pair for pair in pairs if desk.known(*pair) is None])
    looks = scorer.judge.looks(scorer.steps)
    told = []
    for pair in pairs:
        step = max((k for k in looks if k <= desk.step_of(*pair) + scorer.probe_step), default=0)
        if step <= desk.step_of(*pair):
            raise InputError(
                f"the judge {scorer.judge.name} can't look later than at step {step}; /finish makes the image"
            )
        desk.go_on([pair], step)
        told.append(
            f"{pair[0]} on seed {pair[1]}: {desk.scored[(*pair, desk.asked or pair[0])].score:.3f} at step {step}"
        )
    return {"said": "\n".join(told), "show": False}


def with_cells(state: SessionState, desk: Desk) -> dict[str, dict[str, Any]]:
    """What is known of every wording on every seed shown; what is not known yet is raced."""
    seeds, asked = state.get("seeds") or [state["seed"]], state.get("prompt", "")
    cells = dict(state.get("cells") or {})
    wordings = {c["prompt"]: c for c in state.get("candidates", [])}
    pairs = [(p, s) for p in wordings for s in seeds]
    lacking = [(p, s) for p, s in pairs if s != state["seed"] and cell_key(p, s, asked) not in cells]
    if lacking:
        best = [(cells.get(cell_key(p, s, asked)) or {}) for p, s in pairs]
        begun(desk, lacking, _bar([*best, *(_seen(desk, p, state["seed"]) or {} for p in wordings)]))
    for p, s in pairs:
        seen, key = _seen(desk, p, s), cell_key(p, s, asked)
        if seen:
            cells[key] = seen
        elif key not in cells and s == state["seed"]:  # of a session that is taken up
            cells[key] = {"score": wordings[p]["score"], "error": None, "step": desk.plan.scorer.probe_step, "why": ""}
        elif key not in cells:
            cells[key] = {"score": None, "error": None, "step": 0, "why": "its values are no numbers"}
    return dict(list(cells.items())[-MOST_CELLS:])


def begun(desk: Desk, pairs: Sequence[tuple[str, int]], bar: Judgement | None = None) -> None:
    """Begin (wording, seed) pairs and look at them on the way; those that can hardly beat the best, or `bar`, stop there."""
    if not pairs:
        return
    scorer = desk.plan.scorer
    race = Race(scorer, pairs, against=[desk.asked or p for p, _ in pairs], on_step=desk.on_step, words=True)
    early = [k for k in scorer.judge.looks(scorer.steps) if k < scorer.probe_step]
    first = min(early, key=lambda k: abs(k - EARLY * scorer.probe_step), default=None)
    if first is not None and (len(pairs) > 1 or bar is not None):
        desk.tell(f"probing {len(pairs)} cells to step {first}")
        race.to(first)
        race.rule_out_what_is_no_number()
        gone = [(d.rows[0], d.why) for d in race.drop()]
        for row in race.alive:
            chance = (
                None if bar is None else chance_to_beat(Judgement(race.value(row.place), race.error(row.place)), bar)
            )
            if chance is not None and chance < HOPELESS:
                gone.append((row, f"a chance of {chance:.2f} to be the best at step {first}"))
        out = {row.place for row, _ in gone}
        race.alive = [r for r in race.alive if r.place not in out]
        desk.keep([replace(scored_of(race, [row]), dropped=why) for row, why in gone])
        if race.alive and desk.on_look:
            desk.on_look([scored_of(race, [r]) for r in race.alive])
    if race.alive:
        desk.tell(f"probing {len(race.alive)} cells to step {scorer.probe_step}")
        race.to(scorer.probe_step)
        race.rule_out_what_is_no_number()
        desk.keep([scored_of(race, [r]) for r in race.alive])


def _seen(desk: Desk, prompt: str, seed: int) -> dict[str, Any] | None:
    scored = desk.known(prompt, seed)
    if scored is None:
        return None
    error = scored.errors[0] if scored.errors else None
    return {
        "score": round(scored.score, 5), "error": None if error is None else round(error, 5),
        "step": scored.trajectories[0][0].step, "why": scored.dropped or "",
    }  # fmt: skip


def _bar(cells: Sequence[dict[str, Any]]) -> Judgement | None:
    """What is to be beaten: the best of what was seen."""
    seen = [c for c in cells if c.get("score") is not None]
    best = max(seen, key=lambda c: c["score"], default=None)
    return None if best is None else Judgement(best["score"], best["error"])
