"""The MCP server: the tools and jobs over stdio or streamable HTTP on loopback, with progress, images and cancellation."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from ..errors import InputError, PromptProbeError
from ..version import __version__
from .gate import GONE, Gate, check_transport, serve_app
from .jobs import Jobs
from .kept_files import KeptFiles
from .mcp_results import JOB, OUTPUTS, SCHEME, content_of
from .service import BusyError, Service
from .tools import TOOLS, Tool, ToolResult, about, call_tool

BEAT = 3.0  # seconds after which progress is told again, changed or not
_FULL = {"type": "boolean", "default": False, "description": "Put the whole images into the answer instead of previews and links."}  # fmt: skip
_JOB: dict[str, Any] = {"type": "object", "additionalProperties": False, "required": ["job"],
        "properties": {"job": {"type": "string", "description": "The job, as submit named it."}}}  # fmt: skip
_SUBMIT = {
    "type": "object", "additionalProperties": False, "required": ["tool", "arguments"],
    "properties": {"tool": {"enum": list(TOOLS), "description": "Which tool is to run."},
                   "arguments": {"type": "object", "description": "The tool's own arguments, without full, which result takes."}},
}  # fmt: skip


def make_server(service: Service) -> Any:
    """An `MCPServer` with the tools `optimize_prompt`, `score_prompts`, `select_seed` and `generate_image`, and the same as
    jobs: `submit`, `status`, `result`, `cancel`.

    Raises `InputError` when the package mcp is not installed.
    """
    try:
        from mcp.server import MCPServer
    except ImportError as error:
        raise InputError("the MCP server needs the mcp package: pip install 'promptprobe[mcp]'") from error
    from mcp.server.mcpserver.exceptions import ResourceNotFoundError

    kept, jobs = KeptFiles(math.inf), Jobs(service)
    server: Any = MCPServer(
        "promptprobe", version=__version__, title="promptprobe", log_level="WARNING",
        tools=[*(_blocking(service, tool, kept) for tool in TOOLS.values()), *_jobs(jobs, kept)],
        instructions="Predicts after a fifth of the denoising how good a diffusion model's image will be, rewrites "
        "prompts that will fail, and generates the best one. Work that takes longer than your client waits: submit, then status "
        f"and result. {about(service)}",
    )  # fmt: skip

    @server.resource(f"{SCHEME}{{name}}", mime_type="image/png", description="An image that a tool has made.")
    def image(name: str) -> bytes:
        path = kept.find(name)
        if path is None:
            raise ResourceNotFoundError(f"there is no image {name!r:.80}; make it again")
        return path.read_bytes()

    return server


def _tool(name: str, description: str, schema: dict[str, Any], output: Any, answer: Callable[..., Any], **hints: bool) -> Any:  # fmt: skip
    """A tool with our own schema, words and checks: `answer` gets the arguments as they came, and the context."""
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.server.mcpserver.tools import Tool as ServedTool
    from mcp_types import ToolAnnotations

    class Served(ServedTool):
        async def run(self, arguments: dict[str, Any], context: Any, convert_result: bool = False) -> Any:
            """The SDK drops what the schema has not; here it is refused by name."""
            known = schema["properties"]
            try:
                for given in arguments:
                    if given not in known:
                        raise InputError(f"tool {name}: unknown argument {given!r:.80}; it has {', '.join(known)}")
                return await answer({n: _read(v, known[n]) for n, v in arguments.items() if v is not None}, context)
            except BusyError as error:
                raise ToolError(f"{error} (retry after {math.ceil(error.retry_after)} s)") from error
            except PromptProbeError as error:
                raise ToolError(str(error)) from error

        @property
        def output_schema(self) -> dict[str, Any] | None:  # type: ignore[override]
            return output

    def nothing() -> None: ...

    made = Served.from_function(nothing, name=name, title=name.replace("_", " "), description=description)
    annotations = ToolAnnotations(
        read_only_hint=hints.get("reads", True), idempotent_hint=hints.get("same", True), destructive_hint=False,
        open_world_hint=hints.get("asks", False),
    )  # fmt: skip
    return made.model_copy(update={"parameters": schema, "annotations": annotations})


def _read(value: Any, schema: dict[str, Any]) -> Any:
    """An argument; some clients send lists, numbers and objects as JSON in a text."""
    kinds = json.dumps(schema)
    if isinstance(value, str) and '"string"' not in kinds.partition('"items"')[0] and '"enum"' not in kinds:
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _blocking(service: Service, tool: Tool, kept: KeptFiles) -> Any:
    """A tool of the table that answers when the work is done."""
    asks = tool.name == "optimize_prompt" and service.asks_llm
    schema = tool.schema
    if tool.makes_images:
        schema = {**schema, "properties": {**schema["properties"], "full": _FULL}}

    async def answer(arguments: dict[str, Any], context: Any) -> Any:
        full = _full(arguments)
        return content_of(await _followed(service, tool.name, arguments, context), kept, full)

    return _tool(tool.name, f"{tool.description} {about(service)}", schema, OUTPUTS[tool.name], answer, asks=asks)


def _full(arguments: dict[str, Any]) -> bool:
    """Take `full` out of the arguments."""
    full = arguments.pop("full", False)
    if not isinstance(full, bool):
        raise InputError(f"full is {full!r:.80}; it must be true or false")
    return full


async def _followed(service: Service, name: str, arguments: dict[str, Any], context: Any) -> ToolResult:
    """A tool's result; progress goes out as notifications, the latest only, and never falls silent. A request that is
    cancelled, or whose client has left, stops before its next step."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()
    now: Any = [0.0, "waiting"]

    def note(share: float, doing: str) -> None:
        now[:] = [max(now[0], share), doing]
        changed.set()

    def progress(share: float, doing: str) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(note, share, doing)

    work = service.begin(partial(call_tool, service, name, arguments, progress=progress))
    request = getattr(context.request_context, "request", None)
    gone = asyncio.ensure_future((request.scope[GONE] if request is not None and GONE in request.scope else asyncio.Event()).wait())  # fmt: skip
    told = 0.0
    try:
        while not work.done():
            changed.clear()
            news = asyncio.ensure_future(changed.wait())
            try:
                await asyncio.wait({work, news, gone}, timeout=BEAT, return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
            if gone.done():
                raise InputError("the client has left")
            if not work.done():
                told = max(0.99 * now[0], told + 1e-6)  # it must grow with each
                await context.report_progress(round(min(told, 1.0), 6), 1.0, now[1])
        return work.result()
    finally:
        work.cancel()
        gone.cancel()


def _jobs(jobs: Jobs, kept: KeptFiles) -> list[Any]:
    """Submit, status, result, cancel."""
    from mcp_types import CallToolResult, TextContent

    def told(values: dict[str, Any]) -> Any:
        return CallToolResult(content=[TextContent(type="text", text=json.dumps(values))], structured_content=values)

    async def submit(given: dict[str, Any], context: Any) -> Any:
        return told(jobs.submit(given.get("tool", ""), given.get("arguments", {})).told())

    async def status(given: dict[str, Any], context: Any) -> Any:
        return told(jobs.find(given.get("job")).told())

    async def result(given: dict[str, Any], context: Any) -> Any:
        full = _full(given)
        return content_of(await jobs.result(given.get("job")), kept, full)

    async def cancel(given: dict[str, Any], context: Any) -> Any:
        return told((await jobs.cancel(given.get("job"))).told())

    fetched = {**_JOB, "properties": {**_JOB["properties"], "full": _FULL}}
    return [
        _tool("submit", f"Begin one of the other tools as a job and return at once. {about(jobs.service)}", _SUBMIT, JOB, submit, reads=False, same=False),
        _tool("status", "How far a job is.", _JOB, JOB, status),
        _tool("result", "What a finished job gave, as the tool itself would have.", fetched, {"type": "object"}, result),
        _tool("cancel", "Stop a job before its next denoising step.", _JOB, JOB, cancel, reads=False),
    ]  # fmt: skip


def serve(service: Service, transport: str = "stdio", host: str = "127.0.0.1", port: int = 8722) -> None:
    """Serve until stopped, over `stdio` or `http` (streamable HTTP at /mcp, loopback only).

    Raises as `check_transport`.
    """
    check_transport(transport, host, port)
    if transport == "stdio":
        make_server(service).run("stdio")
    else:
        serve_app(Gate(make_server(service).streamable_http_app(host=host)), host, port)
