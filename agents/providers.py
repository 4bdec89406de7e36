"""Where an LLM is found: addresses, keys and default models, from options and the environment.

Comes in: what was asked for and `os.environ`. Goes out: a `Place`, or None. The first line that fits decides:

| what is given                                  | endpoint                      | key                          | model, unless --llm-model names one |
| ---------------------------------------------- | ----------------------------- | ---------------------------- | ----------------------------------- |
| --llm-base-url, else OPENAI_BASE_URL           | that address                  | of the house in `HOUSES` that owns the host, else OPENAI_API_KEY | OPENAI_MODEL, the house's; on this machine the first of /v1/models |
| OPENAI_API_KEY                                 | OpenAI                        | it                           | OPENAI_MODEL, else the house's |
| DASHSCOPE_API_KEY                              | DASHSCOPE_API_BASE, Singapore | it                           | the house's |
| OPENROUTER_API_KEY                             | OpenRouter                    | it                           | the house's |
| DEEPSEEK_API_KEY                               | DeepSeek                      | it                           | the house's |
| GEMINI_API_KEY, else GOOGLE_API_KEY            | Gemini                        | it                           | the house's |
| OLLAMA_HOST                                    | that host, port 11434         | OPENAI_API_KEY is not sent   | the first of /v1/models |

A key is sent to its own house only; OPENAI_API_KEY also to an address that was given by hand.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import InputError
from .endpoint import Broken, Endpoint, TimedOut, TooLate, is_loopback
from .replies import read_models


@dataclass(frozen=True)
class House:
    """Who runs an endpoint. `effort` goes with the default model only, which is told to think little: rewording is easy."""

    name: str
    keys: tuple[str, ...]
    url: str
    hosts: tuple[str, ...]
    model: str
    effort: str | None = None


# Looked up on 2026-11-25. OpenAI shuts gpt-4.1-mini down on 2027-01-14 and names gpt-6-luna in its place.
HOUSES = (
    House("openai", ("OPENAI_API_KEY",), "https://api.openai.com/v1", ("api.openai.com",), "gpt-6-luna", "low"),
    # Keys are good for one region. Beijing: dashscope.aliyuncs.com, Virginia: dashscope-us, Hong Kong: cn-hongkong.dashscope;
    # a workspace's own host ends in .maas.aliyuncs.com.
    House(
        "dashscope", ("DASHSCOPE_API_KEY",), "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", ("aliyuncs.com",),
        "qwen3.7-plus", "none",
    ),
    House("openrouter", ("OPENROUTER_API_KEY",), "https://openrouter.ai/api/v1", ("openrouter.ai",), "openrouter/auto"),
    House("deepseek", ("DEEPSEEK_API_KEY",), "https://api.deepseek.com", ("deepseek.com",), "deepseek-flash", "none"),
    House(
        "gemini", ("GEMINI_API_KEY", "GOOGLE_API_KEY"), "https://generativelanguage.googleapis.com/v1beta/openai",
        ("googleapis.com",), "gemini-3.8-flash", "low",
    ),
)  # fmt: skip
OLLAMA_PORT = 11434
LIST_SECONDS = 5.0  # for a list of models
_NO_CHAT = ("embed", "rerank", "whisper", "tts", "clip", "bge-", "guard")


@dataclass(frozen=True)
class Place:
    """An endpoint to ask: `model` may be empty for one that lists its models. `given` says that a person named it, and
    not only a key or a variable of another program."""

    url: str
    key: str
    model: str
    house: str = ""
    effort: str | None = None
    given: bool = False

    @property
    def local(self) -> bool:
        return is_loopback(self.url)


def find_place(llm_model: str | None = None, llm_base_url: str | None = None) -> Place | None:
    """Where the options and the environment say that an LLM is; None when nothing says so.

    Raises `InputError` for an address that is none.
    """
    env = {k: v.strip() for k, v in os.environ.items()}
    url = llm_base_url or env.get("OPENAI_BASE_URL") or None
    named = llm_model or env.get("OPENAI_MODEL") or ""
    if url:
        checked_url(url)
        host = (urlsplit(url).hostname or "").lower()
        house = next((h for h in HOUSES if any(host == x or host.endswith("." + x) for x in h.hosts)), None)
        key = next((env[k] for k in (house.keys if house else ()) if env.get(k)), "") or env.get("OPENAI_API_KEY", "")
        if house is None:
            return Place(url, key, named or ("" if is_loopback(url) else HOUSES[0].model), given=True)
        return Place(url, key, named or house.model, house.name, None if named else house.effort, True)
    for house in HOUSES:
        key = next((env[k] for k in house.keys if env.get(k)), "")
        if key:
            model = named if house.name == "openai" else llm_model or ""
            url = house.url
            if house.name == "dashscope" and env.get("DASHSCOPE_API_BASE"):
                url = checked_url(env["DASHSCOPE_API_BASE"], "DASHSCOPE_API_BASE")
            return Place(url, key, model or house.model, house.name, None if model else house.effort)
    if env.get("OLLAMA_HOST"):
        return Place(ollama_url(env["OLLAMA_HOST"]), "", llm_model or "", "local")
    return None


def checked_url(url: str, what: str = "LLM base URL") -> str:
    """The address itself. Raises `InputError` when no request can be sent to it."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        right = right and not any(c.isspace() for c in url)
    except ValueError:
        right = False
    if not right:
        raise InputError(f"{what} is {url!r}; it must start with http:// or https:// and name a host")
    return url


def ollama_url(host: str) -> str:
    """The OpenAI-compatible address of an Ollama server as `OLLAMA_HOST` names it: host, port, both, or a URL."""
    scheme, _, rest = host.rpartition("://")
    rest = rest.rstrip("/").removesuffix("/v1")
    if rest.startswith(":") and not rest.startswith("::"):
        rest = "127.0.0.1" + rest
    elif rest.count(":") > 1 and not rest.startswith("["):
        rest = f"[{rest}]"
    url = checked_url(f"{scheme or 'http'}://{rest}", "OLLAMA_HOST")
    parts = urlsplit(url)
    name = parts.hostname or ""
    # 0.0.0.0 is where a server listens, not where it is reached.
    name = "127.0.0.1" if name in ("0.0.0.0", "::") else f"[{name}]" if ":" in name else name
    port = parts.port or {"": OLLAMA_PORT, "http": 80, "https": 443}.get(scheme, OLLAMA_PORT)
    return f"{parts.scheme}://{name}:{port}{parts.path}/v1"


def first_model(place: Place) -> str:
    """The first chat model that an endpoint lists. Raises `InputError` where it lists none or does not answer."""
    endpoint = Endpoint(place.url, place.key or "none")
    bases = ("", "/v1") if "/v1" not in place.url else ("",)
    for base in bases:
        try:
            arrived = endpoint.send(f"{base}/models", None, timeout=LIST_SECONDS)
        except (TimedOut, TooLate, Broken) as error:
            raise InputError(
                f"no LLM answers at {place.url}; start the server, or give another --llm-base-url"
            ) from error
        if arrived.status >= 500:
            raise InputError(
                f"{place.url} answers HTTP {arrived.status}; wait until its model is loaded, or name it with --llm-model"
            )
        names = read_models(arrived)
        chat = [n for n in names if not any(x in n.lower() for x in _NO_CHAT)]
        if chat or names:
            return (chat or names)[0]
    raise InputError(f"{place.url} lists no model; load one, or name one with --llm-model")
