"""The policies at work: a race through the stages of one, the seeds that are taken by worth, or all of them made in full.

Comes in: a race or records of (prompt, seed), and who judges when. Goes out: the best; records say what became of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from .errors import ProbeMismatchError
from .events import OnEvent
from .grades import interval_of
from .judges import Judge
from .race import Race, Row
from .rewards import RewardFunction, measure
from .runner import Runner
from .selection import SeedRecord
from .staged import Interrupted, fixed_stages, take_by_worth
from .stages import StagePlan
from .trajectory import finish, start

WITH_PREVIEW = {"decoded": "fixed", "decoded-racing": "racing"}  # the policy whose last stage is the preview judge's
POLICIES = ("racing", "fixed", "staged", "decoded-racing", "decoded", "full")
STAGES = ((2, 0.7), (3, 0.3), (5, 0.2), (7, 0.1))  # racing: at this step of 25, at most this share of the seeds goes on


def raced(
    race: Race, records: list[SeedRecord], plan: StagePlan | None, policy: str, judge: Judge, last_judge: Judge, top: int,
    diverse: float, tell: OnEvent, notes: list[str],
) -> tuple[list[Row], list[str]]:  # fmt: skip
    """The rows of the `top` best, and the names of the judges that looked."""
    scorer = race.runner
    for own in (judge, last_judge):
        scorer.admit(own)
    if plan:
        race.alive = race.alive[: max(plan.seeds, top)]
    if plan and plan.row:
        return _by_worth(race, records, plan, judge, top, tell, notes), [judge.name]
    if plan:
        stages = fixed_stages(plan, judge, scorer.steps, top)
    else:
        stages = _stages(scorer, judge, WITH_PREVIEW.get(policy, policy), len(records), top)
    judging = [(step, most, last_judge if most == top else judge) for step, most in stages]
    looked = list(dict.fromkeys(own.name for _, _, own in judging))
    return _run(race, records, judging, top, diverse, tell, notes), looked


def _stages(scorer: Runner, judge: Judge, policy: str, count: int, top: int) -> list[tuple[int, int]]:
    """(step, how many may go on) of a policy; racing takes the steps nearest to `STAGES` at which the judge can look."""
    if policy == "fixed" or count <= top:
        return [(scorer.probe_step, top)]
    looks = judge.looks(scorer.steps)
    stages: list[tuple[int, int]] = []
    for k, share in STAGES:
        step = min(looks, key=lambda have: abs(have / scorer.steps - k / 25), default=scorer.probe_step)
        if stages and step <= stages[-1][0]:
            stages.pop()
        stages.append((step, max(top, math.ceil(share * count - 1e-9))))
    if len(stages) < 2:
        raise ProbeMismatchError(
            f"racing needs a probe of several steps, this one is for step {stages[0][0]}; use --policy fixed"
        )
    several = [stage for stage in stages[:-1] if stage[1] > top]
    return [*several, (stages[len(several)][0], top)]


def _run(
    race: Race,
    records: list[SeedRecord],
    stages: Sequence[tuple[int, int, Judge]],
    top: int,
    diverse: float,
    tell: OnEvent,
    notes: list[str],
) -> list[Row]:
    """Race through the stages (step, how many may go on, who judges) until `top` are left; these rows, the best first."""
    try:
        for step, most, judge in stages:
            race.to(step, judge, winners=top if most == top else None)
            for row in race.alive:
                records[row.place].stopped_at = step
            for place in race.rule_out_what_is_no_number():
                records[place].why = "not a number"
                notes.append(f"seed {records[place].seed} gave values that are no numbers at step {step} and is out")
            for row in race.alive:
                _predicted(records[row.place], race, row.place, step, judge)
            tell("probed", {"step": step, "seeds": [records[r.place] for r in race.alive], "trajectory": race.best()})
            for competitor, why, _ in race.drop(most, top):
                records[competitor].why = why
            tell("dropped", {"step": step, "left": len(race.alive)})
            if len(race.alive) <= top:
                break
    except KeyboardInterrupt:
        if not race.step:
            raise
        notes.append("interrupted: the best so far was finished")
    latents = torch.stack([r.paused.latents[r.row].float().flatten() for r in race.alive if r.paused is not None])
    return [race.alive[i] for i in diverse_top([race.value(r.place) for r in race.alive], top, diverse, latents)]


def _predicted(record: SeedRecord, race: Race, place: int, step: int, judge: Judge) -> None:
    """Write down what was said at a step, and how sure that is."""
    record.predicted[step] = round(race.value(place), 5)
    record.interval = interval_of(judge, record.predicted[step], step, race.runner.steps)


def _by_worth(
    race: Race, records: list[SeedRecord], plan: StagePlan, judge: Judge, top: int, tell: OnEvent, notes: list[str]
) -> list[Row]:
    """Take `top` seeds by what they are worth; the records say what was seen and why the others stopped."""

    def told(step: int, rows: list[Row]) -> None:
        for r in rows:
            records[r.place].stopped_at, records[r.place].why = step, "worth less than what was taken"
            if math.isfinite(race.value(r.place)):
                _predicted(records[r.place], race, r.place, step, judge)
        tell("probed", {"step": step, "seeds": [records[r.place] for r in rows], "trajectory": race.best()})

    def lost(step: int, places: list[int]) -> None:
        for p in places:
            records[p].why = "not a number"
            notes.append(f"seed {records[p].seed} gave values that are no numbers at step {step} and is out")

    for record in records:
        record.why = "not begun"
    try:
        return take_by_worth(race, plan, judge, top, told, lost)
    except Interrupted as stopped:
        notes.append("interrupted: the best so far was finished")
        return stopped.taken


def everything(
    scorer: Runner,
    records: list[SeedRecord],
    against: Sequence[str],
    reward: RewardFunction,
    top: int,
    tell: OnEvent,
    notes: list[str],
) -> tuple[list[tuple[SeedRecord, Image.Image]], float]:
    """Finish and measure all; the best `top` with their images, and the denoiser calls."""
    images: list[Image.Image] = []

    def work(places: list[int]) -> Any:
        own = [records[i] for i in places]
        paused = start(
            scorer.pipeline, [r.prompt for r in own], [r.seed for r in own], steps=scorer.steps, stop=scorer.steps,
            watch=(), on_step=lambda k: tell("step", {"step": k}), **scorer.settings,
        )  # fmt: skip
        made: Any = finish(scorer.pipeline, paused)
        values = measure(reward, made, [against[i] for i in places]).tolist()
        for record, value in zip(own, values, strict=True):
            record.reward, record.stopped_at, record.why = round(value, 5), scorer.steps, "finished"
        tell("finished", {"seeds": own})
        return made

    try:
        for made in scorer.fitting(range(len(records)), work):
            images += made
    except KeyboardInterrupt:
        if not images:
            raise
        notes.append(f"interrupted: the best of the {len(images)} finished ones was kept")
    best = diverse_top([r.reward or 0.0 for r in records[: len(images)]], top, 0.0, None)
    return [(records[i], images[i]) for i in best], len(images) * scorer.steps


def diverse_top(values: Sequence[float], top: int, weight: float, features: torch.Tensor | None) -> list[int]:
    """Places of the `top` values, the best first; with `weight`, likeness to those already taken counts against one.

    Maximal marginal relevance (Carbonell and Goldstein, 1998), values scaled to 0..1, likeness the cosine of features.
    """
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    if not weight or features is None or top == 1:
        return order[:top]
    low, high = min(values), max(values)
    scaled = [(v - low) / max(high - low, 1e-9) for v in values]
    unit = torch.nn.functional.normalize(features, dim=1)
    taken = [order[0]]
    while len(taken) < min(top, len(values)):
        rest = [i for i in order if i not in taken]
        taken.append(max(rest, key=lambda i: (1 - weight) * scaled[i] - weight * float((unit[taken] @ unit[i]).max())))
    return taken
