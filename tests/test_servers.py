"""Every way in from other systems, each by a real client of that system: MCP, OpenAI, LangChain, LangGraph, Agents SDK."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from promptprobe.agents import BusyError, CancelledError, Service, call_tool, dispatch, langchain_tools, openai_tools
from promptprobe.agents.plan import make_plan
from promptprobe.agents.service import device_turn

import promptprobe
from promptprobe.errors import InputError

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
    assert {t.name for t in listed.tools} == {"optimize_prompt", "score_prompts", "select_seed", "generate_image"}


def test_mcp_over_stdio_gives_progress_and_an_image():
    pytest.importorskip("mcp")
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    async def talk():
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "promptprobe", "mcp", "--rewriter", "offline"], env=ENVIRONMENT
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
            return found, scores, wrong, beyond, missing, seen

    found, scores, wrong, beyond, missing, seen = asyncio.run(talk())
    assert not found.is_error and found.structured_content["prompt"] == PROMPT
    picture(base64.b64decode(next(c.data for c in found.content if c.type == "image")))
    assert len(scores.structured_content["scores"]) == 2
    assert wrong.is_error and "the prompt is empty" in wrong.content[0].text
    assert beyond.is_error and "rounds is 99; it must be between 0 and 10" in beyond.content[0].text
    assert missing.is_error and "tool generate_image: prompt is missing" in missing.content[0].text
    assert seen and all(0 <= done <= total for done, total, _ in seen)


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


def test_openai_images_client_gets_the_optimised_image():
    from openai import BadRequestError, OpenAI

    port = free_port()
    with running("serve", "--rewriter", "offline", "--tau", "99", "--rounds", "1", port=port):
        client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
        answer = client.images.generate(
            model="icons", prompt="a trio of cobalt felines on a cream backdrop", size="256x256"
        )
        picture(base64.b64decode(answer.data[0].b64_json))
        assert "blue cats" in answer.data[0].revised_prompt
        searched = client.images.generate(model="icons", prompt=PROMPT, n=2, extra_body={"budget": 1.5, "seed": 3})
        assert [d.revised_prompt for d in searched.data] == [PROMPT] * 2
        assert len({d.model_extra["promptprobe"]["seed"] for d in searched.data}) == 2
        assert client.models.list().data[0].id == "icons"
        for wrong, message in (
            ({"prompt": " "}, "the prompt is empty"), ({"prompt": "a", "size": "512x512"}, "this server makes 256x256"),
            ({"prompt": "a", "n": 9}, "n is 9"), ({"prompt": "a", "response_format": "url"}, "b64_json"),
            ({"prompt": "a", "extra_body": {"budget": 0.5}}, "budget is 0.5; it must be at least 1"),
        ):  # fmt: skip
            with pytest.raises(BadRequestError, match=message):
                client.images.generate(model="icons", **wrong)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/images/generations", b"{", {"origin": "http://evil.example"}
        )
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request)
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/images/generations", b"{")
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(request)
        # A second server on the same port says so at once.
        second = subprocess.run(
            [sys.executable, "-m", "promptprobe", "serve", "--port", str(port)], env=ENVIRONMENT, capture_output=True,
            text=True,
        )  # fmt: skip
        assert second.returncode == 2 and f"port {port} of 127.0.0.1 can't be used" in second.stderr


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
    with small._lock, pytest.raises(CancelledError):
        small.generate(PROMPT, cancel=cancel)


def test_a_turn_is_for_the_device_that_an_offloaded_pipeline_computes_on(service, monkeypatch):
    asked = []
    pipeline = service.plan.scorer.pipeline
    for module in (pipeline.text_encoder, pipeline.text_encoder_2, pipeline.transformer, pipeline.vae):
        monkeypatch.setattr(module, "_hf_hook", SimpleNamespace(execution_device="cuda:1"), raising=False)
    monkeypatch.setattr(
        "promptprobe.agents.service.device_turn", lambda device, *_: asked.append(device) or contextlib.nullcontext()
    )
    with service.turn():
        pass
    assert str(pipeline.device) == "cpu" and asked == ["cuda:1"]


HOLDS_THE_GPU = """
import sys
from promptprobe.agents.service import device_turn

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
