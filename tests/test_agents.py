"""The guard keeps the meaning, the rewriters propose, and the loop ends well whatever the LLM does."""

import copy
import json

import pytest
from promptprobe.agents import final_choice, rounds
from promptprobe.agents.batch import run_batch
from promptprobe.agents.guard import lost
from promptprobe.agents.offline import OfflineRewriter
from promptprobe.agents.plan import make_plan
from promptprobe.agents.rewriter import ChatRewriter
from promptprobe.agents.rewriters import make_rewriter
from promptprobe.agents.rewrites import Rewrite, RewriteAnswer, RewriteRequest, Try, parse_rewrites
from promptprobe.agents.session import Session

from promptprobe import InputError, optimize
from promptprobe.report import render
from promptprobe.reports import runs_report
from promptprobe.rewards import rewrite_margin
from promptprobe.runs import make_scorer
from promptprobe.worlds import thesaurus_of

PROMPT = "a pair of crimson automobiles to the left of a green tree on a white background"
PLAIN = "two red cars left of a green tree on a white background"


@pytest.fixture(scope="session")
def scorer():
    return make_scorer()


def answer(*prompts):
    return json.dumps({"rewrites": [{"strategy": "plain words", "prompt": p} for p in prompts]})


def chat(url, **options):
    return ChatRewriter(model="test", base_url=url, api_key="sk-secret", backoff=0, timeout=5, **options)


def request(prompt=PROMPT, count=4, tried=()):
    return RewriteRequest(prompt, 0.1, 0.5, [], [Try(prompt, 0.1), *tried], count, 38)


@pytest.mark.parametrize(
    ("original", "rewrite", "missing"),
    [
        (PROMPT, PLAIN, []),
        (PROMPT, "a green tree right of two red cars, white background", []),
        (PROMPT, "a green tree left of two red cars on a white background", ["car left tree"]),
        (PROMPT, "two red cars on a white background", ["object tree", "car left tree"]),
        (PROMPT, PLAIN.replace("two", "three"), ["count 2 of car"]),
        (PROMPT, PLAIN.replace("red", "blue"), ["colour red of car"]),
        (PROMPT, PLAIN.replace("white", "black"), ["white background"]),
        ("a sign with \"HELLO you\" in Paris", "a sign in Paris, \"HELLO you\" on it", []),
        ("a sign with \"HELLO you\" in Paris", "a big sign", ['text "HELLO you"', "name Paris"]),
        ("a fluffy white cat sitting on a red sofa", "white cat resting on a big red sofa, soft light", []),
        ("a fluffy white cat sitting on a red sofa", "a white cat", ["object sofa"]),
        ("two red cars", "two red cars and two blue cars", ["one car too many"]),
    ],
)  # fmt: skip
def test_the_guard_says_what_a_rewrite_lost(original, rewrite, missing):
    assert [m for m in lost(original, rewrite) if not m.startswith("object paris")] == missing


def test_the_offline_rewriter_keeps_the_meaning_and_never_repeats():
    rewriter = OfflineRewriter(thesaurus_of("icons"))
    first = rewriter.rewrite(request())
    assert first.rewrites[0].prompt == PLAIN
    texts = [r.prompt for r in first.rewrites]
    second = rewriter.rewrite(request(tried=[Try(t, 0.2) for t in texts]))
    assert len(texts) == 4 and not set(texts) & {r.prompt for r in second.rewrites}
    assert all(lost(PROMPT, t) == [] for t in texts)


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        (answer("one", "two"), ["one", "two"]),
        ("Sure!\n```json\n" + answer("one") + "\n```", ["one"]),
        ("<think>{\"prompt\": \"no\"}</think>" + answer("one"), ["one"]),
        (answer("one", "two")[:-30], ["one"]),
        ("1. first\n2) \"second\"", ["first", "second"]),
        ('["a", "b"]', ["a", "b"]),
        ('{"rewrites": [{"prompt": 5}, {"prompt": ""}, {"prompt": "x\\u0007y"}]}', ["x y"]),
        (answer("w " * 10_000), []),
        ("I can't do that.", []),
        ("[" * 5_000, []),  # deeper than Python can call
    ],
)  # fmt: skip
def test_answers_are_read_as_data(text, prompts):
    assert [r.prompt for r in parse_rewrites(text, 4)] == prompts


def test_the_llm_is_told_the_words_the_threshold_and_the_history(llm):
    llm.script = [answer("one")]
    chat(llm.url).rewrite(request(tried=[Try("worse", 0.0)]))
    said = json.loads(llm.requests[0]["messages"][1]["content"])
    assert (said["prompt"], said["threshold"], said["max_tokens"], said["count"]) == (PROMPT, 0.5, 38, 4)
    assert [t["prompt"] for t in said["best"]] == [PROMPT, "worse"]
    assert llm.requests[0]["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize(
    ("script", "requests", "rewrites", "note"),
    [
        ([(429, "{}", {"retry-after": "0"}), answer("one")], 2, 1, None),
        ([(500, "{}", {}), ("drop", "", {}), answer("one")], 3, 1, None),
        ([(503, "{}", {})], 4, 0, "HTTP 503"),
        ([(401, '{"error": {"message": "bad key sk-secret"}}', {})], 1, 0, "HTTP 401; check the key"),
        ([(400, '{"error": {"message": "no json_schema"}}', {}), (400, "{}", {}), answer("one")], 3, 1, None),
        (["this is no JSON"], 1, 0, "held no rewrite"),
        ([""], 3, 0, "empty"),
        ([(200 + 1, "<html>", {})], 4, 0, "not a chat completion"),
    ],
)
def test_a_misbehaving_llm_is_retried_where_that_helps(llm, script, requests, rewrites, note):
    llm.script = script
    got = chat(llm.url).rewrite(request())
    assert (got.requests, len(got.rewrites)) == (requests, rewrites)
    assert (note in got.notes[0]) if note else not got.notes
    assert "sk-secret" not in repr(got)


def test_the_environment_chooses_the_rewriter(monkeypatch):
    assert isinstance(make_rewriter()[0], OfflineRewriter)
    nothing, note = make_rewriter("llm")
    assert nothing is None and "no LLM key" in note
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-secret")
    qwen, _ = make_rewriter()
    assert qwen.model == "qwen3.7-plus" and "dashscope" in qwen.name and "secret" not in qwen.name
    with pytest.raises(InputError, match="must be one of auto, llm, offline"):
        make_rewriter("magic")


def test_optimize_probes_rewrites_and_generates_the_best(scorer, tmp_path):
    record = optimize(PROMPT, tau=99, rounds=2, scorer=scorer, out=tmp_path)
    assert record.stop_reason == "rounds used up" and record.rounds == 2
    scores = [c.score for c in record.candidates if c.score is not None]
    # Five finalists were measured against the user's prompt, which is kept unless one is better by a margin.
    previews = {c.id: c.preview for c in record.candidates if c.preview is not None}
    best = final_choice.winner(previews, rewrite_margin("icons"))
    assert len(scores) >= 5 and len(previews) == 5 and 0 in previews
    assert record.best_prompt == record.candidates[best].prompt
    assert record.predicted_reward == pytest.approx(record.candidates[best].score, abs=1e-4)  # rounded for the record
    further = final_choice.choice_step(scorer) - scorer.probe_step  # to where predicted images tell wordings apart
    assert record.denoiser_calls["used"] == 5 * len(scores) + further * len(previews) + 20 - further
    assert {c.seeds[0] for c in record.candidates if c.seeds} == {0}
    saved = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert saved["best_prompt"] == record.best_prompt and len(list(tmp_path.glob("*.png"))) == 2
    again = optimize(PROMPT, tau=99, rounds=2, scorer=scorer, out=tmp_path)
    assert [c.score for c in again.candidates] == [c.score for c in record.candidates]
    assert again.image_file != record.image_file
    with open(record.image_file, "rb") as a, open(again.image_file, "rb") as b:
        assert a.read() == b.read()


def test_an_interrupted_run_leaves_the_record_of_what_was_probed(scorer, tmp_path):
    told = {}

    def stop_in_round_two(event, values):
        told[event] = values
        if event == "probing" and values["round"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimize(PROMPT, tau=99, rounds=3, scorer=scorer, out=tmp_path, on_event=stop_in_round_two)
    (file,) = tmp_path.iterdir()
    record = json.loads(file.read_text())
    assert (record["stop_reason"], record["image"], record["reward"]) == ("interrupted", None, None)
    page = render(runs_report([told["interrupted"]["record"]], unfinished="Interrupted: no picture was finished."))
    assert "Interrupted" in page and "no picture was made" in page and PROMPT in page
    assert len([c for c in record["candidates"] if c["score"] is not None]) == 5


def test_a_good_prompt_is_left_alone(scorer):
    record = optimize(PLAIN, tau=-99, scorer=scorer)
    assert (record.unchanged, record.rounds, record.stop_reason) == (True, 0, "good enough as it was")
    assert record.reward is not None and record.reward_label == "icons"


def test_the_loop_drops_rewrites_that_lose_meaning_and_ends_whatever_the_llm_says(scorer, llm):
    llm.script = [answer("a green tree", PROMPT, "two red cars " * 40, PLAIN), (500, "{}", {})]
    record = optimize(PROMPT, tau=99, rounds=2, scorer=scorer, rewriter=chat(llm.url, retries=1), guard="code")
    reasons = [c.rejected for c in record.candidates]
    assert reasons[0] is None and reasons[1].startswith("lost object car") and reasons[2] == "tried before"
    assert reasons[3].startswith("too long by") and reasons[4] is None
    assert any("gave up" in n for n in record.notes) and any("no usable rewrite" in n for n in record.notes)
    assert record.llm["requests"] == 3 and record.llm["input_tokens"] == 100
    assert record.best_prompt in (PROMPT, PLAIN)


def test_a_refused_key_is_not_tried_again(scorer, llm):
    llm.script = [(401, '{"error": {"message": "bad key sk-secret"}}', {})]
    record = optimize(PROMPT, tau=99, rounds=3, scorer=scorer, rewriter=chat(llm.url))
    assert (record.stop_reason, len(llm.requests), record.unchanged) == ("the LLM refused", 1, True)
    assert record.notes == ["round 1: the LLM answered HTTP 401; check the key", "round 1: no usable rewrite"]


def test_a_budget_ends_the_loop(scorer, llm):
    llm.script = [answer("nothing of use")]
    record = optimize(PROMPT, tau=99, rounds=9, max_llm_calls=1, scorer=scorer, rewriter=chat(llm.url))
    assert record.stop_reason == "LLM budget used up" and record.llm["requests"] == 1
    assert optimize(PROMPT, tau=99, max_seconds=0, scorer=scorer).stop_reason == "time used up"


class Scripted:
    """Gives the same wordings whatever it is asked."""

    name, calls_llm = "scripted", True

    def __init__(self, *wordings):
        self.wordings = wordings

    def rewrite(self, request):
        if not self.wordings:
            raise OSError("the line is dead")
        return RewriteAnswer([Rewrite("scripted", w) for w in self.wordings], requests=1)


SCRIPT = ("a green tree", PLAIN, PROMPT.upper(), "İ" + PLAIN, f"{PLAIN}, please")


def rounded(scores):
    """Scores near one that other batches came to: each of the steps to the probe rounds another way, scores are about 1."""
    return pytest.approx(scores, abs=1e-4)


@pytest.mark.numbers
@pytest.mark.parametrize("tau,reason", [(99, "rounds used up"), (-99, "good enough as it was"), (None, "good enough")])
def test_graph_batch_and_session_come_to_the_same(scorer, tmp_path, tau, reason):
    if tau is None:  # what only the better wording reaches
        before, after = (s.score for s in scorer.score([PROMPT, PLAIN], [0]))
        tau = (before + after) / 2
        assert before < after
    plan = make_plan(rewriter=Scripted(*SCRIPT), scorer=scorer, tau=tau, rounds=1, candidates=5)
    graph = optimize(PROMPT, plan=plan).as_dict()
    run_batch(plan, [PROMPT], tmp_path / "batch")
    batch = json.loads((tmp_path / "batch" / "results.jsonl").read_text("utf-8"))
    session = Session(plan, tmp_path / "s.sqlite", "same", tmp_path)
    said = session.say(PROMPT)["said"]
    if graph["rounds"]:
        said = session.say("/rewrite")["said"]
    person = session.state["candidates"]
    session.close()

    assert graph["stop_reason"] == batch["stop_reason"] == reason
    assert ("at or above τ" in said) == reason.startswith("good enough")
    told = ("id", "prompt", "strategy", "rejected")
    assert [[c[k] for k in told] for c in batch["candidates"]] == [[c[k] for k in told] for c in graph["candidates"]]
    assert [c["score"] for c in batch["candidates"]] == rounded([c["score"] for c in graph["candidates"]])
    kept = [c for c in graph["candidates"] if c["rejected"] is None]
    assert [c["prompt"] for c in person] == [c["prompt"] for c in kept]
    assert [c["score"] for c in person] == rounded([c["score"] for c in kept])
    thrown_out = [f"out: {c['prompt']} ({c['rejected']})" for c in graph["candidates"] if c["rejected"]]
    assert [line for line in said.splitlines() if line.startswith("out: ")] == thrown_out
    assert len(thrown_out) == (3 if graph["rounds"] else 0)


def test_a_rewriter_that_raises_is_noted_everywhere(scorer, tmp_path):
    plan = make_plan(rewriter=Scripted(), scorer=scorer, tau=99, rounds=1)
    note = "the rewriter failed: OSError: the line is dead"
    assert f"round 1: {note}" in optimize(PROMPT, plan=plan).notes
    run_batch(plan, [PROMPT], tmp_path)
    assert f"round 1: {note}" in json.loads((tmp_path / "results.jsonl").read_text("utf-8"))["notes"]
    session = Session(plan, tmp_path / "s.sqlite", "dead", tmp_path)
    session.say(PROMPT)
    assert session.say("/rewrite")["said"] == f"no usable rewrite\n{note}"
    session.close()


def test_no_step_of_the_loop_changes_what_it_is_given(scorer):
    plan = make_plan(rewriter=Scripted(*SCRIPT), scorer=scorer, tau=99, rounds=1, candidates=len(SCRIPT))
    state, context = rounds.begin(PROMPT, plan)
    for _ in range(2):
        scored = scorer.score(rounds.to_probe(state), state["seeds"])
        given = copy.deepcopy(state)
        changes = rounds.take_scores(state, context, scored)
        context.remember(state, scored, changes)
        assert state == given and all(s.trajectories for s in scored)
        probed = rounds.updated(state, changes)
        assert state == given and probed == context.reached and not probed["waiting"]
        given = copy.deepcopy(probed)
        answer = rounds.ask(plan.rewriter, rounds.next_request(probed, context))
        state = rounds.updated(probed, rounds.take_answer(probed, context, answer))
        assert probed == given and state["candidates"] == probed["candidates"]
    # Candidates and notes have grown by each round's; the second round's wordings wait.
    assert [c["id"] for c in state["candidates"]] == list(range(1 + len(SCRIPT)))
    assert len(state["waiting"]) == len(SCRIPT) and state["notes"] == ["round 2: no usable rewrite"]
    assert json.loads(json.dumps(state)) == state
