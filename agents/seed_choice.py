"""The last choice where nobody can reword a prompt: the words stay, and the best of several seeds is looked for.

Comes in: the state of a loop that has looked at the prompt as it is. Goes out: which seed is finished, and what was seen of
each. The trajectories that the loop has begun go on where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..diagnosis import diagnose
from ..errors import InputError
from ..records import whole
from ..scoring import Scorer
from ..search import settle_search, take_seed
from .rounds import SEEDS_INSTEAD, Context, State

NO_WORDS = (
    "there is no LLM, and no thesaurus for this model: the words stay as they are, and the best of several seeds is looked "
    "for; for other wordings set OPENAI_API_KEY or --llm-base-url"
)


def is_due(state: State) -> bool:
    """Whether a loop that has stopped did so for its seeds to be searched."""
    return state["stop_reason"] == SEEDS_INSTEAD


def seeds_of(scorer: Scorer, given: Sequence[int]) -> tuple[str, float | None, Sequence[int]]:
    """Policy, budget and seeds of a search: several seeds that were `given`, else as many as a search takes by itself."""
    return settle_search(scorer, given if len(given) > 1 else None, given[0])[:3]


def choose_seed(state: State, context: Context) -> dict[str, Any]:
    """What changes by a search of the prompt's seeds; in the context the winner's trajectory takes the place of the first."""
    scorer, own = context.scorer, context.scored[0]
    policy, budget, seeds = seeds_of(scorer, state["seeds"])
    before = sum(paused.step for paused, _ in own.trajectories)
    context.tell("searching", seeds=len(seeds))
    try:
        race, row, records, notes = take_seed(
            scorer, own.prompt, seeds, policy, budget, own.trajectories, lambda k: context.tell("step", step=k)
        )
    except InputError as error:
        return {"notes": [f"no seeds were searched: {error}"]}
    kept = row.paused
    assert kept is not None
    tokens = own.tokens
    maps = kept.token_maps[max(kept.token_maps)][row.row, : len(tokens.columns)]
    seen = [i for i, record in enumerate(records) if record.predicted]
    predicted = [records[i].last for i in seen]
    context.scored[0] = replace(
        own, seeds=[records[i].seed for i in seen], predicted=predicted, chosen=seen.index(row.place), maps=maps,
        words=diagnose(maps, tokens), trajectories=[(kept, row.row)] * len(seen),
    )  # fmt: skip
    told = {"id": 0, "seeds": context.scored[0].seeds, "predicted": [round(p, 5) for p in predicted],
            "calls": whole(own.calls - before + sum(race.calls))}  # fmt: skip
    return {"choice": [told], "notes": [NO_WORDS, *notes]}
