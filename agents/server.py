"""An OpenAI-compatible images endpoint on loopback: clients that only know that API get the optimised image.

`POST /v1/images/generations` runs the loop and answers with the image and `revised_prompt`; with a `policy` or `budget` of
ours it searches the prompt's seeds instead. `GET /v1/models`, `/health`; images by address under `/v1/files`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import math
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ..errors import InputError, PromptProbeError
from ..version import __version__
from .gate import Gate, check_address, error_body, serve_app
from .images import Made, make_images
from .images_request import ImagesRequest, read_request
from .kept_files import KeptFiles
from .service import BusyError, CancelledError, Service

if TYPE_CHECKING:
    from .page import Page

_log = logging.getLogger(__name__)
BEAT = 3.0  # seconds after which a stream says that it is still there
_NO_USAGE = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "input_tokens_details": {"image_tokens": 0, "text_tokens": 0}}  # fmt: skip
_CLOSED = {
    f"/v1/images/{name}": f"/v1/images/{name} is not served: images are made of prompts only; use /v1/images/generations"
    for name in ("edits", "variations")
}


def make_app(service: Service, page: Page | None = None) -> Any:
    """The ASGI application, behind its gate, with the page at `/` where there is one. Raises `InputError` when Starlette is not installed."""
    try:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
    except ImportError as error:
        raise InputError("the server needs starlette and uvicorn: pip install 'promptprobe[serve]'") from error

    async def refused(request: Any, error: HTTPException) -> Any:
        answer = _refusal(error.status_code, f"{request.method} {request.url.path}: {error.detail}")
        answer.headers.update(error.headers or {})
        return answer

    async def failed(request: Any, error: Exception) -> Any:
        return _refusal(500, "the server failed; its log says how")

    own = [*routes(service), *(page.routes() if page else [])]
    app = Starlette(routes=own, exception_handlers={HTTPException: refused, Exception: failed})  # type: ignore[dict-item]
    return Gate(app, closed=_CLOSED)


def routes(service: Service) -> list[Any]:
    """What is served, in the order in which it is looked for."""
    from starlette.responses import FileResponse, JSONResponse
    from starlette.routing import Route

    kept = KeptFiles()

    async def generations(request: Any) -> Any:
        try:
            given = read_request(_object(await request.body()))
            return await (_stream if given.stream else _answer)(service, given, request, kept)
        except PromptProbeError as error:
            return _refusal_of(error)

    async def models(request: Any) -> Any:
        return JSONResponse({"object": "list", "data": [_model(service)]})

    async def model(request: Any) -> Any:
        name = request.path_params["name"]
        if name != service.model_name:
            return _refusal(404, f"the model {name!r:.80} is not here; there is {service.model_name}", "model", "model_not_found")  # fmt: skip
        return JSONResponse(_model(service))

    async def file(request: Any) -> Any:
        path = kept.find(request.path_params["name"])
        return _refusal(404, "no such file, or its hour is over") if path is None else FileResponse(path)

    async def health(request: Any) -> Any:
        return JSONResponse({"status": "ok", "version": __version__})

    return [
        Route("/v1/images/generations", generations, methods=["POST"]), Route("/v1/models", models),
        Route("/v1/models/{name}", model), Route("/v1/files/{name}", file), Route("/health", health),
    ]  # fmt: skip


async def _answer(service: Service, given: ImagesRequest, request: Any, kept: KeptFiles) -> Any:
    """All images in one answer; a client that leaves stops the work."""
    from starlette.responses import JSONResponse, Response

    work = service.begin(lambda **how: make_images(service, given, **how))
    left = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            return Response(status_code=499)  # to nobody
        made = work.result()
    finally:
        work.cancel()
        left.cancel()
    data = await asyncio.to_thread(lambda: [_told(m, given, request, kept) for m in made])
    return JSONResponse(
        {"created": int(time.time()), "data": data, "output_format": given.form, "quality": given.quality_told,
         "size": made[0].size, "background": "opaque"}
    )  # fmt: skip


async def _stream(service: Service, given: ImagesRequest, request: Any, kept: KeptFiles) -> Any:
    """Server-sent events: previews at the stages, then the image; a comment now and then shows that work goes on."""
    from starlette.responses import StreamingResponse

    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    doing = "waiting"

    def put(event: dict[str, Any] | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(waiting.put_nowait, event)

    def told(kind: str, data: bytes, size: str, **more: Any) -> None:
        put({"type": f"image_generation.{kind}", "b64_json": base64.b64encode(data).decode(), "created_at": int(time.time()),
             "size": size, "quality": given.quality_told, "background": "opaque", "output_format": given.form, **more})  # fmt: skip

    def progress(share: float, said: str) -> None:
        nonlocal doing
        doing = said

    asked = "auto" if given.size is None else f"{given.size[0]}x{given.size[1]}"
    work = service.begin(
        lambda **how: make_images(
            service, given, progress=progress,
            on_partial=lambda data, index: told("partial_image", data, asked, partial_image_index=index),
            on_image=lambda made: told("completed", made.data, made.size, usage=_NO_USAGE, revised_prompt=made.prompt, promptprobe=made.known),
            **how,
        )
    )  # fmt: skip
    work.add_done_callback(lambda _: put(None))

    async def events() -> AsyncIterator[str]:
        try:
            while True:
                try:
                    event = await asyncio.wait_for(waiting.get(), BEAT)
                except TimeoutError:
                    yield f": {' '.join(doing.split())}\n\n"
                    continue
                if event is None:
                    break
                yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
            if error := work.exception():
                status, body = _status_of(error)
                if status == 500:
                    _log.error("a stream ended in an error", exc_info=error)
                yield f"event: error\ndata: {json.dumps({'type': 'error', **body})}\n\n"
        finally:
            work.cancel()

    return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-store"})


def _told(made: Made, given: ImagesRequest, request: Any, kept: KeptFiles) -> dict[str, Any]:
    """An image in an answer's list."""
    own = {"revised_prompt": made.prompt, "promptprobe": made.known}
    if given.url:
        return {"url": f"http://{request.headers['host']}/v1/files/{kept.keep(made.data, given.form)}", **own}
    return {"b64_json": base64.b64encode(made.data).decode(), **own}


async def _left(request: Any) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _object(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise InputError(f"the request is {body!r:.80}; send a JSON object")
    return body


def _model(service: Service) -> dict[str, Any]:
    return {"id": service.model_name, "object": "model", "created": 0, "owned_by": "promptprobe"}


def _status_of(error: BaseException) -> tuple[int, dict[str, Any]]:
    """Status and body for what a call raised."""
    if isinstance(error, BusyError):
        return 429, error_body(429, str(error), None, "busy")
    if isinstance(error, CancelledError):
        return 499, error_body(499, str(error))
    if isinstance(error, InputError):
        return 400, error_body(400, str(error), getattr(error, "parameter", None), getattr(error, "code", None))
    return 500, error_body(500, str(error) if isinstance(error, PromptProbeError) else "the server failed")


def _refusal_of(error: PromptProbeError) -> Any:
    from starlette.responses import JSONResponse

    status, body = _status_of(error)
    headers = {"retry-after": str(math.ceil(error.retry_after))} if isinstance(error, BusyError) else None
    return JSONResponse(body, status_code=status, headers=headers)


def _refusal(status: int, message: str, parameter: str | None = None, code: str | None = None) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse(error_body(status, message, parameter, code), status_code=status)


def serve(service: Service, host: str = "127.0.0.1", port: int = 8721, page: Page | None = None) -> None:
    """Serve, with the page where there is one, until stopped. Raises `InputError` for a host that is not loopback, or a port in use."""
    check_address(host, port)

    def told(server: Any) -> None:
        if page:
            page.ending = lambda: server.should_exit

    serve_app(make_app(service, page), host, port, told)
