"""Which rewriter a run gets: from its options and the environment; and answers kept in a folder, not asked for twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import InputError
from ..files import write_together
from ..phrases import Thesaurus
from .offline import OfflineRewriter
from .rewriter import ChatRewriter
from .rewrites import Rewrite, RewriteAnswer, Rewriter, RewriteRequest


class CachedRewriter:
    """A rewriter whose answers are kept in a folder and not asked for twice; answers with any trouble are not kept."""

    def __init__(self, rewriter: Rewriter, folder: Path):
        self.rewriter, self.folder = rewriter, folder
        self.name, self.calls_llm = rewriter.name, rewriter.calls_llm

    def rewrite(self, request: RewriteRequest) -> RewriteAnswer:
        """The kept answer (which costs no request), or a new one."""
        asked = json.dumps([self.name, asdict(request)], sort_keys=True, ensure_ascii=False)
        path = self.folder / f"{hashlib.sha256(asked.encode()).hexdigest()[:32]}.json"
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads(path.read_text("utf-8"))
            return RewriteAnswer([Rewrite(str(r["strategy"]), str(r["prompt"])) for r in kept["rewrites"]])
        answer = self.rewriter.rewrite(request)
        if answer.rewrites and not answer.notes and not answer.final:
            text = json.dumps({"rewrites": [asdict(r) for r in answer.rewrites]}, ensure_ascii=False) + "\n"
            write_together({path: text.encode()})
        return answer


def make_rewriter(
    kind: str = "auto",
    *,
    llm_model: str | None = None,
    llm_base_url: str | None = None,
    seed: int | None = None,
    thesaurus: Thesaurus | None = None,
) -> tuple[Rewriter | None, str | None]:
    """The rewriter that the environment and options call for, and a note when it is not what was asked.

    `thesaurus` is the model's world's; the offline rewriter proposes nothing without one.

    Raises `InputError` for an unknown kind or a base URL that is none.
    """
    if kind not in ("auto", "llm", "offline"):
        raise InputError(f"rewriter is {kind!r}; it must be auto, llm or offline")
    base_url = llm_base_url or os.environ.get("OPENAI_BASE_URL") or None
    if base_url and not base_url.startswith(("http://", "https://")):
        raise InputError(f"LLM base URL is {base_url!r}; it must start with http:// or https://")
    key, model = os.environ.get("OPENAI_API_KEY"), llm_model or OPENAI_MODEL
    if not key and not base_url and os.environ.get("DASHSCOPE_API_KEY"):
        base_url = DASHSCOPE_URL
    if base_url and "dashscope" in (urlsplit(base_url).hostname or ""):
        key, model = os.environ.get("DASHSCOPE_API_KEY") or key, llm_model or DASHSCOPE_MODEL
    local = base_url and urlsplit(base_url).hostname in ("localhost", "127.0.0.1", "::1")
    if kind == "offline" or (kind == "auto" and not key and not local and not llm_model and not llm_base_url):
        return OfflineRewriter(thesaurus), None
    if not key and not local:
        return (
            None,
            "no LLM key: set OPENAI_API_KEY or DASHSCOPE_API_KEY, or choose --rewriter offline; nothing was rewritten",
        )
    return ChatRewriter(model=model, base_url=base_url, api_key=key or "none", seed=seed), None


DASHSCOPE_URL = "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"


DASHSCOPE_MODEL = "qwen-max"


OPENAI_MODEL = "gpt-4.1-mini"
