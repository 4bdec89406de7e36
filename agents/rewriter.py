"""Ask an OpenAI-compatible chat model for rewrites, and take its answer as data.

Comes in: a `RewriteRequest`. Goes out: a `RewriteAnswer` with as many usable rewrites as the model gave, its token use
and notes on what went wrong. Whatever the endpoint does, nothing is raised, and everything ends within its time.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

from ..options import EFFORTS
from .asking import messages_of, schema_of
from .call import MAX_TOKENS, MOST_TOKENS, Call
from .dialect import Change, Dialect
from .endpoint import Endpoint, Pacer
from .rewrites import OnWait, Rewrite, RewriteAnswer, RewriteRequest, Try, parse_rewrites

__all__ = [
    "EFFORTS",
    "MAX_TOKENS",
    "MOST_TOKENS",
    "ChatRewriter",
    "Pacer",
    "Rewrite",
    "RewriteAnswer",
    "RewriteRequest",
    "Try",
    "parse_rewrites",
]

TIMEOUT, LOCAL_TIMEOUT = 60.0, 300.0  # seconds for one answer; a local server may be slow
PLACEHOLDERS = frozenset({"", "none", "empty", "ollama", "lm-studio", "no-key", "sk-no-key-required", "not-needed"})

T = TypeVar("T")
_known: dict[tuple[str, str], Dialect] = {}  # what was learned of endpoints, for all rewriters of the process
_known_lock = threading.Lock()


class ChatRewriter:
    """An OpenAI-compatible chat model.

    `timeout` are the seconds for one answer (`TIMEOUT`, `LOCAL_TIMEOUT` on this machine), `max_tokens` the room for it (`MAX_TOKENS`, `LOCAL_MAX_TOKENS`; an
    answer that thinking used up is asked for again with more, unless it is given), `effort` how hard the model should
    think, one of `EFFORTS`; None leaves it to the endpoint. `at_once` bounds the requests under way, `prices` (for a
    million input and output tokens) are for `Waiting.cost`. A parameter that the endpoint refuses is left out from then
    on; 429, 5xx and dropped connections are repeated with growing pauses, a time-out once.
    """

    calls_llm = True
    tells_waiting = True

    def __init__(
        self, *, model: str, base_url: str | None = None, api_key: str = "none", temperature: float | None = 0.7,
        seed: int | None = None, timeout: float | None = None, max_tokens: int | None = None, effort: str | None = None,
        retries: int = 3, backoff: float = 1.0, sleep: Callable[[float], None] = time.sleep, pacer: Pacer | None = None,
        at_once: int | None = None, prices: tuple[float, float] | None = None, on_wait: OnWait | None = None,
        house: str = "",
    ):  # fmt: skip
        key = api_key.strip()
        self._keys = [] if key.lower() in PLACEHOLDERS else sorted({key, quote(key, safe="")}, key=len, reverse=True)
        self.endpoint = Endpoint(base_url or "https://api.openai.com/v1", key, at_once=at_once)
        self.model, self.temperature, self.seed = model, temperature, seed
        self.timeout = timeout or (LOCAL_TIMEOUT if self.endpoint.local else TIMEOUT)
        self.max_tokens, self.prices, self.on_wait = max_tokens, prices, on_wait
        self.retries, self.backoff, self.sleep = retries, backoff, sleep
        self.pacer = pacer or Pacer(sleep)
        shown = (
            model.replace("\\", "/").rpartition("/")[2] if model[:1] == "/" or ":\\" in model else model
        )  # not a folder
        self.name = f"{shown} at {self.endpoint.host}"
        self.requests = self.input_tokens = self.output_tokens = 0  # of all calls so far
        self.lock = threading.Lock()
        self.accepted: set[Dialect] = set()
        first = Dialect(
            effort=effort if effort in EFFORTS else None, house=house or ("local" if self.endpoint.local else "")
        )
        self._place = (self.endpoint.base_url, f"{model} {effort}")
        # A local port may serve another model tomorrow, so what it refused is forgotten with the rewriter.
        self.dialect = first if self.endpoint.local else _known.get(self._place, first)

    def rewrite(self, request: RewriteRequest, on_wait: OnWait | None = None) -> RewriteAnswer:
        """Ask once, repeat where that helps, and return what is usable (perhaps nothing)."""
        answer = RewriteAnswer([])
        messages = messages_of(request)

        def read(text: str) -> list[Rewrite]:
            rewrites = parse_rewrites(text, request.count)
            return [r for r in rewrites if not _is_the_example(r.prompt, request.prompt, messages[0]["content"])]

        found = self.ask(
            messages, read, answer, schema=schema_of(request), round=request.round, deadline=request.deadline,
            on_wait=on_wait,
        )  # fmt: skip
        answer.rewrites = found or []
        if found is not None and not found:
            answer.notes.append("the LLM's answer held no rewrite")
        return answer

    def ask(
        self, messages: list[dict[str, str]], read: Callable[[str], T], answer: RewriteAnswer, *,
        schema: dict[str, Any] | None = None, round: int = 1, deadline: float | None = None, on_wait: OnWait | None = None,
    ) -> T | None:  # fmt: skip
        """What `read` makes of the model's answer to any messages, or None where there was none; `answer` takes what it
        cost and what went wrong. An answer that is nothing but thoughts is asked for again."""
        return Call(self, messages, read, answer, schema, round, deadline, on_wait or self.on_wait).run()

    def redacted(self, text: str, *, short: bool = True) -> str:
        """A text without the key, whatever it looks like."""
        for key in self._keys:
            if len(key) >= 8:
                text = text.replace(key, "[key]")
            elif short:
                text = re.sub(rf"(?<!\w){re.escape(key)}(?!\w)", "[key]", text)
        return re.sub(r"\b(?:sk|pk|key|AIza)[-_][\w*.-]{6,}", "[key]", text) if short else text

    def learn(self, change: Change) -> None:
        """Remember one change, for every thread and every later rewriter of this endpoint and model."""
        with self.lock:
            self.dialect = self.dialect.changed(change)
            if not self.endpoint.local:
                with _known_lock:
                    _known[self._place] = self.dialect


def _is_the_example(rewrite: str, prompt: str, system: str) -> bool:
    """Whether a small model has copied what the system message gives as an example."""
    return len(rewrite) > 20 and rewrite != prompt and rewrite in " ".join(system.split())
