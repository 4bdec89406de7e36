"""Which rewriter a run gets: from its options and the environment; and answers kept in a folder, not asked for twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError
from ..files import write_together
from ..options import check
from ..phrases import Thesaurus
from .offline import OfflineRewriter
from .providers import HOUSES, find_place, first_model
from .rewriter import ChatRewriter
from .rewrites import OnWait, Rewrite, RewriteAnswer, Rewriter, RewriteRequest, ask_rewriter

T = TypeVar("T")


class CachedRewriter:
    """A rewriter whose answers are kept in a folder and not asked for twice; answers with any trouble are not kept."""

    def __init__(self, rewriter: Rewriter, folder: Path):
        self.rewriter, self.folder = rewriter, folder
        self.name, self.calls_llm = rewriter.name, rewriter.calls_llm
        self.reads = callable(getattr(rewriter, "ask", None))

    @property
    def tells_waiting(self) -> bool:
        return getattr(self.rewriter, "tells_waiting", False)

    def rewrite(self, request: RewriteRequest, on_wait: OnWait | None = None) -> RewriteAnswer:
        """The kept answer (which costs no request), or a new one."""
        known = asdict(request)
        del known["deadline"]  # how much time is left changes nothing about what is asked
        path = self._place(known)
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads(path.read_text("utf-8"))
            return RewriteAnswer([Rewrite(str(r["strategy"]), str(r["prompt"])) for r in kept["rewrites"]])
        answer = ask_rewriter(self.rewriter, request, on_wait)
        if answer.rewrites and not answer.notes and not answer.final:
            text = json.dumps({"rewrites": [asdict(r) for r in answer.rewrites]}, ensure_ascii=False) + "\n"
            write_together({path: text.encode()})
        return answer

    def ask(
        self, messages: list[dict[str, str]], read: Callable[[str], T], answer: RewriteAnswer, **how: Any
    ) -> T | None:
        """As `ChatRewriter.ask`; what could be read is kept, and costs no request the next time."""
        path = self._place(messages)
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            if found := read(str(json.loads(path.read_text("utf-8"))["said"])):
                return found
        said = ""

        def reading(text: str) -> T:
            nonlocal said
            found = read(text)
            said = text if found else ""
            return found

        asks: Any = self.rewriter
        found = asks.ask(messages, reading, answer, **how)
        if found and said and not answer.notes:
            write_together({path: (json.dumps({"said": said}, ensure_ascii=False) + "\n").encode()})
        return found

    def _place(self, asked: Any) -> Path:
        text = json.dumps([self.name, asked], sort_keys=True, ensure_ascii=False)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def make_rewriter(
    kind: str = "auto", *, llm_model: str | None = None, llm_base_url: str | None = None, seed: int | None = None,
    timeout: float | None = None, max_tokens: int | None = None, effort: str | None = None,
    prices: tuple[float, float] | None = None, on_wait: OnWait | None = None,
    thesaurus: Thesaurus | None = None,
) -> tuple[Rewriter | None, str | None]:  # fmt: skip
    """The rewriter that the environment and options call for (the table in `providers` says which), and a note when it is
    not what was asked. `timeout`, `max_tokens` and `effort` are `ChatRewriter`'s, within its ranges.
    `thesaurus` is the model's world's; the offline rewriter proposes nothing without one.

    Raises `InputError` for an unknown kind, a value out of its range, a base URL that is none, and a server on this
    machine that has no model to offer.
    """
    check("rewriter", kind)
    for name, value in (("llm_timeout", timeout), ("llm_max_tokens", max_tokens), ("llm_effort", effort)):
        check(name, value)
    place = find_place(llm_model, llm_base_url)
    if kind == "offline":
        return OfflineRewriter(thesaurus), None
    if place is None and kind == "auto" and not llm_model:
        return OfflineRewriter(thesaurus), None
    if place is None or not (place.key or place.local or place.house == "local"):
        if place is not None and kind == "auto" and llm_base_url is None and llm_model is None:
            return OfflineRewriter(thesaurus), None
        keys = ", ".join(k for house in HOUSES for k in house.keys)
        return None, f"no LLM key: set one of {keys}, or choose --rewriter offline; nothing was rewritten"
    try:
        model = place.model or first_model(place)
    except InputError as error:
        if kind == "llm" or place.given:
            raise
        return OfflineRewriter(thesaurus), f"OLLAMA_HOST is set, but {error}; the offline rewriter was taken"
    return ChatRewriter(
        model=model, base_url=place.url, api_key=place.key or "none", seed=seed, timeout=timeout, max_tokens=max_tokens,
        effort=effort or place.effort, prices=prices, on_wait=on_wait, house=place.house,
    ), None  # fmt: skip
