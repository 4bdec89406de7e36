"""Ask an OpenAI-compatible chat model for rewrites, and take its answer as data.

Comes in: a `RewriteRequest`. Goes out: a `RewriteAnswer` with as many usable rewrites as the model gave, its token use
and notes on what went wrong. Endpoint and key come from the environment: `OPENAI_API_KEY`, `OPENAI_BASE_URL`, or
`DASHSCOPE_API_KEY` for Qwen's.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from .. import prompts
from .rewrites import RewriteAnswer, RewriteRequest, clean_text, parse_rewrites

MAX_ANSWER_TOKENS = 2000
HISTORY = 3  # best and worst tries shown to the model


class Pacer:
    """Shared by threads that ask one endpoint: when it says wait to one of them, all wait."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic):
        self.sleep, self.clock = sleep, clock
        self._lock = threading.Lock()
        self._open_at = 0.0

    def wait(self) -> None:
        """Sleep until the endpoint may be asked again."""
        while (left := self._open_at - self.clock()) > 0:
            self.sleep(left)

    def hold(self, seconds: float) -> None:
        """Nobody asks for this long."""
        with self._lock:
            self._open_at = max(self._open_at, self.clock() + seconds)


class ChatRewriter:
    """An OpenAI-compatible chat model.

    Structured output is asked for first; an endpoint that refuses it is asked for a JSON object, then for plain text.
    429, 5xx, time-outs and dropped connections are retried with back-off; everything else ends the round with a note.
    """

    calls_llm = True

    def __init__(
        self, *, model: str, base_url: str | None, api_key: str, temperature: float = 0.7, seed: int | None = None,
        timeout: float = 60.0, retries: int = 3, backoff: float = 1.0, sleep: Callable[[float], None] = time.sleep,
        pacer: Pacer | None = None,
    ):  # fmt: skip
        from openai import OpenAI

        self.client = OpenAI(api_key=api_key, base_url=base_url, timeout=timeout, max_retries=0)
        self.model, self.temperature, self.seed = model, temperature, seed
        self.retries, self.backoff, self.sleep = retries, backoff, sleep
        self.pacer = pacer or Pacer(sleep)
        self.name = f"{model} at {urlsplit(str(self.client.base_url)).hostname}"
        self._formats: list[dict[str, Any] | None] = [_SCHEMA, {"type": "json_object"}, None]
        self._sends_seed = seed is not None

    def rewrite(self, request: RewriteRequest) -> RewriteAnswer:
        """Ask once, repeat where that helps, and return what is usable (perhaps nothing)."""
        answer = RewriteAnswer([])
        text = self._ask(self._messages(request), answer)
        if text is not None:
            answer.rewrites = parse_rewrites(text, request.count)
            if not answer.rewrites:
                answer.notes.append("the LLM's answer held no rewrite")
        return answer

    def _messages(self, request: RewriteRequest) -> list[dict[str, str]]:
        ranked = sorted(request.tried, key=lambda t: -t.score)
        said: dict[str, Any] = {
            "prompt": request.prompt,
            "predicted_reward": round(request.score, 3),
            "threshold": round(request.tau, 3),
            "words": [{"word": w.word, "focus": w.focus, "diffuse": w.diffuse} for w in request.words],
            "best": [{"prompt": t.prompt, "predicted_reward": round(t.score, 3)} for t in ranked[:HISTORY]],
            "worst": [{"prompt": t.prompt, "predicted_reward": round(t.score, 3)} for t in ranked[HISTORY:][-HISTORY:]],
            "max_tokens": request.token_limit,
            "count": request.count,
        }
        if request.direction:
            said["direction"] = request.direction
        if request.keep:
            said["keep"] = list(request.keep)
        user = json.dumps(said, ensure_ascii=False, indent=1)
        return [{"role": "system", "content": prompts.read("system")}, {"role": "user", "content": user}]

    def _ask(self, messages: list[dict[str, str]], answer: RewriteAnswer) -> str | None:
        import openai

        failures = 0
        while True:
            answer.requests += 1
            self.pacer.wait()
            way = (self._sends_seed, len(self._formats))
            try:
                return self._request(messages, answer)
            except openai.BadRequestError as error:
                # 400 from an endpoint that knows no schema, no JSON mode or no seed: ask in a plainer way.
                if way != (self._sends_seed, len(self._formats)):
                    pass  # another thread has found a plainer way in the meantime
                elif self._sends_seed:
                    self._sends_seed = False
                elif len(self._formats) > 1:
                    self._formats = self._formats[1:]
                else:
                    answer.notes.append(f"the LLM refused the request (400: {_short(error)})")
                    return None
                continue
            except (openai.APITimeoutError, openai.APIConnectionError) as error:
                problem, wait = type(error).__name__.removeprefix("API"), None
            except openai.APIStatusError as error:
                problem, wait = f"HTTP {error.status_code}", _retry_after(error)
                if error.status_code not in (408, 409, 429) and error.status_code < 500:
                    hint = {401: "; check the key", 403: "; check the key", 404: "; check the model's name"}
                    answer.notes.append(f"the LLM answered {problem}{hint.get(error.status_code, '')}")
                    answer.final = True
                    return None
            except (openai.OpenAIError, ValueError) as error:
                problem, wait = f"{type(error).__name__} (not a chat completion)", None
            failures += 1
            if failures > self.retries:
                answer.notes.append(f"the LLM gave up after {answer.requests} requests: {problem}")
                return None
            delay = self.backoff * 2 ** (failures - 1) * (1 + 0.2 * random.random())
            delay = min(wait if wait is not None else delay, 30.0)
            if wait is not None:
                self.pacer.hold(delay)
            else:
                self.sleep(delay)

    def _request(self, messages: list[dict[str, str]], answer: RewriteAnswer) -> str | None:
        options: dict[str, Any] = {"temperature": self.temperature, "max_tokens": MAX_ANSWER_TOKENS}
        if self._sends_seed:
            options["seed"] = self.seed
        if self._formats[0] is not None:
            options["response_format"] = self._formats[0]
        said: Any = messages
        reply = self.client.chat.completions.create(model=self.model, messages=said, **options)
        usage = getattr(reply, "usage", None)
        answer.input_tokens += int(getattr(usage, "prompt_tokens", 0) or 0)
        answer.output_tokens += int(getattr(usage, "completion_tokens", 0) or 0)
        choices = getattr(reply, "choices", None)
        if not choices or choices[0].message is None:
            raise ValueError("no choices")
        message = choices[0].message
        if getattr(message, "refusal", None):
            answer.notes.append("the LLM refused to rewrite")
            return None
        if choices[0].finish_reason == "length":
            answer.notes.append("the LLM's answer was cut off")
        if not message.content:
            answer.notes.append("the LLM's answer was empty")
            return None
        return str(message.content)[:100_000]


_SCHEMA: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "rewrites",
        "strict": True,
        "schema": {
            "type": "object",
            "additionalProperties": False,
            "required": ["rewrites"],
            "properties": {
                "rewrites": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["strategy", "prompt"],
                        "properties": {"strategy": {"type": "string"}, "prompt": {"type": "string"}},
                    },
                }
            },
        },
    },
}


def _short(error: Exception) -> str:
    return clean_text(re.sub(r"sk-\S+", "[key]", str(getattr(error, "message", error))))[:120]


def _retry_after(error: Any) -> float | None:
    try:
        return max(0.0, float(error.response.headers.get("retry-after", "")))
    except (AttributeError, ValueError):
        return None
