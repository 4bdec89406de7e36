"""promptprobe inside LangGraph's server, diffusers' modular pipelines, LangChain agents and trainers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from promptprobe.agents import Service, langchain_tools, modular_block, openai_tools, responses_tools, studio, subgraph
from promptprobe.agents.plan import make_plan

import promptprobe
from promptprobe.rewards.shaped import trainer_reward

ROOT = Path(__file__).parent.parent
PROMPT = "a trio of cobalt felines"


@pytest.fixture(scope="module")
def plan():
    return make_plan(model="icons-unet", rounds=1, candidates=2, rewriter="offline")


def test_the_subgraph_streams_plain_events_and_says_what_is_wrong(plan):
    graph = subgraph(plan)
    told = list(graph.stream({"prompt": PROMPT}, stream_mode="custom"))
    assert [t["event"] for t in told if t["event"] != "step"][:2] == ["probing", "probed"]
    assert json.loads(json.dumps(told)) == told
    for given, said in (({}, "no 'prompt'"), ({"prompt": 3}, "must be text"), ({"prompt": " "}, "is empty")):
        with pytest.raises(promptprobe.InputError, match=said):
            graph.invoke(given)
    assert graph.get_input_jsonschema()["properties"]["prompt"]["type"] == "string"
    assert "best_prompt" in graph.get_output_jsonschema()["properties"]


def test_the_graph_of_langgraph_json_is_made_beside_the_event_loop(monkeypatch):
    named = json.loads((ROOT / "langgraph.json").read_text())["graphs"]["promptprobe"]
    assert named == f"{studio.__name__}:graph"
    made = []
    monkeypatch.setattr(studio, "subgraph", lambda **options: made.append(options) or "the graph")
    monkeypatch.setenv(studio.VARIABLE, '{"rounds": 2}')
    studio._graph.cache_clear()
    assert asyncio.run(studio.graph()) == "the graph" and made == [{"rounds": 2}]
    assert asyncio.run(studio.graph()) == "the graph" and len(made) == 1
    for text in ("[]", "{", "[" * 100_000):
        studio._graph.cache_clear()
        monkeypatch.setenv(studio.VARIABLE, text)
        with pytest.raises(promptprobe.InputError, match="is no JSON object"):
            asyncio.run(studio.graph())
    studio._graph.cache_clear()


def test_a_block_of_a_modular_pipeline_gives_the_best_wording(plan):
    block = modular_block(plan)
    state = block.init_pipeline()(prompt=PROMPT)
    assert state.get("original_prompt") == PROMPT and np.isfinite(state.get("predicted_reward"))
    assert state.get("prompt") == subgraph(plan).invoke({"prompt": PROMPT})["best_prompt"] != PROMPT
    with pytest.raises(promptprobe.InputError, match="give the block one text"):
        block.init_pipeline()(prompt=["a", "b"])


def test_the_responses_api_gets_flat_schemas():
    for flat, nested in zip(responses_tools(), openai_tools(), strict=True):
        assert set(flat) == {"type", "name", "description", "parameters", "strict"}
        assert {k: flat[k] for k in nested["function"]} == nested["function"]


def test_a_langchain_agent_calls_our_tools(plan, tmp_path):
    agents = pytest.importorskip("langchain.agents")
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage

    class Scripted(GenericFakeChatModel):
        def bind_tools(self, tools, **_):
            assert {t.name for t in tools} == {"optimize_prompt", "score_prompts", "select_seed", "generate_image"}
            return self

    call = {"name": "score_prompts", "args": {"prompts": [PROMPT]}, "id": "1"}
    bad = {"name": "score_prompts", "args": {"prompts": []}, "id": "2"}
    model = Scripted(
        messages=iter([AIMessage("", tool_calls=[call]), AIMessage("", tool_calls=[bad]), AIMessage("done")])
    )
    agent = agents.create_agent(model, langchain_tools(Service(plan), tmp_path))
    messages = agent.invoke({"messages": [("user", "score it")]})["messages"]
    answers = [m for m in messages if m.type == "tool"]
    assert json.loads(answers[0].content)["scores"][0]["prompt"] == PROMPT
    assert answers[1].status == "error" and messages[-1].content == "done"


def test_a_reward_takes_images_as_trainers_have_them():
    function = trainer_reward("colourfulness")
    values = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).mul(255).round()
    array = values.permute(0, 2, 3, 1).numpy()
    pictures = [Image.fromarray(a.astype(np.uint8)) for a in array]
    scores, told = function(pictures, ["a", "b"], [{}, {}])
    assert scores.shape == (2,) and scores.dtype == np.float32 and told == {"reward": "colourfulness"}
    for same in (values / 255, array.astype(np.uint8), array / 255):
        assert np.allclose(function(same, ("a", "b"))[0], scores)
    for wrong, said in (
        (values[0], "are a tensor"),
        (array[0], "are an array"),
        (array * np.nan, "no numbers"),
        ([1], "another kind"),
        (None, "another kind"),
        (values, "values from 0 to 255; give floats in 0..1"),
        (array / 128 - 1, "values from -1 to 0.99"),
    ):
        with pytest.raises(promptprobe.InputError, match=said):
            function(wrong, ["a", "b"])
    for prompts, said in (
        (["a"], "2 images and 1 prompts"),
        ("ab", "2 images and 1 prompts"),
        ([None, "b"], "a prompt is None; it must be text"),
        (["a", "\ud800"], "half of a surrogate pair"),
    ):
        with pytest.raises(promptprobe.InputError, match=said):
            function(pictures, prompts)
    with pytest.raises(promptprobe.InputError, match="reward is 5; give a name"):
        trainer_reward(5)
