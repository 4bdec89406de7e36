"""The MCP server: the four tools over stdio or streamable HTTP on loopback, with progress, images and cancellation."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import threading
from typing import Any

from ..errors import InputError, PromptProbeError
from ..threads import in_thread
from ..version import __version__
from .server import check_address
from .service import Service
from .tools import TOOLS, Tool, about, call_tool


def make_server(service: Service) -> Any:
    """An `MCPServer` with the tools `optimize_prompt`, `score_prompts`, `select_seed` and `generate_image`.

    Raises `InputError` when the package mcp is not installed.
    """
    try:
        from mcp.server import MCPServer
    except ImportError as error:
        raise InputError("the MCP server needs the mcp package: pip install 'promptprobe[mcp]'") from error

    from mcp.server.mcpserver.tools import Tool as ServedTool

    def served(tool: Tool) -> Any:
        """With our own schema and words: the SDK checks nothing."""
        made = ServedTool.from_function(
            _handler(service, tool), name=tool.name, description=f"{tool.description} {about(service)}"
        )
        return made.model_copy(update={"parameters": tool.schema})

    return MCPServer(
        "promptprobe", version=__version__, tools=[served(tool) for tool in TOOLS.values()],
        instructions="Predicts after a fifth of the denoising how good a diffusion model's image will be, rewrites "
        "prompts that will fail, and generates the best one. " + about(service),
    )  # fmt: skip


def _handler(service: Service, tool: Tool) -> Any:
    """A function with the tool's arguments for parameters; `call_tool` checks them."""
    from mcp.server.mcpserver import Context
    from mcp_types import CallToolResult

    async def handle(ctx: Context, **arguments: Any) -> CallToolResult:
        return await _answer(service, tool.name, {n: v for n, v in arguments.items() if v is not None}, ctx)

    parameters = [inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=Context)]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Any)
        for name in tool.arguments.model_fields
    ]
    handle.__signature__ = inspect.Signature(parameters, return_annotation=CallToolResult)  # type: ignore[attr-defined]
    handle.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": CallToolResult}
    return handle


async def _answer(service: Service, name: str, arguments: dict[str, Any], context: Any) -> Any:
    """Run a tool in a thread; progress goes out as notifications, a cancelled request stops before its next step."""
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp_types import CallToolResult, ImageContent, TextContent

    loop = asyncio.get_running_loop()
    cancel = threading.Event()

    def progress(share: float, doing: str) -> None:
        sent = context.report_progress(round(share, 4), 1.0, doing)
        asyncio.run_coroutine_threadsafe(sent, loop)

    try:
        result = await in_thread(lambda: call_tool(service, name, arguments, progress=progress, cancel=cancel), cancel)
    except PromptProbeError as error:
        raise ToolError(str(error)) from error
    content: list[Any] = [TextContent(type="text", text=json.dumps(result.values, ensure_ascii=False))]
    content += [
        ImageContent(type="image", data=base64.b64encode(i).decode(), mime_type="image/png") for i in result.images
    ]
    return CallToolResult(content=content, structured_content=result.values)


def check_transport(transport: str, host: str, port: int) -> None:
    """Raise `InputError` for another transport than stdio or http, a host that is not loopback, or a port in use."""
    if transport not in ("stdio", "http"):
        raise InputError(f"transport is {transport!r}; it must be stdio or http")
    if transport == "http":
        check_address(host, port)


def serve(service: Service, transport: str = "stdio", host: str = "127.0.0.1", port: int = 8722) -> None:
    """Serve until stopped, over `stdio` or `http` (streamable HTTP at /mcp, loopback only).

    Raises as `check_transport`.
    """
    check_transport(transport, host, port)
    if transport == "stdio":
        make_server(service).run("stdio")
    else:
        make_server(service).run("streamable-http", host=host, port=port)
