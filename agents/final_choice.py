"""The last choice between the user's own prompt and the best rewrites: by the predicted image, measured against what the
user asked for.

Comes in: the state of a loop that has stopped. Goes out: which candidate is finished, and what each finalist's predicted
image was worth. A rewrite's prediction for its own text says nothing about the user's; this does, and it is why a
rewrite must win by a margin.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import InputError
from ..judges import PreviewJudge
from ..records import whole
from ..rewards import RewardFunction, rewrite_margin
from ..scoring import Scored, Scorer
from ..worlds import settled_share
from .rounds import Context, State
from .seed_choice import choose_seed, is_due


def finalists(state: State, context: Context) -> list[int]:
    """The candidates between whom is chosen: the user's own, and the best rewrites whose trajectories are kept; none when
    there is nothing to choose or no reward to choose by."""
    if context.measure is None:
        return []
    kept = [c["id"] for c in state["candidates"] if c["id"] in context.scored and context.scored[c["id"]].trajectories]
    return kept if len(kept) > 1 and 0 in kept else []


def choice_judge(scorer: Scorer, measure: RewardFunction, label: str | None) -> PreviewJudge:
    """Who chooses: the scorer's own judge, if it measures predicted images, else one that does so with this reward."""
    judge = scorer.judge
    return judge if isinstance(judge, PreviewJudge) else PreviewJudge(scorer.pipeline, measure, label, scorer.decoder)


def choice_step(scorer: Scorer) -> int:
    """The step at which predicted images are compared: where they tell wordings apart, never before the probe step."""
    return min(scorer.steps, max(scorer.probe_step, round(settled_share(scorer.model) * scorer.steps)))


def choose(states: Sequence[State], contexts: Sequence[Context]) -> list[dict[str, Any]]:
    """What changes by the choice in each of several loops, all of one plan; their finalists are measured together.

    `choice` has each finalist's `preview`, the reward of its predicted image against the user's prompt. In the contexts the
    winner's trajectories are those of the choice, and the others' are freed.
    """
    found: list[dict[str, Any]] = [
        choose_seed(s, c) if is_due(s) else {} for s, c in zip(states, contexts, strict=True)
    ]
    at = [(n, i) for n, (s, c) in enumerate(zip(states, contexts, strict=True)) for i in finalists(s, c)]
    if not at:
        return found
    first = contexts[0]
    scorer, step = first.scorer, choice_step(first.scorer)
    judge = choice_judge(scorer, first.measure, first.label)  # type: ignore[arg-type]  # finalists have a reward
    try:
        looked = scorer.look_again(
            [contexts[n].scored[i] for n, i in at], judge, step, [states[n]["prompt"] for n, _ in at],
            on_step=lambda k: first.tell("step", step=k),
        )  # fmt: skip
    except InputError as error:
        told = {"notes": [f"not chosen by predicted images: {error}"]}
        return [told if any(m == n for m, _ in at) else found[n] for n in range(len(states))]
    for n, context in enumerate(contexts):
        own = {i: scored for (m, i), scored in zip(at, looked, strict=True) if m == n}
        if own:
            unsure = [c["id"] for c in states[n]["candidates"] if c.get("unsure")]
            found[n] = _chosen(context, own, rewrite_margin(judge.label), unsure)
    return found


def _chosen(context: Context, own: dict[int, Scored], margin: float, unsure: Collection[int]) -> dict[str, Any]:
    values = {i: s.score if all(map(math.isfinite, s.predicted)) else -math.inf for i, s in own.items()}
    best = winner(values, margin, unsure)
    for i, scored in own.items():
        # What the judge said of a wording stays; which seed is finished, and from where, the predicted images say.
        context.scored[i] = replace(
            context.scored[i], chosen=scored.best, trajectories=scored.trajectories if i == best else []
        )
    told = [
        {"id": i, "preview": round(v, 5) if math.isfinite(v) else None, "calls": whole(own[i].calls)}
        for i, v in values.items()
    ]  # fmt: skip
    return {"choice": told, "best": best}


def winner(values: Mapping[int, float], margin: float, unsure: Collection[int] = ()) -> int:
    """The candidate that is finished: the best rewrite that beats the user's own prompt (0) by more than `margin`, and by
    twice as much where it is `unsure` whether it still means the same."""
    able = [i for i, v in values.items() if i == 0 or v > values[0] + margin * (2 if i in unsure else 1)]
    return max(able, key=lambda i: (values[i], -i))
