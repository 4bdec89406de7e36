"""An OpenAI-compatible images endpoint on loopback: clients that only know that API get the optimised image.

`POST /v1/images/generations` runs the loop and answers with the image and `revised_prompt`; with a `policy` or `budget` of
ours it searches the prompt's seeds instead. `GET /v1/models`, `/health`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import time
from typing import TYPE_CHECKING, Any

from ..errors import InputError, PromptProbeError
from ..options import check
from ..version import __version__
from .service import BusyError, Service

if TYPE_CHECKING:
    from .page import Page

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_BODY = 2**20
MAX_IMAGES = 8


def check_address(host: str, port: int) -> None:
    """Raise `InputError` unless `host` is loopback and `port` free."""
    if host not in LOOPBACK:
        raise InputError(f"--host is {host!r}; only loopback is served ({', '.join(LOOPBACK)}): put a proxy in front")
    if not 1 <= port <= 65535:
        raise InputError(f"--port is {port}; it must be between 1 and 65535")
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(f"port {port} of {host} can't be used: {error.strerror}; choose another --port") from error


def make_app(service: Service, page: Page | None = None) -> Any:
    """The Starlette application, with the page at `/` where there is one. Raises `InputError` when Starlette is not installed."""
    try:
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import JSONResponse
        from starlette.routing import Route
    except ImportError as error:
        raise InputError("the server needs starlette and uvicorn: pip install 'promptprobe[serve]'") from error

    def refuse(status: int, message: str, parameter: str | None = None) -> JSONResponse:
        kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
        headers = {"retry-after": "5"} if status == 429 else None
        body = {"error": {"message": message, "type": kind, "param": parameter, "code": None}}
        return JSONResponse(body, status_code=status, headers=headers)

    async def optimised(given: dict[str, Any]) -> list[dict[str, Any]]:
        answers, seed = [], given["seed"]
        for _ in range(given["n"]):
            record, image = await service.run("optimize", given["prompt"], seed=seed)
            seed = 1 + max(s for c in record["candidates"] for s in c["seeds"])  # no image is made twice
            own = {k: record[k] for k in ("predicted_reward", "reward", "seed", "stop_reason")}
            answers.append(_answer(image, record["best_prompt"], own))
        return answers

    async def searched(given: dict[str, Any]) -> list[dict[str, Any]]:
        found, images = await service.run(
            "select_seed", given["prompt"], first_seed=given["seed"], top=given["n"], **given["search"]
        )
        rewards = {s["seed"]: s["reward"] for s in found["seeds"]}
        return [
            _answer(image, found["prompt"], {"reward": rewards[seed], "seed": seed, "notes": found["notes"]})
            for seed, image in zip(found["best"], images, strict=True)
        ]

    async def generations(request: Request) -> JSONResponse:
        if "origin" in request.headers:  # a web page must not drive the local GPU
            return refuse(403, "requests of web pages are not served")
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > MAX_BODY:
                return refuse(413, f"the request has more than {MAX_BODY} bytes")
        try:
            body = json.loads(bytes(data))
            if not isinstance(body, dict):
                raise ValueError("no object")
        except (ValueError, RecursionError) as error:
            return refuse(400, f"the request is no JSON: {error}")
        try:
            given = read_request(body, service)
        except InputError as error:
            return refuse(400, str(error))
        try:
            answers = await (searched if given["search"] else optimised)(given)
        except BusyError as error:
            return refuse(429, str(error))
        except InputError as error:
            return refuse(400, str(error), "prompt")
        except PromptProbeError as error:
            return refuse(500, str(error))
        return JSONResponse({"created": int(time.time()), "data": answers, "output_format": "png"})

    async def models(request: Request) -> JSONResponse:
        name = service.model_name
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model", "owned_by": "promptprobe"}]})

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "version": __version__})

    return Starlette(
        routes=[
            Route("/v1/images/generations", generations, methods=["POST"]), Route("/v1/models", models),
            Route("/health", health), *(page.routes() if page else []),
        ]
    )  # fmt: skip


def _answer(image: bytes, prompt: str, own: dict[str, Any]) -> dict[str, Any]:
    return {"b64_json": base64.b64encode(image).decode(), "revised_prompt": prompt, "promptprobe": own}


def read_request(body: dict[str, Any], service: Service) -> dict[str, Any]:
    """The parts of an images request that are used, checked; raises `InputError` that names the parameter."""
    if "prompt" not in body:
        raise InputError("prompt is missing")
    n, seed = body.get("n") or 1, body.get("seed") or 0
    if type(n) is not int or not 1 <= n <= MAX_IMAGES:
        raise InputError(f"n is {n!r}; it must be between 1 and {MAX_IMAGES}")
    if type(seed) is not int or not 0 <= seed < 2**53:
        raise InputError(f"seed is {seed!r}; it must be a whole number of at least 0")
    if body.get("response_format") not in (None, "b64_json"):
        raise InputError("response_format must be b64_json; no files are served by URL")
    if body.get("output_format") not in (None, "png"):
        raise InputError("output_format must be png")
    if body.get("stream"):
        raise InputError("stream is not supported; leave it out")
    size = body.get("size")
    if size not in (None, "auto"):
        width, height = service.size
        if size != f"{width}x{height}":
            raise InputError(f"size is {size!r}; this server makes {width}x{height} (or leave it out)")
    search = {name: body[name] for name in ("policy", "budget") if body.get(name) is not None}
    for name, value in search.items():
        check(name, value)
    return {"prompt": body["prompt"], "n": n, "seed": seed, "search": search}


def serve(service: Service, host: str = "127.0.0.1", port: int = 8721, page: Page | None = None) -> None:
    """Serve, with the page where there is one, until stopped. Raises `InputError` for a host that is not loopback, or a port in use."""
    check_address(host, port)
    app = make_app(service, page)
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False))
    if page:
        page.ending = lambda: server.should_exit
    with contextlib.suppress(KeyboardInterrupt):  # as uvicorn.run does
        server.run()
