"""The MCP server: the four tools over stdio or streamable HTTP on loopback, with progress, images and cancellation."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from typing import Annotated, Any

from pydantic import Field

from .. import __version__
from ..errors import InputError, PromptProbeError
from .service import MAX_PROMPT, MAX_PROMPTS, MAX_SEEDS, Service
from .tools import TOOLS, ToolResult, call_tool

try:
    from mcp.server import MCPServer
    from mcp.server.mcpserver import Context
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp_types import CallToolResult, ImageContent, TextContent
except ImportError as error:
    raise InputError("the MCP server needs the mcp package: pip install 'promptprobe[mcp]'") from error

Prompt = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT, description="What the picture should show.")]
SeedNumber = Annotated[int, Field(ge=0, lt=2**53, description="The same seed gives the same result.")]
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def make_server(service: Service) -> Any:
    """An `MCPServer` with the tools `optimize_prompt`, `score_prompts`, `select_seed` and `generate_image`."""
    server = MCPServer(
        "promptprobe", version=__version__,
        instructions="Predicts after a fifth of the denoising how good a diffusion model's image will be, rewrites "
        "prompts that will fail, and generates the best one.",
    )  # fmt: skip

    def described(name: str) -> dict[str, str]:
        return {"name": name, "description": TOOLS[name].description}

    @server.tool(**described("optimize_prompt"))
    async def optimize_prompt(
        prompt: Prompt,
        ctx: Context,
        seed: SeedNumber = 0,
        rounds: Annotated[int, Field(ge=0, le=10, description="Rewriting rounds at most.")] = 3,
        candidates: Annotated[int, Field(ge=1, le=16, description="Rewrites asked for in each round.")] = 4,
    ) -> CallToolResult:
        given = {"prompt": prompt, "seed": seed, "rounds": rounds, "candidates": candidates}
        return await _answer(service, "optimize_prompt", given, ctx)

    @server.tool(**described("score_prompts"))
    async def score_prompts(
        prompts: Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS, description="Prompts to compare.")],
        ctx: Context,
        seed: SeedNumber = 0,
    ) -> CallToolResult:
        return await _answer(service, "score_prompts", {"prompts": prompts, "seed": seed}, ctx)

    @server.tool(**described("select_seed"))
    async def select_seed(
        prompt: Prompt,
        ctx: Context,
        seeds: Annotated[int, Field(ge=1, le=MAX_SEEDS, description="How many seeds to try.")] = 10,
        first_seed: SeedNumber = 0,
    ) -> CallToolResult:
        given = {"prompt": prompt, "seeds": seeds, "first_seed": first_seed}
        return await _answer(service, "select_seed", given, ctx)

    @server.tool(**described("generate_image"))
    async def generate_image(prompt: Prompt, ctx: Context, seed: SeedNumber = 0) -> CallToolResult:
        return await _answer(service, "generate_image", {"prompt": prompt, "seed": seed}, ctx)

    return server


async def _answer(service: Service, name: str, arguments: dict[str, Any], context: Any) -> CallToolResult:
    """Run a tool in a thread; progress goes out as notifications, a cancelled request stops before its next step."""
    loop = asyncio.get_running_loop()
    cancel = threading.Event()

    def progress(share: float, doing: str) -> None:
        sent = context.report_progress(round(share, 4), 1.0, doing)
        asyncio.run_coroutine_threadsafe(sent, loop)

    work = asyncio.ensure_future(
        asyncio.to_thread(call_tool, service, name, arguments, progress=progress, cancel=cancel)
    )
    try:
        result: ToolResult = await asyncio.shield(work)
    except asyncio.CancelledError:
        cancel.set()
        raise
    except PromptProbeError as error:
        raise ToolError(str(error)) from error
    content: list[Any] = [TextContent(type="text", text=json.dumps(result.values, ensure_ascii=False))]
    content += [
        ImageContent(type="image", data=base64.b64encode(i).decode(), mime_type="image/png") for i in result.images
    ]
    return CallToolResult(content=content, structured_content=result.values)


def serve(service: Service, transport: str = "stdio", host: str = "127.0.0.1", port: int = 8722) -> None:
    """Serve until stopped, over `stdio` or `http` (streamable HTTP at /mcp, loopback only).

    Raises `InputError` for another transport or host, or a port in use.
    """
    if transport == "stdio":
        make_server(service).run("stdio")
        return
    if transport != "http":
        raise InputError(f"transport is {transport!r}; it must be stdio or http")
    from .server import check_address

    check_address(host, port)
    make_server(service).run("streamable-http", host=host, port=port)
