"""What an endpoint's answer says, in whichever form it comes: JSON, a stream of events, lines of JSON, or an error page.

Comes in: status, headers and bytes. Goes out: a `Reply`. Nothing here raises: every value is looked at before it is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .answers import clean_text
from .endpoint import Arrived

MAX_COUNT = 10**9  # more tokens than any answer has


@dataclass
class Refusal:
    """An error as the endpoint tells it: `said` is for people, `text` everything in lower case, to look things up in."""

    status: int
    said: str
    text: str
    param: str = ""
    code: str = ""
    retry_after: float | None = None


@dataclass
class Reply:
    """A chat completion that was understood, an error that was, or neither (`problem` says what came instead)."""

    texts: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    finish: str = ""
    refused: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    error: Refusal | None = None
    problem: str = ""
    whole: bool = True
    spoken: bool = False  # there was a message, perhaps an empty one

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def thoughts(self) -> str:
        return "".join(self.thinking)


def read_reply(arrived: Arrived) -> Reply:
    """What `arrived` says."""
    text = arrived.body.decode("utf-8-sig", "replace").strip()
    reply = Reply(whole=arrived.whole)
    if not 200 <= arrived.status < 300:
        reply.error = _refusal(arrived, _loads(text), text)
        return reply
    values = list(_values(text))
    for value in values:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, dict):
            _take(reply, value, arrived)
    if reply.error is None and not (reply.texts or reply.finish or reply.spoken):
        page = "<html" in text[:1000].lower() or "<!doctype" in text[:1000].lower()
        kind = "a web page" if page else "nothing" if not text else "something else"
        reply.problem = f"{kind}, not a chat completion"
    return reply


def _values(text: str) -> Iterator[Any]:
    """The JSON values of a body: one, an event stream's, or one a line."""
    whole = _loads(text)
    if whole is not None:
        yield whole
        return
    event: list[str] = []
    for line in [*text.split("\n"), ""]:
        line = line.strip()
        if line.startswith("data:"):
            event.append(line[5:].strip())
            if (value := _loads(event[-1])) is not None:
                event.clear()
                yield value
        elif line.startswith("{") and (value := _loads(line)) is not None:
            yield value
        elif not line and len(event) > 1:
            if (value := _loads("\n".join(event))) is not None:
                yield value
            event.clear()


def _take(reply: Reply, value: dict[str, Any], arrived: Arrived) -> None:
    """Add what one JSON object says to the reply."""
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    error = value.get("error") or (choice or {}).get("error")
    if (error or (choice is None and value.get("object") == "error")) and reply.error is None:
        reply.error = _refusal(arrived, value, "")
    usage = value.get("usage")
    if isinstance(usage, dict):
        reply.input_tokens = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
        reply.output_tokens = _count(usage.get("completion_tokens", usage.get("output_tokens")))
    if choice is None:
        choice = {"message": value["message"]} if isinstance(value.get("message"), dict) else None
        if choice is None and isinstance(value.get("output_text"), str):
            choice = {"text": value["output_text"]}
        if choice is None:
            if reply.error is None and isinstance(value.get("message"), str) and choices is None and "code" in value:
                reply.error = _refusal(arrived, value, "")
            return
    finish = choice.get("finish_reason") or (value.get("done_reason") if value.get("done") is True else None)
    reply.finish = finish if isinstance(finish, str) else reply.finish
    for name in ("message", "delta"):
        if isinstance(choice.get(name), dict):
            _take_message(reply, choice[name])
    if isinstance(choice.get("text"), str) and not isinstance(choice.get("message"), dict):
        reply.texts.append(choice["text"])


def _take_message(reply: Reply, message: dict[str, Any]) -> None:
    reply.spoken = True
    text, thoughts = _content(message.get("content"))
    reply.texts.append(text)
    for key in ("reasoning_content", "reasoning", "thinking"):
        said = _content(message.get(key))
        if said[0] or said[1]:
            thoughts += said[0] + said[1]
            break
    reply.thinking.append(thoughts)
    if isinstance(message.get("refusal"), str) and message["refusal"].strip():
        reply.refused += message["refusal"]
    if not text:
        called = message.get("tool_calls")
        calls = [c.get("function") for c in called if isinstance(c, dict)] if isinstance(called, list) else []
        for call in [*calls, message.get("function_call")]:
            given = call.get("arguments") if isinstance(call, dict) else None
            if isinstance(given, (str, dict)):
                reply.texts.append(given if isinstance(given, str) else json.dumps(given))
        if isinstance(message.get("parsed"), (dict, list)):
            reply.texts.append(json.dumps(message["parsed"]))


def _content(content: Any, depth: int = 0) -> tuple[str, str]:
    """Answer and thoughts in a content field: a text, or a list of parts of which some are thinking."""
    if isinstance(content, str):
        return content, ""
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list) or depth > 4:
        return "", ""
    text = thoughts = ""
    for part in content:
        if isinstance(part, str):
            text += part
        elif isinstance(part, dict):
            kind = str(part.get("type", "text"))
            inner = [_content(part.get(k), depth + 1) for k in ("text", "content", "thinking", "reasoning", "summary")]
            if re.search("think|reason|thought", kind) or part.get("thought") is True:
                thoughts += "".join(a + b for a, b in inner)
            else:
                text += inner[0][0] or inner[1][0]
                thoughts += "".join(a + b for a, b in inner[2:])
    return text, thoughts


def _refusal(arrived: Arrived, value: Any, raw: str) -> Refusal:
    """The error in a body of any form."""
    said: list[str] = []
    found = {"param": "", "code": "", "type": "", "status": ""}
    _collect(value, said, found)
    if not said and raw and value is None:
        title = re.search(r"<title>([^<]{1,200})", raw, re.I)
        said.append(title.group(1) if title else re.sub(r"<[^<>]{0,500}>", " ", raw[:2000]))
    status = arrived.status
    if 200 <= status < 300 and re.fullmatch(r"[45]\d\d", found["code"] or found["status"]):
        status = int(found["code"] or found["status"])
    text = " ".join([*said, *found.values()]).lower()[:8000]
    first = clean_text(said[0][:1000]) if said else ""
    return Refusal(
        status, first, text, param=found["param"].lower(),
        code=f"{found['code']} {found['type']}".lower().strip(), retry_after=_retry_after(arrived.headers, text),
    )  # fmt: skip


def _collect(value: Any, said: list[str], found: dict[str, str], depth: int = 0) -> None:
    """Messages and labels anywhere in an error object."""
    if depth > 6 or len(said) > 20:
        return
    if isinstance(value, list):
        for entry in value[:20]:
            _collect(entry, said, found, depth + 1)
    elif isinstance(value, str):
        inner = _loads(value) if value[:1] in ("{", "[") else None
        if isinstance(inner, (dict, list)):
            _collect(inner, said, found, depth + 1)
        elif value.strip():
            said.append(value[:4000])
    elif isinstance(value, dict):
        for key in (
            "message",
            "msg",
            "error_message",
            "error_msg",
            "error",
            "detail",
            "details",
            "errors",
            "metadata",
            "raw",
        ):
            if key in value:
                _collect(value[key], said, found, depth + 1)
        loc = value.get("loc")
        if isinstance(loc, list):
            said.append(".".join(str(x) for x in loc[:6]))
        for key in found:
            if not found[key] and isinstance(value.get(key), (str, int)):
                found[key] = str(value[key])[:200]


def _retry_after(headers: Any, text: str) -> float | None:
    """Seconds that an endpoint asks to wait, from its headers or its words."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers.get(name, "")) * unit)
        except ValueError:
            pass
    if "retry-after" in headers:
        import email.utils
        import time

        try:
            return max(0.0, email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            pass
    match = re.search(r"(?:retry|try again) (?:in|after) (\d{1,5}(?:\.\d{1,6})?)\s?(ms|s|sec)", text)
    return float(match.group(1)) * (0.001 if match.group(2) == "ms" else 1) if match else None


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_COUNT:
        return None
    return int(value)


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_models(arrived: Arrived) -> list[str]:
    """Names in the answer of /v1/models, in its order."""
    rows = _loads(arrived.body.decode("utf-8-sig", "replace")) if arrived.status == 200 else None
    if isinstance(rows, dict):
        rows = rows.get("data") or rows.get("models")
    names = (
        [r.get("id") or r.get("name") or r.get("model") for r in rows if isinstance(r, dict)]
        if isinstance(rows, list)
        else []
    )
    return [clean_text(n)[:500] for n in names if isinstance(n, str) and n.strip()]
