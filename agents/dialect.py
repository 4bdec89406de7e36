"""What one endpoint and model understand: which parameters a request carries, and what each refusal teaches.

Comes in: settings, and the refusals that an endpoint answers with. Goes out: request bodies. A refusal changes one thing:
the parameter that it names; where it names none, one after the other is left out alone, and only what then helped with
the very same messages is remembered. So the refusal of one prompt's content changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..options import EFFORTS
from .replies import Refusal

SCHEMA, OBJECT, TEXT = 0, 1, 2  # how the answer's form is asked for

Change = tuple[str, Any]


@dataclass(frozen=True)
class Dialect:
    """`room_key` names the parameter that bounds the answer, `most` is the endpoint's own bound. `dropped` are parameters
    that it refuses, `fixed` those that it wants with one value. `system` says whether it knows the system role."""

    form: int = SCHEMA
    room_key: str = "max_tokens"
    most: int | None = None
    stream: bool = False
    system: bool = True
    dropped: frozenset[str] = frozenset()
    fixed: tuple[Change, ...] = ()
    effort: str | None = None
    house: str = ""  # whose way of turning thinking off: dashscope, deepseek, openrouter, or empty

    def body(
        self, model: str, messages: list[dict[str, str]], *, schema: dict[str, Any] | None, room: int,
        temperature: float | None, seed: int | None,
    ) -> dict[str, Any]:  # fmt: skip
        """A request as this endpoint wants it."""
        if not self.system:
            first = "\n\n".join(m["content"] for m in messages)
            messages = [{"role": "user", "content": first}]
        body: dict[str, Any] = {"model": model, "messages": messages}
        wanted: dict[str, Any] = {"temperature": temperature, "seed": seed}
        if self.room_key:
            wanted[self.room_key] = room if self.most is None else min(room, self.most)
        if schema is not None and self.form < TEXT:
            wanted["response_format"] = {"type": "json_object"} if self.form == OBJECT else schema
        if self.stream:
            wanted |= {"stream": True, "stream_options": {"include_usage": True}}
        wanted |= self._effort()
        wanted |= dict(self.fixed)
        return body | {k: v for k, v in wanted.items() if v is not None and k not in self.dropped}

    def _effort(self) -> dict[str, Any]:
        if self.effort is None:
            return {}
        off = self.effort == "none"
        if self.house == "dashscope":
            return {"enable_thinking": not off}
        if self.house == "deepseek":
            return {"thinking": {"type": "disabled"}} if off else {"reasoning_effort": self.effort}
        if self.house == "openrouter":
            return {"reasoning": {"effort": self.effort}}
        if self.house == "local" and off:
            return {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": False}}
        return {"reasoning_effort": self.effort}

    def changed(self, change: Change) -> Dialect:
        """The dialect with one thing changed; the same change twice is one."""
        what, value = change
        if what == "drop":
            return replace(self, dropped=self.dropped | {value})
        if what == "form":
            return replace(self, form=max(self.form, value))
        if what == "most":
            return replace(self, most=value if self.most is None else min(self.most, value))
        if what == "fix":
            return replace(self, fixed=(*(f for f in self.fixed if f[0] != value[0]), value))
        if what == "plain":
            return replace(self, form=TEXT, dropped=self.dropped | {"seed", "temperature", *self._effort()})
        return replace(self, **{what: value})

    def lesson(self, refusal: Refusal, body: dict[str, Any]) -> Change | None:
        """What a refusal of `body` teaches by naming a parameter, or None when it names none of those sent."""
        text, param = refusal.text, re.split(r"[.\[]", refusal.param)[0]
        if param == "messages" or re.search(_NO_SYSTEM, text):
            return ("system", False) if self.system and re.search(_NO_SYSTEM, text) else None
        if "requested parameters" in text and "response_format" in body:
            return ("form", self.form + 1)
        places = {}
        for name, words in _NAMES.items():
            match = re.search(words, text)
            if name == param or match:
                places[name] = -1 if name == param else match.start()  # type: ignore[union-attr]
        for name in sorted(places, key=places.__getitem__):
            if (change := self._lesson_about(name, text, body)) is not None:
                return change
        return None

    def _lesson_about(self, name: str, text: str, body: dict[str, Any]) -> Change | None:
        sent = name in body
        if name == "response_format":
            return ("form", self.form + 1) if sent else None
        if name == "enable_thinking":
            wanted = re.search(r"\b(?:must|should|can only|only)\b.{0,40}?\b(true|false)\b", text)
            value = ("enable_thinking", wanted is not None and wanted.group(1) == "true")
            if wanted and value not in self.fixed:
                return ("fix", value)
            return ("drop", name) if sent else ("stream", True) if not self.stream else None
        if name == "stream":
            if sent:
                return ("stream", False) if re.search("not? support|unsupported|not allowed", text) else None
            return ("stream", True) if not self.stream else None
        if name in ("max_tokens", "max_completion_tokens") and sent:
            return self._room_lesson(name, text, body)
        if name == "reasoning_effort" and sent and self.effort is not None:
            offered = [e for e in EFFORTS if e != body[name] and re.search(rf"['\"`]{e}['\"`]", text)]
            if offered:
                place = EFFORTS.index(body[name])
                return ("effort", min(offered, key=lambda e: abs(EFFORTS.index(e) - place)))
        return ("drop", name) if sent else None

    def _room_lesson(self, name: str, text: str, body: dict[str, Any]) -> Change | None:
        other = "max_completion_tokens" if name == "max_tokens" else "max_tokens"
        asked = body[name]
        if other in text and re.search("not supported|unsupported|instead|use ", text):
            return ("room_key", other)
        smaller = [n for n in map(int, re.findall(r"\d{2,7}", text)) if 16 <= n < asked]
        if "context" in text:
            return ("most", asked // 2) if asked >= 256 else None
        if smaller:
            return ("most", max(smaller))
        return ("room_key", other) if name == "max_tokens" else ("drop", name)

    def plainer(self, body: dict[str, Any]) -> Iterator[Change]:
        """What to try, each alone, when a refusal names nothing."""
        if "response_format" in body:
            if self.form == SCHEMA:
                yield ("form", OBJECT)
            yield ("form", TEXT)
        for name in ("seed", "temperature", *self._effort()):
            if name in body:
                yield ("drop", name)
        if "max_tokens" in body:
            yield ("room_key", "max_completion_tokens")
        if self.system:
            yield ("system", False)
        yield ("plain", True)


def said_of(change: Change) -> str:
    """A change in words, for the record."""
    what, value = change
    named = {"room_key": f"bounds answers with {value}", "most": f"gives at most {value} tokens",
             "system": "knows no system messages", "plain": "takes nothing but messages"}  # fmt: skip
    if what == "form":
        return (
            "asked for a JSON object, as it knows no schema" if value == OBJECT else "asked without a response format"
        )
    if what == "drop":
        return f"asked without {value}"
    if what == "fix":
        return f"asked with {value[0]} {str(value[1]).lower()}"
    if what == "stream":
        return "streams its answers" if value else "does not stream"
    return named.get(what, f"{what} {value}")


_NO_SYSTEM = (
    r"system (?:role|message|instruction|prompt)s?\b.{0,60}\bnot\b|(?:developer instruction|system role|role system)"
    r"|roles? must alternate|unsupported.{0,20}\brole"
)
_NAMES = {
    "max_tokens": r"\bmax_tokens\b|\bmax tokens\b",
    "max_completion_tokens": r"\bmax_completion_tokens\b",
    "temperature": r"\btemperature\b",
    "seed": r"\bseed\b",
    "response_format": r"response_?format|json_schema|json_object|structured.?outputs?|guided|grammar|json mode|\bschema\b",
    "enable_thinking": r"enable_thinking",
    "chat_template_kwargs": r"chat_template_kwargs",
    "reasoning_effort": r"reasoning[_. ]effort",
    "thinking": r"\bthinking\b",
    "reasoning": r"\breasoning\b",
    "stream_options": r"stream_options",
    "stream": r"\bstream(?:ing)?\b",
}
_CONTENT = re.compile(
    r"data_inspection|content.?(?:filter|management|policy|safety|moderat)|inappropriate|flagged|moderation|safety"
    r"|prohibited|prompt_blocked|sensitive|policy violation|violat\w+ .{0,30}polic|违规|敏感|不当|违禁"
)
_QUOTA = re.compile(
    r"insufficient.{0,10}(?:quota|balance|credit|fund)|billing|arrear|credit balance|out of credits?|more credits"
    r"|current quota|payment|overdue|prepaid|余额|欠费"
)


def is_about_content(refusal: Refusal) -> bool:
    """Whether an endpoint refuses what one prompt says, and nothing else."""
    return bool(_CONTENT.search(refusal.text))


def is_about_money(refusal: Refusal) -> bool:
    """Whether quota or credit is used up, so that waiting is of no use."""
    if refusal.status == 402 or "insufficient_quota" in refusal.code:
        return True
    return bool(_QUOTA.search(refusal.text)) and refusal.status in (400, 403, 429) and refusal.retry_after is None
