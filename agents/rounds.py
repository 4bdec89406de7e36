"""The loop, as plain functions: from a state and a context to what changes in the state.

Graph, batch and session put them together. The state is plain JSON and is never changed in place: `updated` makes the next one.
Pipeline, judge, rewriter and the paused trajectories travel beside it in `Context`. Source of the gate: Diffusion Probe,
arXiv:2602.23783, §3.4.

In a candidate's record, `predicted` are its predicted rewards, one a seed, and `score` is their mean; `None` is not probed.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Protocol, TypedDict, get_type_hints

from PIL import Image

from ..backbones import backbone_of
from ..events import OnEvent
from ..records import CandidateRecord, whole
from ..rewards import RewardFunction
from ..scoring import Scored, Scorer
from ..worlds import knows_nothing, world_of
from .checking import Guarding, ask, screen
from .choice import best_of, margin_of, scale_of
from .rewrites import Rejected, RewriteAnswer, Rewriter, RewriteRequest, Try, Waiting

FRUITLESS = 2  # rounds in a row
SEEDS_INSTEAD = "no rewriter for this model: its seeds are searched"

FINALISTS = 4  # rewrites between whom the last choice is made, beside the user's own prompt


class State(TypedDict, total=False):
    """What is known of one prompt's optimisation; every value is plain JSON.

    `candidates` have been dealt with, `waiting` are to be probed; `count` is how many rewrites are asked for at once,
    `unanswered` in how many rounds the LLM said nothing that could be read. Without `tau` candidates are only compared.
    `choice` is what the last choice (`final_choice.choose`) found out of each finalist.
    """

    prompt: str
    seeds: list[int]
    tau: float | None
    rounds: int
    count: int
    round: int
    candidates: Annotated[list[dict[str, Any]], operator.add]
    waiting: list[dict[str, Any]]
    best: int
    stop_reason: str
    notes: Annotated[list[str], operator.add]
    rewriter_gone: bool
    llm_requests: int
    unanswered: int
    input_tokens: int
    output_tokens: int
    direction: str
    keep: list[str]
    choice: list[dict[str, Any]]


# What LangGraph reads from the annotations: how a key's old and new value become one; keys without are replaced.
_REDUCERS = {
    key: hint.__metadata__[0]
    for key, hint in get_type_hints(State, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}


def updated(state: State, changes: Mapping[str, Any]) -> State:
    """A new state, as the graph makes it: candidates and notes grow, everything else is replaced."""
    old: Any = state
    new = {key: _REDUCERS[key](old[key], value) if key in _REDUCERS else value for key, value in changes.items()}
    return {**state, **new}  # type: ignore[typeddict-item]


class Settled(Protocol):
    """What the loop reads of a plan."""

    scorer: Scorer
    rewriter: Any
    seeds: list[int]
    threshold: float | None
    rounds: int
    candidates: int
    label: str | None
    measure: RewardFunction | None
    max_llm_calls: int | None
    max_seconds: float | None
    guard: str
    search_seeds: bool


@dataclass
class Context:
    """What travels beside the state.

    `guarding` says who checks rewrites, `margin` by how much an unsure one must win (`best_of`). `scored` are the
    candidates' scores by id, `measure` and `label` the reward by which the last choice is made, `reached` the state after
    the last probing, `image` the finished image. With `search_seeds` nobody can reword the prompt, and the last choice is
    one among its seeds (`seed_choice`).
    """

    scorer: Scorer
    rewriter: Rewriter | None
    max_llm_calls: int | None = None
    max_seconds: float | None = None
    on_event: OnEvent | None = None
    guarding: Guarding = field(default_factory=Guarding)
    margin: float | None = None
    began: float = field(default_factory=time.perf_counter)
    scored: dict[int, Scored] = field(default_factory=dict)
    image: Image.Image | None = None
    measure: RewardFunction | None = None
    label: str | None = None
    reached: State | None = None
    search_seeds: bool = False

    def seconds_left(self) -> float | None:
        """What is left of `max_seconds`; None without a limit."""
        return None if self.max_seconds is None else max(0.0, self.max_seconds - (time.perf_counter() - self.began))

    def tell(self, event: str, **values: Any) -> None:
        if self.on_event:
            self.on_event(event, values)

    def tell_waiting(self, waiting: Waiting) -> None:
        """Tell that an LLM is waited for."""
        self.tell("waiting", **asdict(waiting))

    def remember(self, state: State, scored: Sequence[Scored], changes: Mapping[str, Any]) -> None:
        """Keep the scores of `to_probe(state)` and the state that `changes` lead to.

        Latents of candidates that can no longer win are freed: all but the best or, where a reward makes the last choice,
        the user's own and some of the best. What the judge saw of the original is still needed.
        """
        known = self.scored | {c["id"]: s for c, s in zip(fresh(state), scored, strict=True) if not s.dropped}
        best = changes["best"]
        kept = {best}
        if self.measure is not None:
            kept |= {0, *sorted((i for i in known if i), key=lambda i: (-known[i].score, i))[:FINALISTS]}
        self.scored = {i: s if i in kept else replace(s, trajectories=[]) for i, s in known.items()}
        self.reached = updated(state, changes)


def begin(prompt: str, plan: Settled, on_event: OnEvent | None = None) -> tuple[State, Context]:
    """State and context before anything was probed: the user's prompt is candidate 0 and waits."""
    state: State = {
        "prompt": prompt, "seeds": plan.seeds, "tau": plan.threshold, "rounds": plan.rounds, "count": plan.candidates,
        "round": 0, "candidates": [], "waiting": [asdict(CandidateRecord(0, 0, "as it is", prompt))], "best": 0,
        "stop_reason": "", "notes": [], "rewriter_gone": False, "llm_requests": 0, "unanswered": 0, "input_tokens": 0,
        "output_tokens": 0, "direction": "", "keep": [], "choice": [],
    }  # fmt: skip
    return state, Context(
        plan.scorer, plan.rewriter, plan.max_llm_calls, plan.max_seconds, on_event, Guarding(plan.guard),
        margin_of(plan.scorer), measure=plan.measure, label=plan.label, search_seeds=plan.search_seeds and plan.rounds > 0,
    )  # fmt: skip


def fresh(state: State) -> list[dict[str, Any]]:
    """Those that wait and were not thrown out."""
    return [c for c in state["waiting"] if c["rejected"] is None]


def to_probe(state: State) -> list[str]:
    """The prompts that wait to be scored."""
    return [c["prompt"] for c in fresh(state)]


def rivals(state: State) -> list[int]:
    """The group of each of `to_probe(state)`: an unsure wording, which may not win, gives no other one up early."""
    return [int(bool(c.get("unsure"))) for c in fresh(state)]


def take_scores(state: State, context: Context, scored: Sequence[Scored]) -> dict[str, Any]:
    """What changes with the scores of `to_probe(state)`: the best so far, and why to stop, if so."""
    results = {c["id"]: s for c, s in zip(fresh(state), scored, strict=True)}
    probed = [c | _result(results[c["id"]]) if c["id"] in results else c for c in state["waiting"]]
    best = best_of([*state["candidates"], *probed], context.margin)
    return {"candidates": probed, "waiting": [], "best": best["id"], "stop_reason": _stop(state, context, best)}


def _result(scored: Scored) -> dict[str, Any]:
    """What a candidate's record gains by being probed; one that was given up before the probe step gets no score."""
    measured = {
        "calls": whole(scored.calls), "seeds": scored.seeds, "predicted": [round(p, 5) for p in scored.predicted]
    }  # fmt: skip
    if scored.dropped:
        return measured | {"rejected": scored.dropped}
    return measured | shown(scored)


def shown(scored: Scored) -> dict[str, Any]:
    """What a person, a record and a rewriter see of a scored prompt: mean predicted reward, words, tokens cut off."""
    return {
        "score": round(scored.score, 5), "cut_tokens": scored.cut_tokens, "words": [asdict(w) for w in scored.words]
    }  # fmt: skip


def next_request(state: State, context: Context) -> RewriteRequest:
    """What the rewriter is asked in the next round."""
    return request_of(
        context.scored[0], state["candidates"][0], state["candidates"], tau=state["tau"], count=state["count"],
        round=state["round"] + 1, direction=state.get("direction", ""), keep=state.get("keep", []),
        family=family_of(context.scorer), deadline=context.seconds_left(), scale=scale_of(context.scorer) or (),
        label=context.scorer.label,
    )  # fmt: skip


def calls_left(state: State, context: Context) -> int | None:
    """How many LLM requests may still be made; None without a limit."""
    return None if context.max_llm_calls is None else context.max_llm_calls - state["llm_requests"]


def put(state: State, context: Context, request: RewriteRequest) -> RewriteAnswer:
    """The answer to `next_request`, checked; takes as long as the LLM does. Time spent in a queue before is gone."""
    return ask(
        context.rewriter, replace(request, deadline=context.seconds_left()), context.guarding, calls=calls_left(state, context),
        on_wait=context.tell_waiting if context.on_event else None,
    )  # fmt: skip


def request_of(
    scored: Scored,
    candidate: Mapping[str, Any],
    tried: Sequence[Mapping[str, Any]],
    *,
    tau: float | None,
    count: int,
    round: int,
    direction: str = "",
    keep: Sequence[str] = (),
    family: str = "",
    deadline: float | None = None,
    scale: Sequence[float] = (),
    label: str = "",
) -> RewriteRequest:
    """The request to rewrite `candidate`, of which `scored` is what was seen, told what was tried and turned down."""
    return RewriteRequest(
        prompt=candidate["prompt"], score=candidate["score"], tau=tau, words=scored.words,
        tried=[Try(c["prompt"], c["score"]) for c in tried if c["score"] is not None], count=count,
        token_limit=scored.token_limit, round=round, direction=direction, keep=list(keep),
        family=family, deadline=deadline, length=len(scored.tokens.columns) + scored.cut_tokens, scale=scale, label=label,
        rejected=[Rejected(c["prompt"], c["rejected"]) for c in tried if c.get("rejected")],
    )  # fmt: skip


def family_of(scorer: Scorer) -> str:
    """The image model's family, which tells a rewriter how it likes to be spoken to: a built-in world's name, or its
    backbone's."""
    world = world_of(scorer.model) if scorer.model else None
    return world.name if world else backbone_of(scorer.pipeline).family


def take_answer(state: State, context: Context, answer: RewriteAnswer) -> dict[str, Any]:
    """What changes with the rewriter's answer: screened candidates that wait to be probed, and what it cost."""
    number = state["round"] + 1
    tried = [c["prompt"] for c in state["candidates"]]
    keep = state.get("keep", [])
    proposals = screen(answer.rewrites[: state["count"]], tried[0], tried, keep, context.scorer, answer.verdicts)
    waiting = [
        asdict(CandidateRecord(i, number, s.strategy, s.prompt, rejected=s.rejected, unsure=list(s.unsure)))
        for i, s in enumerate(proposals, start=len(tried))
    ]
    notes = [f"round {number}: {note}" for note in answer.notes]
    if all(s.rejected for s in proposals):
        notes.append(f"round {number}: no usable rewrite")
    return {
        "waiting": waiting, "round": number, "notes": notes, "rewriter_gone": answer.final,
        "llm_requests": state["llm_requests"] + answer.requests,
        "unanswered": state.get("unanswered", 0) + (not answer.answered),
        "input_tokens": state["input_tokens"] + answer.input_tokens,
        "output_tokens": state["output_tokens"] + answer.output_tokens,
    }  # fmt: skip


def _stop(state: State, context: Context, best: Mapping[str, Any]) -> str:
    """Why the loop ends with `best` as the best candidate, or an empty string."""
    if knows_nothing(state["prompt"], context.scorer.model):
        return "nothing of the prompt is known to this model"
    if state["tau"] is not None and best["score"] >= state["tau"]:
        return "good enough" if state["round"] else "good enough as it was"
    rewriter, calls, seconds = context.rewriter, context.max_llm_calls, context.max_seconds
    late = seconds is not None and time.perf_counter() - context.began >= seconds
    if context.search_seeds:
        return "time used up" if late else SEEDS_INSTEAD
    if rewriter is None:
        return "no rewriter"
    if state["rewriter_gone"]:
        return "the LLM refused"
    if state["round"] >= state["rounds"]:
        return "rounds used up"
    if state["round"] - best["round"] >= FRUITLESS:
        return "two rounds without a better prompt"
    if calls is not None and rewriter.calls_llm and state["llm_requests"] >= calls:
        return "LLM budget used up"
    if late:
        return "time used up"
    if state["round"] and not fresh(state) and not rewriter.calls_llm:
        return "no further rewrite"
    return ""
