"""Every surface says which words the loaded model can't draw."""

from __future__ import annotations

import asyncio
import json

import pytest
from promptprobe.agents import Service, dispatch
from promptprobe.agents.plan import make_plan
from promptprobe.agents.session import Session

import promptprobe
from promptprobe import cli
from promptprobe.worlds import knows_nothing, note_on

PROMPT = "an astronaut riding a horse"
TOLD = "unknown here: astronaut, riding, horse"


@pytest.fixture(scope="module")
def plan():
    return make_plan(rewriter="offline", rounds=1, tau=-99.0)


def test_words_that_the_world_has_are_not_told():
    assert note_on("two red cars left of a tree on a white background", "icons") is None
    assert note_on(PROMPT, "some/model") is None and not knows_nothing(PROMPT, "some/model")
    assert "draws only car, house" in note_on(PROMPT, "icons") and "--model" in note_on(PROMPT, "icons")
    assert knows_nothing(PROMPT, "icons") and not knows_nothing("a horse and a red car", "icons")


def test_python_and_tools_say_it(plan):
    record = promptprobe.optimize(PROMPT, plan=plan)
    assert any("unknown here: astronaut" in n for n in record.notes)
    assert record.stop_reason == "nothing of the prompt is known to this model"
    service = Service(plan)
    scores = json.loads(dispatch(service, "score_prompts", {"prompts": [PROMPT]}))
    assert "unknown here: astronaut" in scores["scores"][0]["notes"][0]
    chosen = json.loads(dispatch(service, "select_seed", {"prompt": PROMPT, "seeds": 2}))
    assert any("unknown here: astronaut" in n for n in chosen["notes"])


def test_commands_say_it(capsys, tmp_path):
    for arguments in (["score", PROMPT], ["generate", PROMPT, "--out", str(tmp_path / "a.png")]):
        with pytest.raises(SystemExit):
            cli.main(arguments)
        said = capsys.readouterr()
        assert "unknown here: astronaut" in " ".join((said.out + said.err).split())


def test_a_session_says_it(plan, tmp_path):
    opened = Session(plan, tmp_path / "s.sqlite", "a", tmp_path)
    try:
        assert "unknown here: astronaut" in opened.say(PROMPT)["said"]
    finally:
        opened.close()


def test_mcp_clients_learn_what_is_drawn(plan):
    pytest.importorskip("mcp")
    from mcp import Client
    from promptprobe.agents.mcp_server import make_server

    async def talk():
        async with Client(make_server(Service(plan))) as client:
            return (await client.list_tools()).tools

    taking_prompts = [t for t in asyncio.run(talk()) if t.name not in ("status", "result", "cancel")]
    assert all("draws only car, house" in tool.description for tool in taking_prompts)
