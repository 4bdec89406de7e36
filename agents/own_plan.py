"""A server's plan with what one call wants otherwise: seed, size, negative prompt, judge, and how the loop is run.

Comes in: a loaded plan, and values from outside. Goes out: a plan of the same pipeline; the first one stays as it is.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from ..calling import check_settings
from ..errors import InputError
from ..guidance import is_guided
from ..judges import ProbeJudge, choose_judge
from ..options import DEFAULT_MODEL, check
from ..scoring import Scorer
from ..seeds import seeds_from
from ..sizes import nearest_size
from ..thresholds import threshold
from .plan import Plan


def own_plan(
    plan: Plan, *, size: tuple[int, int] | None = None, negative: str | None = None, judge: str | None = None, **own: Any
) -> Plan:  # fmt: skip
    """The plan with one call's own values; what is None stays as it is.

    `size` is width and height in pixels: images are made at the nearest that the model takes (`nearest_size`). `own` are
    options of the table. Raises as `check`, and `InputError` for what the loaded model can't do.
    """
    changes = {name: check(name, value) for name, value in own.items() if value is not None}
    if size is not None or negative is not None or judge is not None:
        changes["scorer"] = scorer = _scorer(plan, size, negative, judge)
        if judge is not None and "tau" not in changes:
            changes |= {"threshold": threshold(plan.tau if judge == plan.scorer.judge.name else "auto", scorer)}
    if "seed" in changes:
        changes["seeds"] = seeds_from(changes.pop("seed"), len(plan.seeds))
    if "tau" in changes:
        scorer = changes.get("scorer", plan.scorer)
        changes |= {"tau": str(changes["tau"]), "threshold": threshold(changes["tau"], scorer)}
    return dataclasses.replace(plan, **changes)


def _scorer(plan: Plan, size: tuple[int, int] | None, negative: str | None, judge: str | None) -> Scorer:
    """The plan's scorer with settings or a judge of one call's own; pipeline and weights are the same."""
    scorer = copy.copy(plan.scorer)
    scorer.warnings = list(scorer.warnings)
    settings = dict(scorer.settings)
    if size is not None:
        width, height = nearest_size(scorer.pipeline, scorer.model, settings, size)
        if (width, height) != nearest_size(scorer.pipeline, scorer.model, settings, None):
            settings |= {"width": width, "height": height}
    if negative is not None:
        check("negative", negative)
        settings["negative_prompt"] = negative
        check_settings(scorer.pipeline, settings)
        if not is_guided(scorer.pipeline, settings):
            raise InputError(
                "negative does nothing here: the model is called without guidance; leave it out, or start the server with "
                "--guidance above 1"
            )
    scorer.settings = settings
    if judge is not None and check("judge", judge) != "auto":
        scorer.judge_asked = True
    if judge not in (None, "auto", scorer.judge.name):
        own = scorer.judge.probe if isinstance(scorer.judge, ProbeJudge) and judge == "probe" else None
        scorer.judge, notes = choose_judge(
            judge, scorer.pipeline, model=scorer.model or DEFAULT_MODEL, probe=own, objective=None,
            reward=plan.measure if judge == "preview" else None, settings=settings,
            device=str(scorer.loading.get("device", "cpu")), find_decoder=lambda: scorer.decoder,
        )  # fmt: skip
        scorer.warnings += notes
    scorer.admit(scorer.judge)
    return scorer
