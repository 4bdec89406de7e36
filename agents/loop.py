"""The loop: probe -> (good enough, or rounds or budget used up) -> generate; else rewrite -> probe again.

A LangGraph `StateGraph`. Its state is plain JSON; pipeline, probe, rewriter and the paused trajectories travel beside it
in the graph's context. Source of the gate: Diffusion Probe, arXiv:2602.23783, §3.4.
"""

from __future__ import annotations

from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from ..tokens import clean_prompt
from ..trajectory import finish
from .plan import make_plan
from .rounds import Context, State, first_state, request_of, take_answer, take_scores, to_probe


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


def rewrite(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Ask for rewrites of the prompt; throw out what repeats, doesn't fit or loses what the person asked for."""
    context = runtime.context
    context.tell("rewriting", round=state["round"] + 1)
    answer = context.rewriter.rewrite(request_of(state, context))  # type: ignore[union-attr]
    return take_answer(state, context, answer)


def generate(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Continue the best candidate's best trajectory from where it is paused to the finished image."""
    context = runtime.context
    winner = context.scored[state["best"]]
    paused, row = winner.trajectories[winner.best]
    context.tell("generating", prompt=winner.prompt)
    images: Any = finish(context.scorer.pipeline, paused, [row], on_step=lambda k: context.tell("step", step=k))
    context.image = images[0]
    return {}


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


def run(prompt: str, seeds: list[int], *, tau: float, rounds: int, count: int, context: Context) -> State:
    """Run the loop for one prompt; the finished image is `context.image`, paused trajectories stay in `context`."""
    state = first_state(prompt, seeds, tau=tau, rounds=rounds, count=count)
    return build().invoke(state, context=context, config={"recursion_limit": 2 * rounds + 10})  # type: ignore[return-value,call-overload]


def subgraph(plan: Any = None, **options: Any):
    """The loop as a compiled graph with typed input (`Question`) and output (`Outcome`), to be a node of another graph.

    It probes and rewrites but generates no image. `plan` is what `make_plan` returns; `options` are its arguments.
    """
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

    graph: Any = StateGraph(_Whole, input_schema=Question, output_schema=Outcome)
    graph.add_node("optimize_prompt", search)
    graph.add_edge(START, "optimize_prompt")
    graph.add_edge("optimize_prompt", END)
    return graph.compile()


class _Whole(Question, Outcome):
    """Input and output of the subgraph together."""
