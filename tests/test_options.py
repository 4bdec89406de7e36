"""Options stand once: the same names, ranges and words on the command line, in Python and in tools."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib.metadata import distributions
from importlib.util import find_spec

import pytest
from promptprobe.agents import (
    Service,
    dispatch,
    langchain_tools,
    modular_block,
    openai_tools,
    responses_tools,
    subgraph,
)
from promptprobe.agents.own_plan import own_plan
from promptprobe.agents.plan import make_plan

import promptprobe
from promptprobe import cli
from promptprobe.options import OPTIONS, PlanOptions, UnknownOptionError, check, names_of
from promptprobe.runs import make_scorer
from promptprobe.search import settle_search
from promptprobe.settling import settle, unused

PROMPT = "a red car"


def said_by_command(capsys, *arguments):
    with pytest.raises(SystemExit):
        cli.main(list(arguments))
    return capsys.readouterr().err.strip().removeprefix("promptprobe: ")


@pytest.fixture(scope="module")
def plan():
    return make_plan(rounds=0, candidates=1, seed=7, rewriter="offline")


BOUNDED = [(n, k) for n, k in OPTIONS.items() if n in names_of(PlanOptions) and k.option.least is not None]


@pytest.mark.parametrize(("name", "known"), BOUNDED, ids=[n for n, _ in BOUNDED])
def test_what_is_out_of_range_is_refused_in_the_same_words_everywhere(name, known, capsys, plan):
    wrong = known.option.least - 1
    wanted = f"{known.flag[2:].replace('-', ' ').replace('llm', 'LLM')} is {wrong}; it must be {known.range()}"
    assert said_by_command(capsys, "optimize", PROMPT, known.flag, str(wrong)) == wanted
    with pytest.raises(promptprobe.InputError) as error:
        promptprobe.optimize(PROMPT, **{name: known.kind(wrong)})
    assert str(error.value) == wanted
    if name in ("seed", "rounds", "candidates"):
        answer = json.loads(dispatch(Service(plan), "optimize_prompt", {"prompt": PROMPT, name: wrong}))
        assert answer["error"] == f"tool optimize_prompt: {wanted}"


def test_tools_keep_what_the_server_was_started_with(plan):
    answer = json.loads(dispatch(Service(plan), "optimize_prompt", {"prompt": PROMPT}))
    assert answer["seed"] == 7 and len(answer["candidates"]) == 1
    scores = json.loads(dispatch(Service(plan), "score_prompts", {"prompts": [PROMPT]}))
    assert scores["scores"][0]["seeds"] == [7]
    image = json.loads(dispatch(Service(plan), "generate_image", {"prompt": PROMPT}))
    assert image["seed"] == 7
    chosen = json.loads(dispatch(Service(plan), "select_seed", {"prompt": PROMPT, "seeds": 2}))
    assert {s["seed"] for s in chosen["seeds"]} == {7, 8}


def test_tools_search_for_a_budget_as_everywhere(plan):
    own = promptprobe.search_seeds(PROMPT, scorer=plan.scorer, seed=7, budget=2)
    chosen = json.loads(dispatch(Service(plan), "select_seed", {"prompt": PROMPT, "budget": 2}))
    assert (chosen["policy"], chosen["best"], len(chosen["seeds"])) == ("staged", own.best, len(own.seeds))
    assert chosen["notes"][:1] == own.notes[:1] and chosen["denoiser_calls"] == own.denoiser_calls <= 2 * 25
    for given, wrong in (
        ({"budget": 0.5}, "budget is 0.5; it must be at least 1"), ({"budget": 40}, "seeds are too many for a call"),
        ({"budget": 2, "policy": "fixed"}, "budget is 2 beside policy fixed"),
    ):  # fmt: skip
        assert wrong in json.loads(dispatch(Service(plan), "select_seed", {"prompt": PROMPT} | given))["error"]


def test_tools_take_every_policy_and_the_judge_that_was_asked_for(plan):
    chosen = json.loads(dispatch(Service(plan), "select_seed", {"prompt": PROMPT, "seeds": 1, "policy": "full"}))
    assert chosen["policy"] == "full" and chosen["best"] == [7]
    assert settle_search(plan.scorer, [0], 0, "decoded").judge is None
    assert not plan.scorer.judge_asked and own_plan(plan, judge="probe").scorer.judge_asked


def test_tools_say_the_default_that_holds():
    (seeds,) = (t["parameters"]["properties"] for t in responses_tools() if t["name"] == "select_seed")
    assert seeds["policy"]["description"].endswith("Default: auto.") and seeds["top"]["anyOf"][0]["maximum"] == 64
    assert seeds["judge"]["description"].endswith("Default: as this server was started.")


def test_langchain_tools_keep_their_options(tmp_path):
    pytest.importorskip("langchain_core")
    tools = {t.name: t for t in langchain_tools(out=tmp_path, rounds=1, candidates=2, tau=99.0, rewriter="offline")}
    found = tools["optimize_prompt"].invoke({"prompt": "a pair of crimson automobiles"})
    assert len(found["candidates"]) == 3  # one round of two rewrites


@pytest.mark.parametrize(
    ("command", "options", "wrong"),
    [
        ("optimize", {"rewriter": "offline", "llm_model": "m"}, "LLM model is 'm', which does nothing beside rewriter offline"),
        ("optimize", {"rewriter": "offline", "llm_timeout": 9.0}, "LLM timeout is 9.0, which does nothing beside rewriter"),
        ("seeds", {"policy": "full", "judge": "gap"}, "judge is 'gap', which does nothing beside policy full"),
        ("seeds", {"policy": "decoded", "judge": "gap"}, "judge is 'gap', which does nothing beside policy decoded"),
        ("seeds", {"policy": "full", "top": 2, "diverse": 0.5}, "diverse is 0.5, which does nothing beside policy full"),
        ("seeds", {"diverse": 0.5}, "diverse is 0.5, which does nothing beside top 1; leave it out, or change top"),
        ("seeds", {"policy": "fixed", "judge": "gap", "preview_decoder": "full"},
         "preview decoder is 'full', which does nothing beside policy fixed and beside judge gap"),
        ("score", {"judge": "focus", "reward": "icons"}, "reward is 'icons', which does nothing beside judge focus"),
        ("score", {"judge": "gap", "preview_decoder": "full"}, "preview decoder is 'full', which does nothing beside judge"),
    ],
)  # fmt: skip
def test_an_option_that_would_do_nothing_is_refused_by_name(command, options, wrong, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = [text for name, value in options.items() for text in (OPTIONS[name].flag, str(value))]
    assert said_by_command(capsys, command, PROMPT, *flags).startswith(wrong)
    call = {"optimize": promptprobe.optimize, "seeds": promptprobe.search_seeds, "score": promptprobe.score}[command]
    with pytest.raises(promptprobe.InputError) as error:
        call([PROMPT] if command == "score" else PROMPT, **options)
    assert str(error.value).startswith(wrong) and not list(tmp_path.iterdir())


def test_what_turns_out_to_do_nothing_is_refused_too(plan):
    state = {"preview_decoder": "full", "reward": "icons", "judge": "auto"}
    assert unused(state, "score", judge="probe") and not unused(state, "score", judge="preview")
    assert unused(state, "optimize", judge="probe", measured=None) and not unused(
        state, "optimize", judge="probe", measured="x"
    )
    with pytest.raises(promptprobe.InputError, match="reward is 'icons', which does nothing beside judge probe"):
        promptprobe.score([PROMPT], reward="icons")
    with pytest.raises(
        promptprobe.InputError, match="LLM model is 'm', which does nothing beside rewriter of your own"
    ):
        promptprobe.optimize(PROMPT, rewriter=plan.rewriter, llm_model="m")


WRONG_CALLS = [
    ("select_seed", {"prompt": PROMPT, "seeds": 0}, "seeds is 0; it must be between 1 and 64"),
    ("select_seed", {"prompt": PROMPT, "seeds": "1"}, "seeds is '1'; it must be a whole number between 1 and 64"),
    ("select_seed", {"prompt": PROMPT, "policy": "rac"}, "policy is 'rac'; it must be one of auto, racing"),
    ("select_seed", {"prompt": PROMPT, "policy": 5}, "policy is 5; it must be one of auto, racing"),
    (
        "select_seed",
        {"prompt": PROMPT, "seeds": 2, "top": 3},
        "top is 3; it must be between 1 and 2, the number of seeds",
    ),
    ("select_seed", {"prompt": PROMPT, "first_seed": -1}, "first_seed is -1; it must be between 0 and 2^63 - 1"),
    ("select_seed", {"prompt": PROMPT, "to": 1}, "unknown argument 'to'; it has prompt, seeds"),
    ("generate_image", {}, "prompt is missing; give it"),
    ("generate_image", {"prompt": [1]}, "prompt is [1]; it must be text"),
    ("generate_image", {"prompt": " "}, "the prompt is empty; give at least one word"),
    (
        "generate_image",
        {"prompt": PROMPT, "seed": "1"},
        "seed is '1'; it must be a whole number between 0 and 2^63 - 1",
    ),
    ("generate_image", {"prompt": PROMPT, "seed": True}, "seed is True; it must be a whole number between"),
    (
        "generate_image",
        {"prompt": PROMPT, "negative": "\ud800"},
        "negative has half of a surrogate pair, '\\ud800', at character 1",
    ),
    ("generate_image", "[1]", "arguments is [1]; give an object with prompt, seed"),
    ("score_prompts", {"prompts": PROMPT}, "prompts is 'a red car'; give a list of texts"),
    ("score_prompts", {"prompts": []}, "the number of prompts is 0; it must be between 1 and 64"),
]


@pytest.mark.parametrize(("tool", "arguments", "wrong"), WRONG_CALLS)
def test_a_tool_call_is_refused_in_the_words_of_all(tool, arguments, wrong, plan):
    told = json.loads(dispatch(Service(plan), tool, arguments))["error"]
    assert told.startswith(f"tool {tool}: {wrong}")


def test_other_systems_get_the_same_words(plan):
    pytest.importorskip("langchain_core")
    tools = {t.name: t for t in langchain_tools(Service(plan))}
    for tool, arguments, wrong in WRONG_CALLS:
        if isinstance(arguments, dict):
            assert tools[tool].invoke(arguments).startswith(f"tool {tool}: {wrong}")


def test_a_plan_or_scorer_settles_what_it_was_made_with(plan):
    with pytest.raises(promptprobe.InputError, match="tau can't be given beside plan"):
        promptprobe.optimize(PROMPT, plan=plan, tau=-99.0)
    with pytest.raises(UnknownOptionError, match="optimize has no option 'bogus'"):
        promptprobe.optimize(PROMPT, plan=plan, bogus=1)
    with pytest.raises(promptprobe.InputError, match="steps can't be given beside scorer"):
        make_plan(scorer=plan.scorer, steps=50)
    with pytest.raises(promptprobe.InputError, match="device, steps can't be given beside scorer"):
        promptprobe.search_seeds(PROMPT, 2, scorer=plan.scorer, steps=50, device="cuda")
    with pytest.raises(promptprobe.InputError, match="rounds can't be given beside plan"):
        subgraph(plan, rounds=1)
    with pytest.raises(promptprobe.InputError, match="prompt has 10001 characters"):
        subgraph(plan).invoke({"prompt": "x" * 10_001})
    with pytest.raises(promptprobe.InputError, match="rounds can't be given beside service"):
        langchain_tools(Service(plan), rounds=1)
    with pytest.raises(promptprobe.InputError, match="dtype can't be given beside pipeline"):
        make_scorer(pipeline=plan.scorer.pipeline, dtype="float16")


def test_what_is_no_plan_scorer_or_list_is_said_in_a_line():
    for call, told in (
        (lambda: promptprobe.optimize(PROMPT, plan=3), "plan is 3; give what make_plan returns"),
        (lambda: promptprobe.optimize(PROMPT, scorer="icons"), "scorer is 'icons'; give what make_scorer returns"),
        (lambda: promptprobe.search_seeds(PROMPT, scorer=3), "scorer is 3; give what make_scorer returns"),
        (lambda: Service(3), "plan is 3; give what make_plan returns"),
        (lambda: subgraph(3), "plan is 3; give what make_plan returns"),
        (lambda: modular_block(3), "plan is 3; give what make_plan returns"),
        (lambda: langchain_tools(3), "service is 3; give what Service returns"),
        (lambda: promptprobe.optimize(PROMPT, pipe_args=5), "pipe arg is 5; give names with values"),
        (lambda: promptprobe.optimize(PROMPT, lora=5), "lora is 5; give a list"),
        (lambda: promptprobe.optimize(PROMPT, lora=[5]), r"lora is \[5\]; give a list of texts"),
        (lambda: promptprobe.optimize(5), "prompt is 5; it must be text"),
        (lambda: promptprobe.optimize(PROMPT, out=5), "out is 5; it must be a path"),
        (lambda: promptprobe.generate(PROMPT, out=5), "out is 5; it must be a path"),
        (lambda: promptprobe.optimize(PROMPT, tau=[1]), r"tau is \[1\]; give a number, balanced, a quantile .*"),
        (lambda: promptprobe.score(PROMPT), "prompts is 'a red car'; give a list of texts"),
        (lambda: promptprobe.score(5), "prompts is 5; give a list of texts"),
        (lambda: promptprobe.score([PROMPT], judge=None), "judge is None; it must be one of auto, .*"),
        (lambda: promptprobe.score([PROMPT], judge=5), "judge is 5; it must be one of auto, .*"),
        (lambda: promptprobe.score([PROMPT], model=5), "model is 5; it must be a path"),
        (lambda: promptprobe.score([PROMPT], probe=5), "probe is 5; it must be a path, or an object with predict"),
        (lambda: promptprobe.score([PROMPT], reward=5), "reward is 5; it must be text, or a function"),
        (lambda: promptprobe.optimize(PROMPT, rewriter=5), "rewriter is 5; .* or an object with rewrite"),
        (lambda: promptprobe.search_seeds(PROMPT, 2.5), "seeds is 2.5; give a number, or a list .*"),
        (lambda: promptprobe.search_seeds(PROMPT, ["x"]), "seed is 'x'; it must be a whole number between .*"),
        (lambda: promptprobe.search_seeds(PROMPT, [3, 9], seed=5), "seed is 5, which does nothing beside a list .*"),
        (lambda: Service(steps=0), "steps is 0; it must be between 1 and 1000"),
        (lambda: Service(tau="foo"), "tau is 'foo'; give a number, balanced, a quantile .*"),
        (lambda: Service(steps=4), "probe step is 5; it must be between 1 and 4, .*"),
    ):
        with pytest.raises(promptprobe.InputError, match=f"^{told}$"):
            call()


def test_an_unknown_option_is_an_error_that_names_the_nearest():
    with pytest.raises(TypeError, match="has no option 'round'; did you mean rounds"):
        promptprobe.optimize(PROMPT, round=1)
    for call in (
        promptprobe.optimize,
        promptprobe.score,
        promptprobe.search_seeds,
        promptprobe.generate,
        Service,
        subgraph,
    ):
        with pytest.raises(UnknownOptionError, match=f"{call.__name__} has no option 'stepz'"):
            call(*([] if call in (Service, subgraph) else [PROMPT]), stepz=3)


def test_signatures_and_help_name_every_option_with_its_default():
    parameters = inspect.signature(promptprobe.optimize).parameters
    assert parameters["rounds"].default == 3 and parameters["tau"].default == "auto"
    assert set(names_of(PlanOptions)) <= set(parameters)
    documented = inspect.getdoc(promptprobe.optimize)
    assert all(f"{n}: {OPTIONS[n].option.help}" in documented for n in names_of(PlanOptions))


@pytest.mark.parametrize("command", ["optimize", "batch", "serve", "mcp"])
def test_a_command_has_every_option_of_its_groups(command):
    shown = subprocess.run(
        [sys.executable, "-m", "promptprobe", command, "--help"], capture_output=True, text=True,
        env={"COLUMNS": "300", "PATH": "/usr/bin:/bin", "NO_COLOR": "1"}, check=True,
    ).stdout  # fmt: skip
    for name in names_of(PlanOptions):
        known = OPTIONS[name]
        line = next(text for text in shown.splitlines() if text.startswith(f"│ {known.flag} "))
        assert known.option.help.split(" [")[0][:60] in line
        assert not known.option.choices or "|".join(known.option.choices) in line
    for group in ("Model", "Judge", "Loop", "LLM", "Budget"):
        assert f"─ {group} ─" in shown


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0 and capsys.readouterr().out.strip() == promptprobe.__version__


def test_schemas_bound_what_the_table_bounds():
    schema = openai_tools()[0]["function"]["parameters"]["properties"]["rounds"]
    assert {"minimum": 0, "maximum": 10, "type": "integer"} in schema["anyOf"] and schema["default"] is None


def test_settle_fills_in_defaults_and_keeps_types():
    settled = settle(PlanOptions, {"guidance": 3}, "optimize")
    assert settled["guidance"] == 3.0 and isinstance(settled["guidance"], float) and settled["steps"] == 25
    for value in (True, "5", 2.5, None):
        with pytest.raises(promptprobe.InputError, match="steps is"):
            check("steps", value)


def test_a_record_says_what_was_run(plan, tmp_path):
    from promptprobe.pnginfo import read_record

    service = Service(plan)
    record, png = service.generate(PROMPT, seed=5)
    (tmp_path / "a.png").write_bytes(png)
    kept = read_record(tmp_path / "a.png")
    assert kept["seed"] == kept["settings"]["seed"] == 5 and "rounds" not in kept["settings"] and "tau" not in kept
    told: list[tuple[str, dict]] = []
    promptprobe.generate(PROMPT, seed=5, out=tmp_path / "b.png", on_event=lambda *event: told.append(event))
    steps = [("step", {"step": k, "steps": 25}) for k in range(1, 26)]
    assert [t for t in told if t[0] == "step"] == steps
    assert read_record(tmp_path / "b.png") == kept == json.loads(json.dumps(record))
    told.clear()
    assert promptprobe.replay(tmp_path / "a.png", on_event=lambda *event: told.append(event))[1] == 0
    assert [t for t in told if t[0] == "step"] == steps


def test_the_reward_is_loaded_on_the_runs_device(monkeypatch, plan):
    from promptprobe import runs

    asked = []
    monkeypatch.setattr(runs, "load_reward", lambda name, device: asked.append((name, device)))
    scorer = plan.scorer
    monkeypatch.setitem(scorer.loading, "device", "meta")
    runs.reward_of(None, scorer)
    assert asked == [("icons", "meta")]


def test_the_agents_sdk_message_names_a_folder_in_its_way(tmp_path):
    if not find_spec("openai") or not any(d.name == "openai-agents" for d in distributions()):
        pytest.skip("the Agents SDK is not installed")
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text("")
    code = "from promptprobe.agents import agents_sdk_tools\ntry:\n    agents_sdk_tools()\nexcept Exception as e:\n    print(e)"
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True).stdout
    assert str(tmp_path / "agents") in told and "is taken by the folder" in told
