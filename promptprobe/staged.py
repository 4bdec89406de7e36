"""The policy `staged` at work: seeds are begun, go on and are taken one after the other, by what they are worth.

Comes in: a race, a plan of `stages`, a judge. Goes out: the rows that were taken, paused after their last look.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import InputError
from .judges import Judge
from .race import Race, Row
from .runner import Runner
from .stages import MOST_SPENT, StagePlan, expected, margins, plan_stages, row_for, spread_of

Told = Callable[[int, list[Row]], None]
Lost = Callable[[int, list[int]], None]


def plan_for(runner: Runner, judge: Judge, budget: float | None, seeds: int | None) -> StagePlan:
    """The plan for a run and its judge; what was measured counts only for previews of the same reward."""
    row = row_for(type(runner.pipeline), judge.label) if judge.name == "preview" else None
    return plan_stages(budget, seeds, runner.steps, row)


def fixed_stages(plan: StagePlan, judge: Judge, steps: int, top: int) -> list[tuple[int, int]]:
    """(step, how many may go on) of a plan without a row, at steps at which the judge can look."""
    can = judge.looks(steps)
    if not can:
        raise InputError(f"the judge {judge.name!r} can't look at any of {steps} steps; use --policy full")
    looks = plan.looks or (steps - 1,)  # nothing measures the finished images: the judge looks as late as it can
    nearest: dict[int, int] = {}
    for step, left in zip(looks, plan.left or (top,), strict=True):
        nearest[min(can, key=lambda have: (abs(have - step), have))] = max(left, top)
    stages = sorted(nearest.items())
    return [*(s for s in stages[:-1] if s[1] > top), (stages[-1][0], top)]


def take_by_worth(race: Race, plan: StagePlan, judge: Judge, top: int, told: Told, lost: Lost) -> list[Row]:
    """Run a plan that has a row until `top` seeds are taken; the best first.

    `told` hears of each look, `lost` of places whose values are no numbers. Raises `InputError` when all are lost.
    On Ctrl-C the `top` of what was looked at are taken, the farthest first.
    """
    row, looks = plan.row, plan.looks
    assert row is not None
    rows, steps = {r.place: r for r in race.alive}, race.runner.steps
    stage: dict[int, int] = {}
    value: dict[int, float] = {}
    waiting = sorted(rows)

    def go_on(places: list[int], to: int) -> list[int]:
        race.alive = [rows[p] for p in places]
        race.to(looks[to], judge)
        rows.update({r.place: r for r in race.alive})
        told(looks[to], race.alive)
        try:
            out = race.rule_out_what_is_no_number()
        except InputError:
            out = places
            if len(rows) == len(places):
                raise
        if out:
            lost(looks[to], out)
        for p in out:
            del rows[p]
            stage.pop(p, None)
            value.pop(p, None)
        stage.update({p: to + 1 for p in places if p in rows})
        return [p for p in places if p in rows]

    taken: list[Row] = []
    try:
        first: list[int] = []
        while waiting and len(first) < max(2, min(row.begin, plan.seeds)):
            now, waiting = waiting[: row.begin - len(first)], waiting[row.begin - len(first) :]
            first += go_on(now, 0)
        seen = np.array([race.value(p) for p in first])
        mean, spread = float(seen.mean()), float(spread_of(row, seen)) if len(seen) > 1 else row.spread
        value.update({p: float(expected(row, row.looks[0], race.value(p), mean)) for p in first})
        worth: Any = margins(row.looks, plan.price * row.spread / spread) * spread
        while len(taken) < top:
            spent = sum(race.calls) / steps
            may = waiting and (len(rows) - len(waiting) < top or spent + 1 <= MOST_SPENT * plan.budget)
            taken_places = {r.place for r in taken}
            best = max(
                (p for p in stage if p not in taken_places), key=lambda p: value[p] + worth[stage[p]], default=None
            )
            if may and (best is None or worth[0] > value[best] + worth[stage[best]]):
                best = waiting.pop(0)
            if best is None:
                break
            at = stage.get(best, 0)
            if at == len(looks):
                taken.append(rows[best])
            elif go_on([best], at):
                value[best] = float(expected(row, row.looks[at], race.value(best), mean))
    except KeyboardInterrupt:
        if not stage:
            raise
        left = sorted((p for p in stage if rows[p] not in taken), key=lambda p: (-stage[p], -race.value(p)))
        taken += [rows[p] for p in left[: top - len(taken)]]
        race.alive = taken
        raise Interrupted(taken) from None
    race.alive = [rows[p] for p in stage]
    return taken


class Interrupted(KeyboardInterrupt):
    """Ctrl-C after something was looked at; `taken` is what to finish."""

    def __init__(self, taken: list[Row]):
        super().__init__()
        self.taken = taken
