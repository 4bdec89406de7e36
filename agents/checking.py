"""What may compete: a rewriter is asked, its rewrites are read against the prompt's facts, and screened.

Comes in: a request, and who checks (`Guarding`). Goes out: the answer with a verdict on each rewrite; what code is sure of
stands, where it isn't an LLM may decide.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InputError, PromptProbeError, reason_of
from ..facts import Facts, facts_of
from ..facts_check import check
from ..facts_compare import Verdict, compare
from ..facts_match import KEPT, LOST
from ..scoring import Scorer
from ..tokens import tokenize_prompt
from .fact_check import FACT_CHECK_SCHEMA, fact_check_request, read_fact_check, settle
from .guard import lost_words
from .rewrites import OnWait, Rewrite, RewriteAnswer, Rewriter, RewriteRequest, ask_rewriter

_FORM = {"type": "json_schema", "json_schema": {"name": "fact_check", "strict": True, "schema": FACT_CHECK_SCHEMA}}


@dataclass(frozen=True)
class Guarding:
    """Who checks that rewrites keep the meaning: `by` is code, llm (which asks the rewriter's LLM too) or off.

    `facts` are those of the prompt as a person left them (default: all that are read in it); a fact of `pinned`, by its
    text, must surely be kept.
    """

    by: str = "code"
    facts: Facts | None = None
    pinned: tuple[str, ...] = ()


def guard_for(by: str | None, rewriter: Rewriter | None) -> str:
    """Who checks what `rewriter` proposes: `by`, or where that is None llm for an LLM that can be asked, else code.

    Raises `InputError` for llm without such an LLM.
    """
    if by == "llm" and rewriter is not None and _reader(rewriter) is None:
        raise InputError(
            f"guard is 'llm', but the rewriter {rewriter.name!r} can't be asked; set an LLM's key or URL, or choose code"
        )
    return by or ("llm" if rewriter is not None and rewriter.calls_llm and _reader(rewriter) else "code")


def ask(
    rewriter: Rewriter | None,
    request: RewriteRequest,
    guarding: Guarding = Guarding(),
    *,
    calls: int | None = None,
    on_wait: OnWait | None = None,
) -> RewriteAnswer:
    """The rewriter's answer, with a verdict on every rewrite. Of `calls` LLM requests the fact check takes what is left.

    Trouble of any kind becomes a note, for a rewriter of the user's own may raise anything.
    """
    began = time.monotonic()
    try:
        answer = ask_rewriter(rewriter, request, on_wait)  # without one the loop stops before it asks
    except Exception as error:
        return RewriteAnswer([], notes=[f"the rewriter failed: {reason_of(error)}"], answered=False)
    texts = list(dict.fromkeys(" ".join(r.prompt.split()) for r in answer.rewrites[: request.count]))
    if guarding.by == "off":
        answer.verdicts = {text: Verdict(KEPT) for text in texts}
        return answer
    answer.verdicts = {text: _by_code(request, text, guarding) for text in texts}
    known = {p.casefold() for p in [request.prompt, *(t.prompt for t in request.tried)]}
    doubtful = [t for t in texts if answer.verdicts[t].verdict != LOST and t.casefold() not in known]
    if guarding.by == "llm" and doubtful and not answer.final:
        if calls is not None and answer.requests >= calls:
            answer.notes.append("no LLM request was left for the fact check; code alone decided")
        else:
            left = None if request.deadline is None else request.deadline - (time.monotonic() - began)
            _by_llm(rewriter, replace(request, deadline=left), doubtful, guarding, answer, on_wait)
    return answer


def _by_code(request: RewriteRequest, text: str, guarding: Guarding) -> Verdict:
    verdict = compare(request.prompt, text, guarding.facts, direction=request.direction)
    pinned = [f for f in guarding.facts or () if f.text in guarding.pinned]
    missing = [f"pinned fact {f.text}" for f in pinned if check(f, text).verdict != KEPT]
    return Verdict(LOST, (*missing, *verdict.lost), verdict.unsure) if missing else verdict


def _by_llm(
    rewriter: Any, request: RewriteRequest, texts: Sequence[str], guarding: Guarding, answer: RewriteAnswer,
    on_wait: OnWait | None,
) -> None:  # fmt: skip
    """Let an LLM read `texts` too; `answer` takes verdicts, costs and notes."""
    facts = guarding.facts or facts_of(request.prompt)
    spent = RewriteAnswer([])

    def read(said: str) -> list[Verdict | None]:
        found = read_fact_check(said, facts, len(texts))
        return found if any(found) else []

    try:
        found = _reader(rewriter)(  # type: ignore[misc]  # `guard_for` saw to it that there is one
            fact_check_request(facts, texts, request.direction), read, spent, schema=_FORM, round=request.round,
            deadline=request.deadline, on_wait=on_wait,
        )  # fmt: skip
    except Exception as error:
        found, spent.notes = None, [f"the LLM failed: {reason_of(error)}"]
    answer.requests += spent.requests
    answer.input_tokens += spent.input_tokens
    answer.output_tokens += spent.output_tokens
    answer.learned += spent.learned
    answer.estimated = answer.estimated or spent.estimated
    answer.final = answer.final or spent.final
    verdicts = found or [None] * len(texts)
    unread = verdicts.count(None)
    if unread:
        why = "; ".join(spent.notes) or f"{unread} of {len(texts)} rewrites were not judged"
        answer.notes.append(f"fact check: {why}; code alone decided")
    for text, verdict in zip(texts, verdicts, strict=True):
        answer.verdicts[text] = settle(answer.verdicts[text], verdict)


def _reader(rewriter: Any) -> Callable[..., list[Verdict | None] | None] | None:
    """What asks the rewriter's LLM any question, or None."""
    asks = getattr(rewriter, "ask", None)
    return asks if callable(asks) and getattr(rewriter, "reads", True) else None


@dataclass(frozen=True)
class Screened:
    """A proposed wording, blanks put right, why it is thrown out, or None, and what nobody could decide about it."""

    strategy: str
    prompt: str
    rejected: str | None
    unsure: tuple[str, ...] = ()


def screen(
    proposals: Sequence[Rewrite], original: str, tried: Sequence[str], keep: Sequence[str], scorer: Scorer,
    verdicts: Mapping[str, Verdict] | None = None,
) -> list[Screened]:  # fmt: skip
    """Each proposal with the first reason to throw it out: tried before, not fitting the text encoder, or not meaning
    what `original` does (by `verdicts`, else by code), or lacking a word of `keep`, which the person pinned."""
    seen = {p.casefold() for p in [original, *tried]}
    screened = []
    for proposal in proposals:
        text = " ".join(proposal.prompt.split())
        reason = "tried before" if text.casefold() in seen else _misfit(text, scorer)
        verdict = Verdict(KEPT) if reason else (verdicts or {}).get(text) or compare(original, text)
        missing = [] if reason else [*verdict.lost, *lost_words(keep, text)]
        if missing:
            reason = "lost " + ", ".join(missing)
        seen.add(text.casefold())
        screened.append(Screened(proposal.strategy, text, reason, () if reason else verdict.unsure))
    return screened


def _misfit(text: str, scorer: Scorer) -> str | None:
    """Why the text encoder can't take a wording whole, or None."""
    try:
        cut = tokenize_prompt(scorer.pipeline, text, scorer.settings).cut
    except PromptProbeError as error:
        return str(error)
    return f"too long by {cut} tokens" if cut else None
