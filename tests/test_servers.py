"""Every way in from other systems, each by a real client of that system: MCP, OpenAI, LangChain, LangGraph, Agents SDK."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import io
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from promptprobe.agents import (
    BusyError,
    CancelledError,
    Service,
    call_tool,
    dispatch,
    gate,
    langchain_tools,
    openai_tools,
)
from promptprobe.agents.plan import make_plan
from promptprobe.agents.rewrites import RewriteAnswer
from promptprobe.agents.turns import device_turn

import promptprobe
from promptprobe.errors import InputError
from promptprobe.pnginfo import png_bytes

PROMPT = "a red car and two blue fish"
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI", "DASHSCOPE"))} | {
    "OMP_NUM_THREADS": "1"
}


@pytest.fixture(scope="module")
def service():
    return Service(make_plan(rewriter="offline", rounds=1))


def picture(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.size == (256, 256)
    return image


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def running(*arguments: str, port: int):
    """A server started as a user starts it, until it listens."""
    command = [sys.executable, "-m", "promptprobe", *arguments, "--port", str(port)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 90
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        process.wait(20)


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
        assert [package["runtimeArguments"][0][k] for k in ("name", "value")] == first[:2]
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


# What Open WebUI (routers/images.py: image_generations) and LibreChat (OpenAIImageTools.js, DALLE3.js) send by default, and
# where they look for the picture.
CHAT_SYSTEMS = {
    "Open WebUI": ({"model": "dall-e-2", "n": 1, "size": "512x512", "response_format": "b64_json"}, "b64_json", (512, 512)),
    "Open WebUI, gpt-image": ({"model": "gpt-image-1", "n": 1, "size": "auto"}, "b64_json", (256, 256)),
    "LibreChat": ({"model": "gpt-image-1", "n": 1, "background": "auto", "output_format": "png", "quality": "auto",
                   "size": "1536x1024"}, "b64_json", (1536, 1024)),
    "LibreChat, DALL-E": ({"model": "dall-e-3", "n": 1, "quality": "standard", "style": "vivid", "size": "1024x1024"}, "url",
                          (1024, 1024)),
}  # fmt: skip
REFUSED = (
    ({"prompt": " "}, "the prompt is empty", "prompt"), ({"size": "9x9"}, "size is 9x9", "size"), ({"n": 11}, "n is 11", "n"),
    ({"extra_body": {"budget": 0.5}}, "budget is 0.5; it must be at least 1", "budget"),
    ({"extra_body": {"sise": 1}}, "Unknown parameter: 'sise'", "sise"), ({"background": "transparent"}, "background is", "background"),
    ({"output_compression": 50}, "output_compression is 50 beside output_format png", "output_compression"),
    ({"output_format": "gif"}, "output_format is 'gif'", "output_format"), ({"partial_images": 1}, "without stream", "partial_images"),
)  # fmt: skip


def answer(port: int, path: str, body: object = None, **headers: str) -> tuple[int, dict]:
    """Status and JSON of one plain request."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_openai_images_client_gets_the_optimised_image():
    from openai import BadRequestError, NotFoundError, OpenAI

    port = free_port()
    with running("serve", "--rewriter", "offline", "--tau", "99", "--rounds", "1", "--steps", "15", port=port):
        client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
        made = client.images.generate(
            model="icons", prompt="a trio of cobalt felines on a cream backdrop", size="256x256"
        )
        picture(base64.b64decode(made.data[0].b64_json))
        assert "blue cats" in made.data[0].revised_prompt
        searched = client.images.generate(model="icons", prompt=PROMPT, n=2, extra_body={"budget": 1.5, "seed": 3})
        assert [d.revised_prompt for d in searched.data] == [PROMPT] * 2
        assert len({d.model_extra["promptprobe"]["seed"] for d in searched.data}) == 2
        webp = client.images.generate(prompt=PROMPT, output_format="webp", output_compression=50, quality="low")
        assert base64.b64decode(webp.data[0].b64_json)[8:12] == b"WEBP" and webp.output_format == "webp"
        events = list(client.images.generate(prompt=PROMPT, stream=True, partial_images=2))
        assert [e.type.partition(".")[2] for e in events] == ["partial_image", "partial_image", "completed"]
        assert [e.partial_image_index for e in events[:2]] == [0, 1] and len({e.b64_json for e in events}) == 3
        for event in events:
            picture(base64.b64decode(event.b64_json))
        assert client.models.list().data[0].id == "icons" == client.models.retrieve("icons").id
        for name, (given, where, size) in CHAT_SYSTEMS.items():
            status, body = answer(port, "/v1/images/generations", {"prompt": PROMPT, **given})
            assert status == 200 and ({"b64_json", "url"} & set(body["data"][0])) == {where}, (name, body)
            data = body["data"][0][where]
            image = Image.open(
                io.BytesIO(base64.b64decode(data) if where == "b64_json" else urllib.request.urlopen(data).read())
            )
            assert image.size == size and body["size"] == f"{size[0]}x{size[1]}", name
            notes = body["data"][0]["promptprobe"]["notes"]
            assert any("made at 256x256" in note for note in notes) == (size != (256, 256)), notes
        for wrong, message, parameter in REFUSED:
            with pytest.raises(BadRequestError, match=message) as raised:
                client.images.generate(**{"prompt": PROMPT, **wrong})
            assert raised.value.param == parameter
        with pytest.raises(NotFoundError, match="/v1/images/edits is not served"):
            client.images.edit(image=b"x", prompt="a")
        for status, headers in ((403, {"origin": "http://evil.example"}), (403, {"origin": "null"}),
                                (421, {"host": "evil.example"}), (415, {"content-type": "text/plain"}),
                                (400, {"origin": f"http://127.0.0.1:{port}"})):  # fmt: skip
            got, body = answer(port, "/v1/images/generations", {}, **headers)
            assert got == status and body["error"]["type"] == "invalid_request_error", (headers, body)
        # A second server on the same port says so at once.
        second = subprocess.run(
            [sys.executable, "-m", "promptprobe", "serve", "--port", str(port)], env=ENVIRONMENT, capture_output=True,
            text=True,
        )  # fmt: skip
        assert second.returncode == 2 and f"port {port} of 127.0.0.1 can't be used" in second.stderr


@contextlib.contextmanager
def served(service: Service, app=None):
    """The images endpoint, or another app, in a thread of this process, with its port."""
    import uvicorn
    from promptprobe.agents.server import make_app

    port = free_port()
    config = uvicorn.Config(app or make_app(service), port=port, log_level="warning", http=gate._protocol())
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join(10)


@contextlib.contextmanager
def counting(service: Service):
    """A list that grows by one at each denoiser call."""
    calls: list[int] = []
    handle = service.plan.scorer.pipeline.transformer.register_forward_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        handle.remove()


def settled(calls: list[int]) -> int:
    """How many calls there were once there were no more for a while."""
    while True:
        before = len(calls)
        time.sleep(0.6)
        if len(calls) == before:
            return before


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_its_work(service, stream):
    with served(service) as port, counting(service) as calls:
        body = json.dumps({"prompt": PROMPT, "n": 8, "stream": stream}).encode()
        head = f"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(head.encode() + body)
            while not calls:
                time.sleep(0.01)
        assert settled(calls) < 25
        assert answer(port, "/v1/images/generations", {"prompt": "a cat", "quality": "low"})[0] == 200


def test_langchain_that_gives_up_stops_its_work(service, tmp_path):
    tool = langchain_tools(service, tmp_path)[0]

    async def given_up():
        task = asyncio.create_task(tool.ainvoke({"prompt": PROMPT}))
        while not calls:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with counting(service) as calls:
        asyncio.run(given_up())
        assert settled(calls) < 25


def test_what_is_half_sent_or_not_read_ends(service, monkeypatch):
    monkeypatch.setattr(gate, "PATIENCE", 0.4)
    monkeypatch.setattr(gate, "SLOW", 0.4)
    with served(service) as port:
        for half, expected in ((b"POST /v1/im", b""), (b"", b""), (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{", b"HTTP/1.1 408")):  # fmt: skip
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.settimeout(5)
                client.sendall(half)
                assert client.recv(1000).startswith(expected)
        body = json.dumps({"prompt": PROMPT, "quality": "low", "size": "1600x1600", "n": 2}).encode()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(30)
            client.connect(("127.0.0.1", port))
            client.sendall(
                b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                % len(body)
                + body
            )
            assert client.recv(1) == b"H"
            assert answer(port, "/v1/images/generations", {"prompt": "a cat", "quality": "low"})[0] == 200
            time.sleep(0.6)
            with pytest.raises(ConnectionResetError):  # cut off, not waited for
                while client.recv(2**16):
                    pass
                raise ConnectionResetError


class SlowRewriter:
    """Says nothing until it is told to."""

    name, calls_llm = "slow", True

    def __init__(self):
        self.asked, self.may_answer = threading.Event(), threading.Event()

    def rewrite(self, request):
        self.asked.set()
        assert self.may_answer.wait(30)
        return RewriteAnswer([])


def test_while_an_llm_is_asked_the_device_is_free(service):
    slow = SlowRewriter()
    own = Service(dataclasses.replace(service.plan, rewriter=slow, threshold=99.0, guard="off"))
    results = []
    thread = threading.Thread(target=lambda: results.append(own.optimize(PROMPT)))
    thread.start()
    assert slow.asked.wait(30)
    assert own.score(["a cat"])[0]["prompt"] == "a cat" and not results
    slow.may_answer.set()
    thread.join(30)
    assert results[0][0]["stop_reason"] == "rounds used up"


def test_only_loopback_is_served():
    run = subprocess.run(
        [sys.executable, "-m", "promptprobe", "serve", "--host", "0.0.0.0"], env=ENVIRONMENT, capture_output=True,
        text=True,
    )  # fmt: skip
    assert run.returncode == 2 and "only loopback is served" in run.stderr


def test_openai_function_tools_called_by_a_chat_model(llm, service, tmp_path):
    from openai import OpenAI

    llm.script = [{"tool_calls": [("score_prompts", {"prompts": [PROMPT]})]}, "done"]
    client = OpenAI(base_url=llm.url, api_key="none")
    reply = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "score it"}], tools=openai_tools()
    )
    call = reply.choices[0].message.tool_calls[0]
    answer = json.loads(dispatch(service, call.function.name, call.function.arguments, tmp_path))
    assert answer["scores"][0]["prompt"] == PROMPT
    assert [t["function"]["name"] for t in llm.requests[0]["tools"]] == [t["function"]["name"] for t in openai_tools()]
    image = json.loads(dispatch(service, "generate_image", json.dumps({"prompt": PROMPT}), tmp_path))
    picture(Path(image["images"][0]).read_bytes())
    for name, arguments, message in (
        ("generate_image", "{", "the arguments are no JSON"), ("generate_image", "{}", "prompt is missing"),
        ("generate_image", '{"prompt": "a", "path": "/etc/passwd"}', "unknown argument 'path'; it has prompt, seed"),
        ("delete_everything", "{}", "unknown tool"), ("score_prompts", '{"prompts": []}', "prompts"),
    ):  # fmt: skip
        assert message in json.loads(dispatch(service, name, arguments))["error"]


def test_langchain_tools_in_a_tool_node(service, tmp_path):
    from langchain_core.messages import AIMessage
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode

    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode(langchain_tools(service, tmp_path)))
    graph.add_edge(START, "tools")
    graph.add_edge("tools", END)
    calls = [
        {"name": "optimize_prompt", "args": {"prompt": PROMPT}, "id": "1"},
        {"name": "optimize_prompt", "args": {"prompt": " "}, "id": "2"},
    ]
    ended = graph.compile().invoke({"messages": [AIMessage("", tool_calls=calls)]})
    good, bad = (m.content for m in ended["messages"][1:])
    picture(Path(json.loads(good)["images"][0]).read_bytes())
    assert "the prompt is empty" in bad


def test_the_loop_is_a_node_of_another_graph(service):
    from langgraph.graph import END, START, StateGraph
    from promptprobe.agents import loop

    class Outer(loop.Question, loop.Outcome):
        pass

    graph = StateGraph(Outer)
    graph.add_node("promptprobe", loop.subgraph(service.plan))
    graph.add_edge(START, "promptprobe")
    graph.add_edge("promptprobe", END)
    ended = graph.compile().invoke({"prompt": "a trio of cobalt felines on a cream backdrop"})
    assert ended["candidates"][0]["prompt"] == "a trio of cobalt felines on a cream backdrop"
    scores = {c["prompt"]: c["score"] for c in ended["candidates"]}
    assert len(scores) > 1 and ended["predicted_reward"] == scores[ended["best_prompt"]]


AGENTS_SDK = """
import asyncio, sys
import agents as sdk
from openai import AsyncOpenAI
from promptprobe.agents import agents_sdk_tools

assert sdk.Runner  # the SDK's, not ours
sdk.set_tracing_disabled(True)
model = sdk.OpenAIChatCompletionsModel("m", AsyncOpenAI(base_url=sys.argv[1], api_key="none"))
agent = sdk.Agent("painter", tools=agents_sdk_tools(out=sys.argv[2], rewriter="offline"), model=model)
print(asyncio.run(sdk.Runner.run(agent, "paint it")).final_output)
"""


def test_agents_sdk_runs_our_tools_and_is_not_shadowed(llm, tmp_path):
    llm.script = [{"tool_calls": [("generate_image", {"prompt": PROMPT})]}, "here it is"]
    # Not from the repository's folder, whose `agents` would be found before the SDK's.
    run = subprocess.run(
        [sys.executable, "-c", AGENTS_SDK, llm.url, str(tmp_path)], cwd=tmp_path, env=ENVIRONMENT, capture_output=True,
        text=True,
    )  # fmt: skip
    assert run.returncode == 0 and run.stdout.strip() == "here it is", run.stderr
    picture(next(tmp_path.glob("generate_image-*.png")).read_bytes())


def test_async_python_can_be_cancelled(service):
    async def cancelled():
        task = asyncio.create_task(service.run("optimize", PROMPT, seed=5))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await service.run("score", ["a cat"])

    assert asyncio.run(cancelled())[0]["prompt"] == "a cat"
    record = asyncio.run(promptprobe.optimize_async("a cat", plan=service.plan))
    assert record.prompt == "a cat"


def test_calls_take_turns_and_a_full_queue_is_busy(service):
    small = Service(service.plan, waiting=1)
    inside, most, failures = [], [], []

    def call():
        try:
            with small.turn():
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.3)
                inside.pop()
        except BusyError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for t in threads:
        t.start()
        time.sleep(0.02)
    for t in threads:
        t.join()
    assert max(most) == 1 and len(most) == 2 and len(failures) == 2 and "busy" in failures[0]
    cancel = threading.Event()
    cancel.set()
    with small.turn(), pytest.raises(CancelledError):
        small.generate(PROMPT, cancel=cancel)
    small.generate("a cat")
    with small.turn():
        place = small.turns.place()
        with pytest.raises(BusyError) as raised:
            asyncio.run(small.run("generate", PROMPT))  # no thread is needed to be told so
        place.leave()
    assert raised.value.retry_after >= 1


def test_a_turn_is_for_the_device_that_an_offloaded_pipeline_computes_on(service, monkeypatch):
    asked = []
    pipeline = service.plan.scorer.pipeline
    for module in (pipeline.text_encoder, pipeline.text_encoder_2, pipeline.transformer, pipeline.vae):
        monkeypatch.setattr(module, "_hf_hook", SimpleNamespace(execution_device="cuda:1"), raising=False)
    monkeypatch.setattr(
        "promptprobe.agents.turns.device_turn", lambda device, *_: asked.append(device) or contextlib.nullcontext()
    )
    with service.turn():
        pass
    assert str(pipeline.device) == "cpu" and asked == ["cuda:1"]


HOLDS_THE_GPU = """
import sys
from promptprobe.agents.rewrites import RewriteAnswer
from promptprobe.agents.turns import device_turn

with device_turn("cuda:0", 1):
    print("mine", flush=True)
    sys.stdin.readline()
"""


def test_two_processes_do_not_share_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_GPU], env=ENVIRONMENT | {"TMPDIR": str(tmp_path)}, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(BusyError, match="another process is using cuda:0"), device_turn("cuda:0", 0.2):
            pass
        with device_turn("cuda:1", 0.2), device_turn("cpu", 0), device_turn("cpu", 0):
            pass
        other.kill()  # a process that dies leaves its turn
        other.wait()
        with device_turn("cuda:0", 0.2):
            pass
    finally:
        other.kill()


def test_tools_refuse_out_of_range_arguments(service):
    with pytest.raises(InputError, match="seeds is 1000; it must be between 1 and 64"):
        call_tool(service, "select_seed", {"prompt": PROMPT, "seeds": 1000})
    with pytest.raises(InputError, match="at most 10000 are taken"):
        service.generate("a " * 6000)
