"""Find the best seeds of a prompt for the least compute: look at all early, finish few.

Comes in: a scorer, a prompt, seeds. Goes out: a `SeedSelection`: what each seed was thought worth, when it was dropped,
and the finished images of the best.

A policy says who goes on at which stage: `fixed` (all to the probe step, the best goes on; the paper's), `racing` (the
hopeless are dropped at several stages, by what the judge knows of its own errors), `staged` (by what each seed is
worth, for a budget in images; for models without a probe), `full` (everything is generated and
measured). A judge says how good they are: the scorer's, or any other; the last stage may have a judge of its own. The
policies `decoded` and `decoded-racing` are names for `fixed` and `racing` with the preview judge at the last stage.
Source: Diffusion Probe, arXiv:2602.23783, §3.4.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from .errors import InputError
from .events import OnEvent, OnStep
from .judges import Judge, PreviewJudge
from .options import check
from .paused import Paused
from .policies import POLICIES, WITH_PREVIEW, everything, raced
from .race import Race, Row
from .records import whole
from .rewards import RewardFunction, measure
from .runner import Runner
from .seeds import checked_seeds, seeds_from
from .selection import SeedRecord, SeedSelection
from .settling import refuse_unused
from .staged import plan_for
from .tokens import clean_prompt

BLUNT = 0.3  # rank correlation among the seeds of a prompt: a probe that ranks them worse is no judge of seeds
BUDGET = 3.0  # of a search that is told none, in images


def select_seed(
    scorer: Runner,
    prompt: str,
    seeds: Sequence[int],
    *,
    policy: str = "racing",
    top: int = 1,
    diverse: float = 0.0,
    budget: float | None = None,
    reward: RewardFunction | None = None,
    judge: Judge | None = None,
    last_judge: Judge | None = None,
    on_event: OnEvent | None = None,
) -> SeedSelection:
    """Find the `top` best of `seeds` for `prompt` and finish their images.

    `judge` looks at every stage (default: the scorer's), `last_judge` at the last (default: `judge`). `diverse` (0..1)
    trades predicted reward against likeness to the seeds already taken. `reward` measures the finished images; `full`,
    `decoded` and `decoded-racing` need it. A seed whose latents or prediction is not a number is out, and `notes` says
    so. On Ctrl-C the best so far is still finished when something was probed.

    `budget` is what `staged` may spend on average, in full images.

    Raises `InputError` for no or repeated seeds, `top` out of range, an unknown policy, a budget beside another policy than
    `staged` or below one image, or when every seed is out.
    """
    prompt = clean_prompt(prompt)
    repeated = [s for s in seeds if list(seeds).count(s) > 1]
    if repeated:
        raise InputError(f"seed {repeated[0]} is given twice; each seed makes one image")
    return select_pair(
        scorer, [(prompt, s) for s in seeds], policy=policy, top=top, diverse=diverse, budget=budget, reward=reward,
        judge=judge, last_judge=last_judge, against=prompt, on_event=on_event,
    )  # fmt: skip


def select_pair(
    scorer: Runner,
    pairs: Sequence[tuple[str, int]],
    *,
    policy: str = "racing",
    top: int = 1,
    diverse: float = 0.0,
    budget: float | None = None,
    reward: RewardFunction | None = None,
    judge: Judge | None = None,
    last_judge: Judge | None = None,
    against: str | None = None,
    on_event: OnEvent | None = None,
) -> SeedSelection:
    """As `select_seed`, over (prompt, seed) pairs: wordings and seeds compete in one batch, each text encoded once.

    `against` is the prompt that images and previews are measured against (default: each one's own).
    """
    _check([s for _, s in pairs], top, policy, diverse)
    check_budget(budget, policy)
    refuse_unused(
        {"policy": policy, "top": top, "diverse": diverse, "judge": judge or "auto", "last_judge": last_judge}
    )
    if (policy in WITH_PREVIEW or policy == "full") and reward is None:
        raise InputError(f"policy {policy} measures images: give a reward")
    began = time.perf_counter()
    records = [SeedRecord(clean_prompt(p), s) for p, s in pairs]
    judged = [against or r.prompt for r in records]
    tell: OnEvent = on_event or (lambda event, values: None)

    def step(k: int) -> None:
        tell("step", {"step": k})

    notes: list[str] = []
    looked: list[str] = []
    judge = judge or scorer.judge
    plan = plan_for(scorer, judge, budget, len(pairs)) if policy == "staged" else None
    if plan:
        notes.append(plan.note)
        tell("planned", {"note": plan.note, "looks": list(plan.looks)})
    if policy == "full" or (plan and not plan.looks and reward is not None):
        records = records[: max(plan.seeds, top)] if plan else records
        kept, calls = everything(scorer, records, judged, reward, top, tell, notes)  # type: ignore[arg-type]
    else:
        if policy in WITH_PREVIEW and last_judge is None:
            last_judge = PreviewJudge(scorer.pipeline, reward, decoder=scorer.decoder)  # type: ignore[arg-type]
        race = Race(scorer, [(r.prompt, r.seed) for r in records], against=judged, on_step=step)
        chosen, looked = raced(race, records, plan, policy, judge, last_judge or judge, top, diverse, tell, notes)
        tell("generating", {"trajectory": (chosen[0].paused, chosen[0].row)})
        kept = list(zip([records[r.place] for r in chosen], race.finish(chosen), strict=True))
        calls = sum(race.calls)
        for record, _ in kept:
            record.stopped_at, record.why = scorer.steps, "finished"
        if reward is not None:
            values = measure(reward, [image for _, image in kept], [judged[r.place] for r in chosen]).tolist()
            for (record, _), value in zip(kept, values, strict=True):
                record.reward = round(value, 5)
    for record, image in kept:
        record.keep_picture(image)
    return SeedSelection(
        prompt=against or records[0].prompt, policy=policy, judges=looked, best=[r.seed for r, _ in kept],
        seeds=records, winners=[r for r, _ in kept], denoiser_calls=whole(calls),
        full_calls=len(pairs) * scorer.steps, seconds=round(time.perf_counter() - began, 4),
        notes=[*scorer.warnings, *notes], images=[image for _, image in kept],
    )  # fmt: skip


def take_seed(
    scorer: Runner,
    prompt: str,
    seeds: Sequence[int],
    policy: str,
    budget: float | None = None,
    begun: Sequence[tuple[Paused, int]] = (),
    on_step: OnStep | None = None,
) -> tuple[Race, Row, list[SeedRecord], list[str]]:
    """As `select_seed` for one image, but the best seed stays paused: the race, its row, what is known of each seed, notes.

    Words can be diagnosed from its last look. `begun` are trajectories of the first seeds, which go on where they are
    if no look lies before that.
    """
    records, notes = [SeedRecord(prompt, s) for s in seeds], []
    plan = plan_for(scorer, scorer.judge, budget, len(seeds)) if policy == "staged" else None
    race = Race(scorer, [(prompt, s) for s in seeds], on_step=on_step, words=True)
    first = plan.looks[0] if plan and plan.looks else scorer.probe_step
    for place, (paused, row) in enumerate(begun):
        if paused.step < first or first in paused.token_maps:
            race.alive[place], race.calls[place] = Row(place, paused, row), paused.step
    if plan:
        notes.append(plan.note)
    judge = scorer.judge
    chosen, _ = raced(race, records, plan, policy, judge, judge, 1, 0.0, lambda event, values: None, notes)
    return race, chosen[0], records, notes


def usual_policy(scorer: Runner) -> str:
    """`staged` where the scorer's judge is not calibrated; else `racing` where it can look at several steps, or `fixed`."""
    if not scorer.judge.calibrated:
        return "staged"
    return "racing" if len(scorer.judge.looks(scorer.steps)) > 1 else "fixed"


class SearchPlan(NamedTuple):
    """A search over seeds, settled: how, for how many images' worth, over which seeds, and who looks at them."""

    policy: str
    budget: float | None
    seeds: Sequence[int]
    judge: Judge | None  # None where nobody asked for one and the policy's own will do


def settle_search(
    scorer: Runner, seeds: Sequence[int] | None, first: int, policy: str = "auto", budget: float | None = None,
    top: int = 1, reward: tuple[str | None, RewardFunction | None] = (None, None),
) -> SearchPlan:  # fmt: skip
    """Policy, budget, seeds and judge of a search: `auto` is staged beside a budget, else the usual one; without `seeds`
    there are 10 from `first` on, or for staged as many as its budget (default: 3) is for.

    Where nobody asked for policy or judge, and the judge is a probe that hardly ranks the seeds of a prompt (`BLUNT`), seeds
    are taken by worth, by the `reward` (name and function) of predicted images. Raises as `check_budget`.
    """
    check_budget(budget, policy)
    judge, (label, measure) = scorer.judge, reward
    rank = None if scorer.judge_asked else judge.ranks_seeds(scorer.probe_step, scorer.steps)
    if rank is not None and rank < BLUNT and measure is not None and policy in ("auto", "staged"):
        policy, judge = "staged", PreviewJudge(scorer.pipeline, measure, label, scorer.decoder)
    if policy == "auto":
        policy = usual_policy(scorer) if budget is None else "staged"
    own = None if judge is scorer.judge and not scorer.judge_asked else judge
    if seeds is not None:
        return SearchPlan(policy, budget, seeds, own)
    if policy != "staged":
        return SearchPlan(policy, budget, seeds_from(first, 10), own)
    budget = budget or BUDGET
    return SearchPlan(policy, budget, seeds_from(first, max(plan_for(scorer, judge, budget, None).seeds, top)), own)


def check_budget(budget: float | None, policy: str) -> None:
    """Raise `InputError` for a budget beside a policy that has none; `auto` becomes staged."""
    if budget is not None and policy not in ("auto", "staged"):
        raise InputError(
            f"budget is {budget:g} beside policy {policy}, which has none; use --policy staged or no --budget"
        )


def _check(seeds: Sequence[int], top: int, policy: str, diverse: float) -> None:
    if policy not in POLICIES:
        raise InputError(f"policy is {policy!r}; it must be one of {', '.join(POLICIES)}")
    if not seeds:
        raise InputError("no seeds; give at least one")
    checked_seeds(seeds)
    if not 1 <= check("top", top) <= len(seeds):
        raise InputError(f"top is {top}; it must be between 1 and {len(seeds)}, the number of seeds")
    check("diverse", diverse)
