"""The loop: probe -> (good enough, or rounds or budget used up) -> generate; else rewrite -> probe again.

A LangGraph `StateGraph`. Its state is plain JSON; pipeline, probe, rewriter and the paused trajectories travel beside it
in the graph's context. Source of the gate: Diffusion Probe, arXiv:2602.23783, §3.4.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from PIL import Image

from ..records import CandidateRecord, whole
from ..scoring import Scored, Scorer
from ..tokens import clean_prompt, tokenize_prompt
from ..trajectory import finish
from .guard import lost, lost_words
from .rewriter import RewriteAnswer, Rewriter, RewriteRequest, Try


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


class Question(TypedDict):
    """What the loop takes as a subgraph of another graph."""

    prompt: str


class Outcome(TypedDict):
    """What the loop gives back as a subgraph: the best prompt, its predicted reward, why it stopped, what was tried."""

    best_prompt: str
    predicted_reward: float
    stop_reason: str
    candidates: list[dict[str, Any]]
    notes: list[str]


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


def probe(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Score everything that waits, in one batch on the same seeds, and keep the best so far."""
    context = runtime.context
    prompts = to_probe(state)
    context.tell("probing", prompts=prompts, round=state["round"])
    scored = []
    if prompts:
        scored = context.scorer.score(
            prompts, state["seeds"], on_step=lambda k: context.tell("step", step=k), winners=1
        )
    return take_scores(state, context, scored)


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


def rewrite(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Ask for rewrites of the prompt; throw out what repeats, doesn't fit or loses what the person asked for."""
    context = runtime.context
    context.tell("rewriting", round=state["round"] + 1)
    answer = context.rewriter.rewrite(request_of(state, context))  # type: ignore[union-attr]
    return take_answer(state, context, answer)


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


def generate(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Continue the best candidate's best trajectory from where it is paused to the finished image."""
    context = runtime.context
    winner = context.scored[state["best"]]
    paused, row = winner.trajectories[winner.best]
    context.tell("generating", prompt=winner.prompt)
    images = finish(context.scorer.pipeline, paused, [row], on_step=lambda k: context.tell("step", step=k))
    context.image = images[0]
    return {}


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


def build(generating: bool = True):
    """The compiled graph: `probe`, `rewrite` and, where an image is wanted, `generate`."""
    graph = StateGraph(State, context_schema=Context)
    graph.add_node("probe", probe)
    graph.add_node("rewrite", rewrite)
    if generating:
        graph.add_node("generate", generate)
        graph.add_edge("generate", END)
    last = "generate" if generating else END
    graph.add_edge(START, "probe")
    graph.add_conditional_edges("probe", lambda s: last if s["stop_reason"] else "rewrite", [last, "rewrite"])
    graph.add_edge("rewrite", "probe")
    return graph.compile()


def first_state(prompt: str, seeds: list[int], *, tau: float, rounds: int, count: int) -> State:
    """The state before anything was probed: the user's prompt is candidate 0 and waits."""
    original = asdict(CandidateRecord(0, 0, "as it is", prompt))
    return {
        "prompt": prompt, "seeds": seeds, "tau": tau, "rounds": rounds, "count": count, "round": 0, "candidates": [],
        "waiting": [original], "best": 0, "stop_reason": "", "notes": [], "rewriter_gone": False, "llm_requests": 0,
        "input_tokens": 0, "output_tokens": 0, "direction": "", "keep": [],
    }  # fmt: skip


def run(prompt: str, seeds: list[int], *, tau: float, rounds: int, count: int, context: Context) -> State:
    """Run the loop for one prompt; the finished image is `context.image`, paused trajectories stay in `context`."""
    state = first_state(prompt, seeds, tau=tau, rounds=rounds, count=count)
    return build().invoke(state, context=context, config={"recursion_limit": 2 * rounds + 10})  # type: ignore[return-value,call-overload]


def subgraph(plan: Any = None, **options: Any):
    """The loop as a compiled graph with typed input (`Question`) and output (`Outcome`), to be a node of another graph.

    It probes and rewrites but generates no image. `plan` is what `make_plan` returns; `options` are its arguments.
    """
    from ..runs import make_plan

    plan = plan or make_plan(**options)

    def search(given: Question) -> Outcome:
        context = Context(plan.scorer, plan.rewriter, plan.max_llm_calls, plan.max_seconds)
        state = first_state(
            clean_prompt(given["prompt"]), plan.seeds, tau=plan.threshold, rounds=plan.rounds, count=plan.candidates
        )
        final: Any = build(generating=False).invoke(
            state, context=context, config={"recursion_limit": 2 * plan.rounds + 10}
        )
        best = next(c for c in final["candidates"] if c["id"] == final["best"])
        return {
            "best_prompt": best["prompt"], "predicted_reward": best["score"], "stop_reason": final["stop_reason"],
            "candidates": final["candidates"], "notes": [*plan.notes, *final["notes"]],
        }  # fmt: skip

    graph = StateGraph(_Whole, input_schema=Question, output_schema=Outcome)
    graph.add_node("optimize_prompt", search)
    graph.add_edge(START, "optimize_prompt")
    graph.add_edge("optimize_prompt", END)
    return graph.compile()


class _Whole(Question, Outcome):
    """Input and output of the subgraph together."""
