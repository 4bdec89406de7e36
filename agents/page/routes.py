"""The page's addresses: static files, the state, what is said, events, pictures. Who may ask for them the server's gate decides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError, PromptProbeError
from ...text import MAX_CHARACTERS, whole_pairs
from ..service import BusyError
from .pictures import FOLDER, THUMBS, thumbnail
from .results import image_of, read_results

if TYPE_CHECKING:
    from .page import Page

STATIC = Path(__file__).parent / "static"
MEDIA = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MOST_BODY = 2**18
MOST_LINE = MAX_CHARACTERS + 100  # a command before a prompt
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin", "x-frame-options": "DENY", "cache-control": "no-store",
}  # fmt: skip


def routes_of(page: Page) -> list[Any]:
    """The routes, for a Starlette application."""
    from starlette.requests import Request
    from starlette.responses import FileResponse, Response, StreamingResponse
    from starlette.routing import Route

    class JSONResponse(Response):  # Starlette's refuses a half of a character, which files of others may hold
        media_type = "application/json"

        def render(self, content: Any) -> bytes:
            return json.dumps(content).encode("ascii")

    def guarded(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                response = await answer(request)
            except BusyError as error:
                response = JSONResponse({"error": str(error)}, status_code=409)
            except InputError as error:
                response = JSONResponse({"error": str(error)}, status_code=400)
            except PromptProbeError as error:
                response = JSONResponse({"error": str(error)}, status_code=500)
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return endpoint

    async def static(request: Request) -> Response:
        path = STATIC / Path(request.path_params.get("name", "page.html")).name
        if path.suffix not in MEDIA or not path.is_file():
            return JSONResponse({"error": "not found"}, status_code=404)
        return Response(path.read_bytes(), media_type=MEDIA[path.suffix], headers={"cache-control": "no-cache"})

    async def state(request: Request) -> Response:
        board = await asyncio.to_thread(page.board, request.query_params.get("session") or page.name)
        return JSONResponse(await asyncio.to_thread(page.view, board))

    async def settings(request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(page.settings))

    async def say(request: Request) -> Response:
        given = await _body(request)
        line = given.get("line")
        if not isinstance(line, str) or not line.strip():
            raise InputError("the line is empty; give a prompt or a command")
        if len(line) > MOST_LINE:
            raise InputError(f"the line has {len(line)} characters; give 1 to {MAX_CHARACTERS}")
        line = whole_pairs(line)
        board = await asyncio.to_thread(page.board, str(given.get("session") or page.name))
        board.say(line.strip())
        return JSONResponse({"begun": line.strip()[:200]}, status_code=202)

    async def stop(request: Request) -> Response:
        given = await _body(request)
        (await asyncio.to_thread(page.board, str(given.get("session") or page.name))).stop()
        return JSONResponse({"stopping": True}, status_code=202)

    async def events(request: Request) -> Response:
        board = await asyncio.to_thread(page.board, request.query_params.get("session") or page.name)
        last = request.headers.get("last-event-id") or request.query_params.get("last")
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(board.live.listen(last, page.ending), media_type="text/event-stream", headers=headers)

    async def picture(request: Request) -> Response:
        key, ending = request.path_params["key"], request.path_params["ending"]
        path = page.out / FOLDER / f"{key}.{ending}"
        if not (key.isalnum() and ending in ("webp", "json") and path.is_file()):
            raise InputError("this picture is gone")
        media = "image/webp" if ending == "webp" else "application/json"
        return FileResponse(path, media_type=media, headers={"cache-control": "private, max-age=86400"})

    async def image(request: Request) -> Response:
        board = await asyncio.to_thread(page.board, request.query_params.get("session") or page.name)
        path, record = await asyncio.to_thread(board.record, request.path_params["number"])
        if request.path_params["what"] == "record":
            return JSONResponse(record)
        return FileResponse(path, media_type="image/png", headers={"cache-control": "private, max-age=86400"})

    async def results(request: Request) -> Response:
        folder, own = page.folder(request.path_params["folder"]), page.service.plan.origin.model
        return JSONResponse({"name": folder.name, "rows": await asyncio.to_thread(read_results, folder, own)})

    async def result_image(request: Request) -> Response:
        folder, side = page.folder(request.path_params["folder"]), request.query_params.get("side")
        path = image_of(folder, request.query_params.get("image"))
        if path is None or not path.is_file():
            return JSONResponse({"error": "this image is gone"}, status_code=404)
        headers = {"cache-control": "private, max-age=3600"}
        if side is None:
            return FileResponse(path, media_type="image/png", headers=headers)
        if not side.isdecimal() or int(side) not in THUMBS:
            raise InputError(f"side is {side[:20]!r}; it must be one of {', '.join(map(str, THUMBS))}")
        return Response(await asyncio.to_thread(thumbnail, path, int(side)), media_type="image/webp", headers=headers)

    async def _body(request: Request) -> dict[str, Any]:
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > MOST_BODY:
                raise InputError(f"the request has more than {MOST_BODY} bytes")
        try:
            given = json.loads(bytes(data))
        except (ValueError, RecursionError) as error:
            raise InputError("the request is no JSON") from error
        if not isinstance(given, dict):
            raise InputError("the request is no JSON object")
        return given

    table: list[tuple[str, Any, str]] = [
        ("/", static, "GET"), ("/page/static/{name}", static, "GET"), ("/page/state", state, "GET"),
        ("/page/settings", settings, "GET"), ("/page/say", say, "POST"), ("/page/stop", stop, "POST"),
        ("/page/events", events, "GET"), ("/page/cell/{key}.{ending}", picture, "GET"),
        ("/page/image/{number:int}/{what}", image, "GET"), ("/page/results/{folder:int}", results, "GET"),
        ("/page/results/{folder:int}/image", result_image, "GET"),
    ]  # fmt: skip
    return [Route(path, guarded(answer), methods=[method]) for path, answer, method in table]
