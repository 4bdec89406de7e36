"""What the LLM is told: the rules, how the image model likes to be spoken to, and the prompt as data.

Comes in: a `RewriteRequest`. Goes out: messages and the schema of the answer.
"""

from __future__ import annotations

import json
import re
from typing import Any

from .. import prompts
from .rewrites import RewriteRequest, Try

HISTORY = 3  # best and worst tries shown to the model
REJECTED = 8  # latest rejected wordings shown to it
WEAK_WORDS = 6

STRATEGIES = (
    "plain words", "subject first", "numbers spelled out", "attributes beside nouns", "split relations", "drop clutter",
    "concrete detail", "light and style",
)  # fmt: skip

# A part of a family's or a pipeline class's name, and the file in prompts/families that speaks of it; the first one fits.
FAMILIES = (
    (r"icon", "icons"), (r"ovis", "ovis"), (r"bria", "bria"), (r"cogview\W?3", "cogview3"), (r"hunyuan", "hunyuan"),
    (r"lumina\W?next", "lumina-next"), (r"flux\W?2|flux2", "flux2"), (r"flux", "flux1"), (r"krea", "krea2"), (r"chroma", "chroma"),
    (r"stable.?diffusion\W?3|sd\W?3", "sd3"), (r"qwen", "qwen-image"), (r"z\W?image", "z-image"), (r"pixart", "pixart"),
    (r"sana", "sana"), (r"aura", "auraflow"), (r"cogview", "cogview4"), (r"lumina", "lumina2"),
    (r"stable.?diffusion|sdxl|\bsd\d?\b|unet", "sd"),
)  # fmt: skip


def family_text(family: str) -> str:
    """The paragraph on a family of image models, without its sources; empty for one that nothing is known of."""
    for pattern, name in FAMILIES:
        if re.search(pattern, family, re.I):
            lines = prompts.read(f"families/{name}").splitlines()
            return " ".join(line.strip() for line in lines if not line.startswith("#")).strip()
    return ""


def messages_of(request: RewriteRequest) -> list[dict[str, str]]:
    """The system message, and the prompt with all that was found out about it as JSON."""
    system = prompts.read("system").strip()
    if about := family_text(request.family):
        system += f"\n\nHow to speak to this image model:\n{about}"
    return [{"role": "system", "content": system}, {"role": "user", "content": json.dumps(_told(request), ensure_ascii=False, indent=1)}]  # fmt: skip


def _told(request: RewriteRequest) -> dict[str, Any]:
    ranked = sorted(request.tried, key=lambda t: -t.score)
    scores = [*request.scale, request.score, *(t.score for t in request.tried)]
    told: dict[str, Any] = {
        "prompt": request.prompt,
        "predicted_reward": round(request.score, 3),
        "threshold": None if request.tau is None else round(request.tau, 3),
        "scale": ({"reward": request.label} if request.label else {})
        | {"lowest": round(min(scores), 3), "highest": round(max(scores), 3)},
        "weak_words": _weak(request),
        "best": [_shown(t) for t in ranked[:HISTORY]],
        "worst": [_shown(t) for t in ranked[HISTORY:][-HISTORY:]],
        "rejected": [{"prompt": r.prompt, "why": r.reason} for r in list(request.rejected)[-REJECTED:]],
        "max_tokens": request.token_limit,
        "max_words": words_that_fit(request),
        "count": request.count,
    }
    if request.length:
        told |= {"tokens_now": request.length, "words_now": count_words(request.prompt)}
    if request.direction:
        told["direction"] = request.direction
    if request.keep:
        told["keep"] = list(request.keep)
    return told


def _shown(tried: Try) -> dict[str, Any]:
    return {"prompt": tried.prompt, "predicted_reward": round(tried.score, 3)}


def _weak(request: RewriteRequest) -> list[dict[str, Any]]:
    """The words that the image model looks at everywhere and nowhere, the worst first."""
    weak = sorted((w for w in request.words if w.diffuse), key=lambda w: w.focus)[:WEAK_WORDS]
    return [{"word": w.word, "focus": round(w.focus, 2)} for w in weak]


def count_words(text: str) -> int:
    """How many words a text has, and characters of scripts that put no spaces between words."""
    unspaced = len(re.findall(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]", text))
    return unspaced + len(re.findall(r"[^\s\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+", text))


def words_that_fit(request: RewriteRequest) -> int:
    """About how many words (characters of scripts without spaces) the text encoder takes, by this prompt's own rate."""
    words = count_words(request.prompt)
    rate = request.length / words if request.length and words else 1.4
    return max(1, int(0.95 * request.token_limit / max(rate, 1.0)))


def schema_of(request: RewriteRequest) -> dict[str, Any]:
    """The answer's form: at most `count` rewrites, each with one of the strategies."""
    one = {
        "type": "object",
        "additionalProperties": False,
        "required": ["strategy", "prompt"],
        "properties": {"strategy": {"type": "string", "enum": list(STRATEGIES)}, "prompt": {"type": "string"}},
    }
    whole = {
        "type": "object",
        "additionalProperties": False,
        "required": ["rewrites"],
        "properties": {"rewrites": {"type": "array", "maxItems": request.count, "items": one}},
    }
    return {"type": "json_schema", "json_schema": {"name": "rewrites", "strict": True, "schema": whole}}
