"""The loop as a LangGraph `StateGraph`: probe -> (a reason to stop) -> choose -> generate; else rewrite -> probe again.

The nodes call the steps of `rounds`; `subgraph` is the loop as a node of another graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict

from ..errors import InputError
from ..events import OnEvent
from ..trajectory import finish
from .arguments import check_prompt
from .final_choice import choose as choose_among
from .plan import given_plan
from .rounds import Context, State, begin, next_request, put, rivals, take_answer, take_scores, to_probe


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


class _QuestionAndOutcome(Question, Outcome):
    """What the subgraph keeps."""


def probe(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Score everything that waits, in one batch on the same seeds, and keep the best so far."""
    context = runtime.context
    prompts = to_probe(state)
    context.tell("probing", prompts=prompts, round=state["round"])
    scored = (
        context.scorer.score(
            prompts,
            state["seeds"],
            on_step=lambda k: context.tell("step", step=k),
            groups=rivals(state),
            winners=1,
            against=[state["prompt"]] * len(prompts),
        )
        if prompts
        else []
    )
    changes = take_scores(state, context, scored)
    context.remember(state, scored, changes)
    context.tell(
        "probed", candidates=changes["candidates"], best=changes["best"], tau=state["tau"],
        trajectory=context.scored[changes["best"]].trajectory,
    )  # fmt: skip
    return changes


def rewrite(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Ask for rewrites of the prompt; they wait to be probed."""
    context = runtime.context
    context.tell("rewriting", round=state["round"] + 1)
    answer = put(state, context, next_request(state, context))
    return take_answer(state, context, answer)


def choose(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Choose between the user's own prompt and the best rewrites by their predicted images."""
    return choose_among([state], [runtime.context])[0]


def generate(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Continue the best candidate's best trajectory from where it is paused to the finished image."""
    context = runtime.context
    winner = context.scored[state["best"]]
    paused, row = winner.trajectories[winner.best]
    context.tell("generating", prompt=winner.prompt, trajectory=(paused, row))
    images: Any = finish(context.scorer.pipeline, paused, [row], on_step=lambda k: context.tell("step", step=k))
    context.image = images[0]
    return {}


def build(generating: bool = True):
    """The compiled graph: `probe`, `rewrite`, `choose` and, where an image is wanted, `generate`."""
    graph = StateGraph(State, context_schema=Context)
    graph.add_node("probe", probe)
    graph.add_node("rewrite", rewrite)
    graph.add_node("choose", choose)
    if generating:
        graph.add_node("generate", generate)
        graph.add_edge("generate", END)
    graph.add_edge("choose", "generate" if generating else END)
    graph.add_edge(START, "probe")
    graph.add_conditional_edges("probe", lambda s: "choose" if s["stop_reason"] else "rewrite", ["choose", "rewrite"])
    graph.add_edge("rewrite", "probe")
    return graph.compile()


def run(state: State, context: Context, generating: bool = True) -> State:
    """Run the loop from what `rounds.begin` gives to its end.

    The finished image is `context.image`; the best candidate's paused trajectories stay in `context`.
    """
    limit = 2 * state["rounds"] + 10
    context.search_seeds &= generating
    return build(generating).invoke(state, context=context, config={"recursion_limit": limit})  # type: ignore[return-value,call-overload]


def _streamed(write: Callable[[dict[str, Any]], None]) -> OnEvent:
    """Events for a stream of LangGraph's: plain values only."""

    def tell(event: str, values: dict[str, Any]) -> None:
        plain = {k: v for k, v in values.items() if isinstance(v, (str, int, float, bool, list, dict, type(None)))}
        write({"event": event, **plain})

    return tell


def best_wording(prompt: str, plan: Any, on_event: OnEvent | None = None) -> tuple[dict[str, Any], State]:
    """The loop without an image: the best candidate of a prompt, and the state that it ended in."""
    final = run(*begin(check_prompt(prompt), plan, on_event), generating=False)
    return final["candidates"][final["best"]], final


def subgraph(plan: Any = None, **options: Any):
    """The loop as a compiled graph with typed input (`Question`) and output (`Outcome`), to be a node of another graph.

    It probes and rewrites but generates no image. `plan` is what `make_plan` returns; `options` are its arguments. With
    `stream_mode="custom"` what happens is streamed as `{"event": ..., ...}`: probing, step, probed, rewriting, waiting.
    Raises `InputError` for options beside a `plan`, for a state without a prompt, or with one that is none.
    """
    plan = given_plan("subgraph", plan, options)

    def search(given: Question) -> Outcome:
        if not isinstance(given, dict) or "prompt" not in given:
            raise InputError("the state has no 'prompt'; give {\"prompt\": TEXT}")
        best, final = best_wording(given["prompt"], plan, _streamed(get_stream_writer()))
        return {
            "best_prompt": best["prompt"], "predicted_reward": best["score"], "stop_reason": final["stop_reason"],
            "candidates": final["candidates"], "notes": [*plan.notes, *final["notes"]],
        }  # fmt: skip

    graph: Any = StateGraph(_QuestionAndOutcome, input_schema=Question, output_schema=Outcome)
    graph.add_node("optimize_prompt", search)
    graph.add_edge(START, "optimize_prompt")
    graph.add_edge("optimize_prompt", END)
    return graph.compile()
