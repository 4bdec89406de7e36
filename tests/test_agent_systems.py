"""Our tools inside other agent systems, each by its own client: OpenAI's functions, LangChain, LangGraph, the Agents SDK."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from promptprobe.agents import (
    dispatch,
    langchain_tools,
    openai_tools,
)
from serving import ENVIRONMENT, PROMPT, counting, picture

from promptprobe.errors import InputError


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


def test_a_folder_that_takes_no_images_is_told_before_any_work(service, tmp_path):
    (tmp_path / "file").touch()
    with counting(service) as calls:
        told = json.loads(dispatch(service, "generate_image", {"prompt": PROMPT}, tmp_path / "file" / "x"))["error"]
        with pytest.raises(InputError, match="choose another --out"):
            langchain_tools(service, tmp_path / "file" / "x")
    assert "can't write to" in told and not calls
