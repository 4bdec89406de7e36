"""The steps of the loop as plain functions of its state; the graph, the batch and the session put them together.

The state is plain JSON. Pipeline, judge, rewriter and the paused trajectories travel beside it in `Context`.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, TypedDict

from PIL import Image

from ..records import CandidateRecord, whole
from ..scoring import Scored, Scorer
from ..tokens import tokenize_prompt
from .guard import lost, lost_words
from .rewrites import RewriteAnswer, Rewriter, RewriteRequest, Try


class State(TypedDict, total=False):
    """What the graph knows; every value is plain JSON. `candidates` only grows; `waiting` are ids not yet probed."""

    prompt: str
    seeds: list[int]
    tau: float
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
    input_tokens: int
    output_tokens: int
    direction: str
    keep: list[str]


@dataclass
class Context:
    """What the nodes work with. `scored`, `image` and `reached`, the state after the last probing, are filled by them."""

    scorer: Scorer
    rewriter: Rewriter | None
    max_llm_calls: int | None = None
    max_seconds: float | None = None
    on_event: Callable[[str, dict[str, Any]], None] | None = None
    began: float = field(default_factory=time.perf_counter)
    scored: dict[int, Scored] = field(default_factory=dict)
    image: Image.Image | None = None
    reached: State | None = None

    def tell(self, event: str, **values: Any) -> None:
        if self.on_event:
            self.on_event(event, values)


def to_probe(state: State) -> list[str]:
    """The prompts that wait to be scored."""
    return [c["prompt"] for c in state["waiting"] if c["rejected"] is None]


def take_scores(state: State, context: Context, scored: Sequence[Scored]) -> dict[str, Any]:
    """What the state becomes with the scores of `to_probe(state)`: the best so far, and why to stop, if so."""
    waiting = state["waiting"]
    fresh = [c for c in waiting if c["rejected"] is None]
    for candidate, s in zip(fresh, scored, strict=True):
        candidate["calls"] = whole(s.calls)
        if s.dropped:
            candidate |= {"seeds": s.seeds, "predicted": [round(p, 5) for p in s.predicted], "rejected": s.dropped}
            continue
        context.scored[candidate["id"]] = s
        candidate |= {
            "seeds": s.seeds, "predicted": [round(p, 5) for p in s.predicted], "score": round(s.score, 5),
            "cut_tokens": s.cut_tokens, "words": [asdict(w) for w in s.words],
        }  # fmt: skip
    ranked = [c for c in [*state["candidates"], *waiting] if c["score"] is not None]
    # max keeps the first of equals: the original wins a tie.
    best = max(ranked, key=lambda c: c["score"])
    _forget(context, best["id"])
    context.tell("probed", candidates=waiting, best=best["id"], tau=state["tau"])
    reason = _stop(state, context, best)
    context.reached = State(
        **state | {"candidates": [*state["candidates"], *waiting], "best": best["id"], "stop_reason": reason}  # type: ignore[typeddict-item]
    )
    return {"candidates": waiting, "waiting": [], "best": best["id"], "stop_reason": reason}


def request_of(state: State, context: Context) -> RewriteRequest:
    """What the rewriter is asked in the next round."""
    tried = state["candidates"]
    original = tried[0]
    return RewriteRequest(
        prompt=original["prompt"], score=original["score"], tau=state["tau"], words=context.scored[0].words,
        tried=[Try(c["prompt"], c["score"]) for c in tried if c["score"] is not None], count=state["count"],
        token_limit=context.scored[0].token_limit, round=state["round"] + 1, direction=state.get("direction", ""),
        keep=list(state.get("keep", [])),
    )  # fmt: skip


def take_answer(state: State, context: Context, answer: RewriteAnswer) -> dict[str, Any]:
    """What the state becomes with the rewriter's answer: candidates to probe, each checked by the intent guard."""
    number = state["round"] + 1
    tried = state["candidates"]
    original = tried[0]["prompt"]
    seen = {c["prompt"].casefold() for c in tried}
    fresh: list[dict[str, Any]] = []
    for proposal in answer.rewrites[: state["count"]]:
        text = " ".join(proposal.prompt.split())
        rejected = None
        if text.casefold() in seen:
            rejected = "tried before"
        elif cut := tokenize_prompt(context.scorer.pipeline, text, context.scorer.settings).cut:
            rejected = f"too long by {cut} tokens"
        elif missing := [*lost(original, text), *lost_words(state.get("keep", []), text)]:
            rejected = "lost " + ", ".join(missing)
        seen.add(text.casefold())
        fresh.append(
            asdict(CandidateRecord(len(tried) + len(fresh), number, proposal.strategy, text, rejected=rejected))
        )
    notes = [f"round {number}: {note}" for note in answer.notes]
    if not any(c["rejected"] is None for c in fresh):
        notes.append(f"round {number}: no usable rewrite")
    return {
        "waiting": fresh, "round": number, "notes": notes, "rewriter_gone": answer.final,
        "llm_requests": state["llm_requests"] + answer.requests,
        "input_tokens": state["input_tokens"] + answer.input_tokens,
        "output_tokens": state["output_tokens"] + answer.output_tokens,
    }  # fmt: skip


def _stop(state: State, context: Context, best: dict[str, Any]) -> str:
    """Why the loop ends now, or an empty string."""
    if best["score"] >= state["tau"]:
        return "good enough" if state["round"] else "good enough as it was"
    if context.rewriter is None:
        return "no rewriter"
    if state["rewriter_gone"]:
        return "the LLM refused"
    if state["round"] >= state["rounds"]:
        return "rounds used up"
    if (
        context.max_llm_calls is not None
        and context.rewriter.calls_llm
        and state["llm_requests"] >= context.max_llm_calls
    ):
        return "LLM budget used up"
    if context.max_seconds is not None and time.perf_counter() - context.began >= context.max_seconds:
        return "time used up"
    if state["round"] and not any(c["rejected"] is None for c in state["waiting"]) and not context.rewriter.calls_llm:
        return "no further rewrite"
    return ""


def _forget(context: Context, best: int) -> None:
    """Free the latents of candidates that can no longer win; the original's diagnosis is still needed."""
    for i, scored in context.scored.items():
        if i != best:
            scored.trajectories = []


def first_state(prompt: str, seeds: list[int], *, tau: float, rounds: int, count: int) -> State:
    """The state before anything was probed: the user's prompt is candidate 0 and waits."""
    original = asdict(CandidateRecord(0, 0, "as it is", prompt))
    return {
        "prompt": prompt, "seeds": seeds, "tau": tau, "rounds": rounds, "count": count, "round": 0, "candidates": [],
        "waiting": [original], "best": 0, "stop_reason": "", "notes": [], "rewriter_gone": False, "llm_requests": 0,
        "input_tokens": 0, "output_tokens": 0, "direction": "", "keep": [],
    }  # fmt: skip
