"""The MCP server by the official client: over stdio and HTTP, large images, clients that give up."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import shlex
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from promptprobe.agents import (
    Service,
    gate,
)
from serving import ENVIRONMENT, PROMPT, counting, free_port, picture, running, served, settled

import promptprobe
from promptprobe.pnginfo import png_bytes


def check_mcp_tools(listed):
    blocking = {"optimize_prompt", "score_prompts", "select_seed", "generate_image"}
    assert {t.name for t in listed.tools} == {*blocking, "submit", "status", "result", "cancel"}
    for tool in listed.tools:
        assert tool.output_schema["type"] == "object" and tool.annotations.destructive_hint is False
        assert tool.annotations.read_only_hint == (tool.name not in ("submit", "cancel"))
        assert all(p.get("description") for p in tool.input_schema["properties"].values()), tool.name


def arguments_in_docs() -> list[list[str]]:
    """What comes behind `uvx` in every setting that docs/SERVERS.md has for an MCP client."""
    text = (Path(__file__).parent.parent / "docs" / "SERVERS.md").read_text("utf-8")
    found = []
    for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL):
        (servers,) = json.loads(block).values()
        assert servers["promptprobe"]["command"] == "uvx"
        found.append(servers["promptprobe"]["args"])
    for line in re.findall(r"claude mcp add promptprobe -- uvx (.*)", text):
        found.append(shlex.split(line))
    return found


def test_mcp_over_stdio_gives_progress_and_an_image():
    pytest.importorskip("mcp")
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    async def talk():
        first, *others = arguments_in_docs()
        assert (
            len(others) == 2
            and all(a == first for a in others)
            and first[:3] == ["--from", "promptprobe[mcp]", "promptprobe"]
        )
        described = json.loads((Path(__file__).parent.parent / "server.json").read_text("utf-8"))
        package = described["packages"][0]
        assert package["version"] == described["version"] == promptprobe.__version__
        # A client puts the name and version of the package itself between these, which uvx does not take beside --from.
        assert [package["runtimeArguments"][0][k] for k in ("name", "value")] == ["--with", first[1]]
        assert [a["value"] for a in package["packageArguments"]] == first[3:]
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "promptprobe", *first[3:], "--rewriter", "offline"], env=ENVIRONMENT
        )
        seen = []

        async def progress(done, total, message):
            seen.append((done, total, message))

        async with Client(stdio_client(server)) as client:
            check_mcp_tools(await client.list_tools())
            found = await client.call_tool("optimize_prompt", {"prompt": PROMPT}, progress_callback=progress)
            scores = await client.call_tool("score_prompts", {"prompts": [PROMPT, "a cat"]})
            wrong = await client.call_tool("optimize_prompt", {"prompt": "   "})
            beyond = await client.call_tool("optimize_prompt", {"prompt": PROMPT, "rounds": 99})
            missing = await client.call_tool("generate_image", {"seed": "1"})
            unknown = await client.call_tool("generate_image", {"prompt": PROMPT, "colour": "red"})
            link = next(c for c in found.content if c.type == "resource_link")
            whole = await client.read_resource(link.uri)
            job = (
                await client.call_tool("submit", {"tool": "score_prompts", "arguments": {"prompts": [PROMPT]}})
            ).structured_content["job"]
            while (await client.call_tool("status", {"job": job})).structured_content["state"] == "running":
                await asyncio.sleep(0.1)
            later = await client.call_tool("result", {"job": job})
            lost = await client.call_tool("result", {"job": "x"})
            assert "icons, 256x256 pixels" in client.instructions
            return found, scores, wrong, beyond, missing, seen, unknown, whole, later, lost

    found, scores, wrong, beyond, missing, seen, unknown, whole, later, lost = asyncio.run(talk())
    assert (
        unknown.is_error
        and "unknown argument 'colour'; it has prompt, seed, n, size, negative, full" in unknown.content[0].text
    )
    picture(base64.b64decode(whole.contents[0].blob))
    assert Path(found.structured_content["images"][0]["file"]).name in whole.contents[0].uri
    assert later.structured_content["scores"][0]["prompt"] == PROMPT
    assert lost.is_error and "job is 'x'" in lost.content[0].text
    assert not found.is_error and found.structured_content["prompt"] == PROMPT
    picture(base64.b64decode(next(c.data for c in found.content if c.type == "image")))
    assert len(scores.structured_content["scores"]) == 2
    assert wrong.is_error and "the prompt is empty" in wrong.content[0].text
    assert beyond.is_error and "rounds is 99; it must be between 0 and 10" in beyond.content[0].text
    assert missing.is_error and "tool generate_image: prompt is missing" in missing.content[0].text
    assert seen and all(0 <= done <= total for done, total, _ in seen)


class Photo(Service):
    """Makes a picture that PNG can hardly make smaller, as models of real size do."""

    def generate(self, prompt, **options):
        noise = np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), np.uint8)
        return {"prompt": prompt, "seed": 0}, png_bytes(Image.fromarray(noise))


def test_a_large_image_comes_to_mcp_clients_as_a_preview_and_a_link():
    pytest.importorskip("mcp")
    from mcp import Client
    from promptprobe.agents.mcp_server import make_server

    async def talk():
        async with Client(make_server(Photo(rewriter="offline"))) as client:
            small = await client.call_tool("generate_image", {"prompt": "a barn"})
            whole = await client.read_resource(next(c.uri for c in small.content if c.type == "resource_link"))
            full = await client.call_tool("generate_image", {"prompt": "a barn", "full": True})
            return small, whole, full

    small, whole, full = asyncio.run(talk())
    sizes = [sum(len(getattr(c, "data", "") or getattr(c, "text", "")) for c in r.content) for r in (small, full)]
    assert sizes[0] < 700_000 and sizes[1] > 4_000_000
    assert Image.open(io.BytesIO(base64.b64decode(whole.contents[0].blob))).size == (1024, 1024)


@pytest.mark.parametrize("legacy", [False, True])
def test_an_mcp_client_that_gives_up_stops_its_work(service, legacy):
    """A call that is cancelled, and a client of an earlier protocol whose connection is gone."""
    pytest.importorskip("mcp")
    from mcp import Client
    from promptprobe.agents.mcp_server import make_server

    async def cancelled():
        async with Client(make_server(service)) as client:
            task = asyncio.create_task(client.call_tool("generate_image", {"prompt": PROMPT, "n": 8}))
            while not calls:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            assert not [t for t in asyncio.all_tasks() if "Event.wait" in repr(t.get_coro())]
            return settled(calls)

    def left(port):
        def send(stay: bool, **message):
            data = json.dumps({"jsonrpc": "2.0", **message}).encode()
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(
                b"POST /mcp HTTP/1.1\r\nHost: localhost:%d\r\nContent-Type: application/json\r\n" % port
                + b"Accept: application/json, text/event-stream\r\n"
                + session + b"Content-Length: %d\r\n\r\n" % len(data) + data
            )  # fmt: skip
            if stay:
                return sock.recv(4000)
            while not calls:
                time.sleep(0.01)
            return sock.close()

        session = b""
        client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
        head = send(True, id=1, method="initialize", params=client).decode()
        named = next(x for x in head.split("\r\n") if x.lower().startswith("mcp-session-id"))
        session = named.encode() + b"\r\nMcp-Protocol-Version: 2025-06-18\r\n"
        send(True, method="notifications/initialized")
        send(
            False, id=2, method="tools/call", params={"name": "generate_image", "arguments": {"prompt": PROMPT, "n": 8}}
        )
        return settled(calls)

    with counting(service) as calls:
        if legacy:
            with served(service, gate.Gate(make_server(service).streamable_http_app())) as port:
                assert left(port) < 25
        else:
            assert asyncio.run(cancelled()) < 25


def test_mcp_over_http_selects_a_seed():
    pytest.importorskip("mcp")
    from mcp import Client

    async def talk(port):
        async with Client(f"http://127.0.0.1:{port}/mcp") as client:
            check_mcp_tools(await client.list_tools())
            return await client.call_tool(
                "select_seed", {"prompt": PROMPT, "seeds": 4, "policy": "staged", "budget": 2}
            )

    port = free_port()
    with running("mcp", "--transport", "http", "--rewriter", "offline", port=port):
        found = asyncio.run(talk(port))
    assert not found.is_error and found.structured_content["best"][0] in range(4)
    picture(base64.b64decode(next(c.data for c in found.content if c.type == "image")))
