"""One call of a chat model: the requests that it takes to get an answer, or to know that there is none.

Comes in: messages, and what reads the answer. Goes out: what was read, or None with a note on why. What an endpoint
refuses is left out or renamed, passing trouble is waited out, an answer of nothing but thoughts is asked for again.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .answers import clean_text, whole_answer, without_thoughts
from .dialect import Change, Dialect, is_about_content, is_about_money, said_of
from .endpoint import Arrived, Broken, TimedOut, TooLate
from .replies import Refusal, Reply, read_reply
from .rewrites import RewriteAnswer, Waiting

if TYPE_CHECKING:
    from .rewriter import ChatRewriter

MAX_TOKENS, LOCAL_MAX_TOKENS = 4000, 1500  # room for one answer; small local models ramble until it is used up
MOST_TOKENS = 32_000  # the most that is given when thinking used it up
TIMEOUTS = 2  # requests that may time out: one, and one repeat
REPEATS = 2  # of an empty answer
REFUSALS = 12  # ways that are tried in one call
PAUSE = 30.0  # the longest that one pause may be


class Call:
    """`run` gives what `read` made of the answer; `answer` takes costs and notes."""

    def __init__(self, writer: ChatRewriter, messages, read, answer: RewriteAnswer, schema, round, deadline, on_wait):
        self.writer, self.messages, self.read, self.answer = writer, messages, read, answer
        self.schema, self.on_wait = schema, on_wait
        self.began = time.monotonic()
        self.until = None if deadline is None else self.began + deadline
        self.seed = None if writer.seed is None else writer.seed + round - 1
        self.room = writer.max_tokens or (LOCAL_MAX_TOKENS if writer.endpoint.local else MAX_TOKENS)
        self.failures = self.timeouts = self.repeats = self.refusals = 0
        self.trial: Change | None = None  # what the request under way does otherwise than the dialect
        self.trials: Iterator[Change] | None = None
        self.told = self.began

    def run(self) -> Any:
        answer = self.answer
        answer.answered = False
        while True:
            dialect = self.writer.dialect if self.trial is None else self.writer.dialect.changed(self.trial)
            body = dialect.body(
                self.writer.model, self.messages, schema=self.schema, room=self.room, seed=self.seed,
                temperature=self.writer.temperature,
            )  # fmt: skip
            try:
                self._pause(self.writer.pacer.left())
                arrived = self.writer.endpoint.send(
                    "/chat/completions", body, timeout=self.writer.timeout, until=self.until, on_tick=self._tick
                )
                reply = read_reply(arrived)
                if arrived.late and reply.problem:
                    raise TimedOut
            except TooLate:
                self._end(f"the LLM had no time left to answer, after {self._so_far()}")
                return None
            except TimedOut:
                self._spend(None)
                self.timeouts += 1
                if self.timeouts >= TIMEOUTS or not self.writer.retries:
                    each = f"{self.writer.timeout:g} seconds each"
                    self._end(f"the LLM gave up after {self._so_far()}: Timeout, {each}")
                    return None
                continue
            except Broken as error:
                self._spend(None)
                reply = Reply(problem=f"no connection ({error})")
            else:
                self._spend(reply)
            if reply.error is not None:
                ended = self._refused(reply.error, dialect, body, arrived)
            elif reply.problem:
                ended = self._failed(reply.problem, None)
            else:
                self._learned(dialect)
                found = self._understood(reply)
                if found is not None:
                    answer.answered = True
                    return found
                ended = self.repeats > REPEATS
            if ended:
                return None

    def _understood(self, reply: Reply) -> Any:
        """What the answer holds; None where it is to be asked for again or there is nothing more to try."""
        said = reply.text[-4_000_000:]
        text = self.writer.redacted(without_thoughts(said), short=False)
        if not text and reply.thoughts and reply.finish != "length":
            text = self.writer.redacted(whole_answer(reply.thoughts), short=False)
        found = self.read(text) if text else None
        cut = reply.finish == "length" or not reply.whole
        if found:
            if cut:
                self.answer.notes.append("the LLM's answer was cut off")
            return found
        if reply.refused:
            self.repeats = REPEATS + 1
            self._end("the LLM refused to rewrite")
            return None
        if reply.finish == "content_filter":
            self.repeats = REPEATS + 1
            self._end("the LLM's answer was withheld by a content filter")
            return None
        if text and not cut:
            return found
        thought = bool(reply.thoughts or (said.strip() and not text))
        self.repeats += 1
        if self.repeats > REPEATS or (cut and self.room >= MOST_TOKENS):
            self.repeats = REPEATS + 1
            self._end(
                "the LLM's answer was nothing but thinking; give it more room (--llm-max-tokens) or a lower --llm-effort"
                if thought else "the LLM's answer was cut off" if text else "the LLM's answer was empty"
            )  # fmt: skip
            return None
        if self.writer.max_tokens is None and (cut or thought):
            self.room = min(4 * self.room, MOST_TOKENS)
        if self.seed is not None:
            self.seed += 7919
        return None

    def _refused(self, error: Refusal, dialect: Dialect, body: dict[str, Any], arrived: Arrived) -> bool:
        """Whether an error ends the call; if not, what is to be done otherwise is settled."""
        status = error.status
        named = f"HTTP {status}" if status != 200 else "an error"
        said = f": {self._short(error.said)}" if error.said else ""
        if is_about_money(error):
            return self._final(f"the LLM's quota or credit is used up ({named}{said})")
        if status == 401:
            hint = "; check the key" + ("" if "aliyuncs" not in self.writer.endpoint.host else _REGIONS)
            return self._final(f"the LLM answered HTTP 401{hint}")
        if status in (408, 409, 425, 429) or status > 501:
            ended = self._failed(named + said, error.retry_after)
            self.answer.final = self.answer.final or (ended and arrived.status == 200)
            return ended
        if 300 <= status < 400:
            to = self._short(str(arrived.headers.get("location", "elsewhere")))
            return self._final(f"the LLM's address leads on to {to} (HTTP {status}); give that as the base URL")
        if is_about_content(error):
            self._end(f"the LLM refused this prompt ({status}{said})")
            return True
        if status == 403:
            return self._final(f"the LLM answered HTTP 403; check the key{said}")
        self.refusals += 1
        change = dialect.lesson(error, body) if self.refusals <= REFUSALS else None
        if change is not None:
            if self.trial is None or change != self.trial:
                self.writer.learn(change)
                self.answer.learned.append(said_of(change))
            self.trials = None
            self.trial = None
            return False
        if status in (404, 405) and self._another_address(error):
            return False
        if status == 404 or re.search(
            r"model.{0,60}(?:not found|does not exist|not exist|unknown|invalid model)", error.text
        ):
            what = "the model's name" if "model" in error.text or not said else "the base URL"
            return self._final(f"the LLM answered {named}; check {what}{said}")
        if status in (500, 501) and (self.failures == 0 or dialect in self.writer.accepted):
            return self._failed(named + said, error.retry_after)
        if status == 200 or (arrived.status == 200 and status < 500):
            return self._final(f"the LLM answered with an error{said}")
        if self.writer.dialect not in self.writer.accepted and self.refusals <= REFUSALS:
            # Nothing is named: one thing after the other is left out, each alone.
            self.trials = self.trials or self.writer.dialect.plainer(body)
            self.trial = next(self.trials, None)
            if self.trial is not None:
                return self._failed(named + said, error.retry_after) if status >= 500 else False
        self._end(f"the LLM refused the request ({status}{said})")
        return True

    def _another_address(self, error: Refusal) -> bool:
        """Whether the base URL lacks its /v1, which then is added."""
        endpoint = self.writer.endpoint
        if re.search(r"/v\d|/openai|/compatible", endpoint.base_url) or "model" in error.text:
            return False
        endpoint.base_url += "/v1"
        return True

    def _learned(self, dialect: Dialect) -> None:
        """An answer came: what was tried for it is the way from now on."""
        if self.trial is not None:
            self.writer.learn(self.trial)
            self.answer.learned.append(said_of(self.trial))
            self.trial = self.trials = None
        self.writer.accepted.add(dialect)

    def _failed(self, problem: str, wait: float | None) -> bool:
        """Pause before a repeat; True when there were enough."""
        self.failures += 1
        delay = self.writer.backoff * 2 ** (self.failures - 1) * (1 + 0.2 * random.random())
        delay = min(delay if wait is None else wait, PAUSE)
        late = self.until is not None and time.monotonic() + delay >= self.until
        if self.failures > self.writer.retries or late:
            more = ", and no time left" if late else ""
            self._end(f"the LLM gave up after {self._so_far()}: {self._short(problem)}{more}")
            return True
        if wait is not None:
            self.writer.pacer.hold(delay)
        else:
            self._pause(delay)
        return False

    def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        if self.until is not None and time.monotonic() + seconds >= self.until:
            raise TooLate
        if self.on_wait is None:
            self.writer.sleep(seconds)
            return
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._tell(f"{self.writer.name} asks to wait")
            self.writer.sleep(min(left, 1.0))
            if self.writer.sleep is not time.sleep:
                return

    def _tick(self, queued: bool) -> None:
        self._tell(f"in the queue for {self.writer.name}" if queued else f"waiting for {self.writer.name}")

    def _tell(self, what: str) -> None:
        now = time.monotonic()
        if self.on_wait is None or now - self.told < 1.0:
            return
        self.told = now
        w = self.writer
        cost = None if w.prices is None else (w.prices[0] * w.input_tokens + w.prices[1] * w.output_tokens) / 1e6
        self.on_wait(Waiting(what, now - self.began, w.requests, w.input_tokens, w.output_tokens, cost))

    def _spend(self, reply: Reply | None) -> None:
        """Count a request that was sent; tokens that the endpoint doesn't name are counted from the characters."""
        given: int | None = 0
        got: int | None = 0
        if reply is not None and reply.error is None and not reply.problem:
            given, got = reply.input_tokens, reply.output_tokens
            if given is None and got is None:
                self.answer.estimated = True
                given = sum(len(m["content"]) for m in self.messages) // 4
                got = (len(reply.text) + len(reply.thoughts)) // 4
        self.answer.requests += 1
        self.answer.input_tokens += given or 0
        self.answer.output_tokens += got or 0
        with self.writer.lock:
            self.writer.requests += 1
            self.writer.input_tokens += given or 0
            self.writer.output_tokens += got or 0

    def _so_far(self) -> str:
        return f"{self.answer.requests} requests"

    def _short(self, text: str) -> str:
        return clean_text(self.writer.redacted(clean_text(text)))[:160]

    def _end(self, note: str) -> None:
        self.answer.notes.append(note)

    def _final(self, note: str) -> bool:
        self._end(note)
        self.answer.final = True
        return True


_REGIONS = (
    " and its region: a key is good for one of dashscope (Beijing), dashscope-intl (Singapore), dashscope-us (Virginia)"
)
