"""Who may compete and who wins: the LLM as second reader, unsure rewrites, a margin, fruitless rounds, directions."""

import json
import threading

import pytest
from promptprobe.agents import rounds
from promptprobe.agents.batch import run_batch
from promptprobe.agents.checking import Guarding, ask
from promptprobe.agents.choice import MARGIN, best_of, margin_of
from promptprobe.agents.guard import compare
from promptprobe.agents.plan import make_plan
from promptprobe.agents.rewriter import ChatRewriter
from promptprobe.agents.rewrites import Rewrite, RewriteAnswer, RewriteRequest, Try, Waiting
from promptprobe.agents.service import CancelledError, Service
from promptprobe.agents.session import Session

from promptprobe import InputError, optimize
from promptprobe.facts import facts_of
from promptprobe.records import CandidateRecord
from promptprobe.runs import make_scorer
from promptprobe.view import LiveView, SessionView

PROMPT = "a pair of crimson automobiles to the left of a green tree on a white background"
PLAIN = "two red cars left of a green tree on a white background"
SWAPPED = "a green tree left of two red cars on a white background"
DOUBTFUL = "two red cars left of a green tree in a garden on a white background"  # code: unsure, added garden


@pytest.fixture(scope="module")
def scorer():
    return make_scorer()


def rewrites(*prompts):
    return json.dumps({"rewrites": [{"strategy": "plain words", "prompt": p} for p in prompts]})


def checks(*entries):
    made = [{"rewrite": n, "lost": [], "unsure": [], "added": [], **e} for n, e in enumerate(entries, 1)]
    return json.dumps({"checks": made})


def chat(llm, **options):
    return ChatRewriter(model="test", base_url=llm.url, api_key="sk-secret", backoff=0, timeout=5, **options)


def request(prompt=PROMPT, **more):
    return RewriteRequest(prompt, 0.1, 0.5, [], [Try(prompt, 0.1)], 4, 38, **more)


def scored(*scores, unsure=()):
    return [{"id": i, "score": s, "unsure": ["added hat"] if i in unsure else []} for i, s in enumerate(scores)]


@pytest.mark.parametrize(
    ("candidates", "margin", "best"),
    [
        (scored(0.5, 0.7, 0.6), 0.2, 1),
        (scored(0.5, 0.5), 0.2, 0),  # the user's own wins a tie
        (scored(0.5, 0.65, unsure=[1]), 0.2, 0),
        (scored(0.5, 0.75, unsure=[1]), 0.2, 1),
        (scored(0.5, 0.65, 0.55, unsure=[1]), 0.2, 2),
        (scored(0.5, None, 0.55), 0.2, 2),
        (scored(0.5, 0.51, 0.55, unsure=[1, 2]), None, 2),  # more than a tenth of the spread
        ([{"id": 0, "score": 0.1}, {"id": 1, "score": 0.2}], 0.2, 1),  # a record from before: nothing is unsure
    ],
)
def test_an_unsure_rewrite_wins_by_a_margin_only(candidates, margin, best):
    assert best_of(candidates, margin)["id"] == best


def test_the_margin_is_a_share_of_the_scale_of_the_judge(scorer):
    assert margin_of(scorer) == pytest.approx(
        MARGIN * (scorer.judge.quantile(0.9, 5, 25) - scorer.judge.quantile(0.1, 5, 25))
    )


def test_old_records_of_candidates_are_read():
    assert CandidateRecord(**{"id": 0, "round": 0, "strategy": "as it is", "prompt": "a cat"}).unsure == []


def test_the_llm_reads_all_rewrites_and_code_overrules_it(llm):
    llm.script = [rewrites(PLAIN, SWAPPED, DOUBTFUL), checks({"lost": [1]}, {})]
    answer = ask(chat(llm), request(), Guarding("llm"))
    told = json.loads(llm.requests[1]["messages"][1]["content"])
    assert [r["text"] for r in told["rewrites"]] == [PLAIN, DOUBTFUL]  # what code is sure of is not asked about
    assert told["facts"][0]["fact"] and llm.requests[1]["response_format"]["type"] == "json_schema"
    found = {text: v.verdict for text, v in answer.verdicts.items()}
    assert found == {PLAIN: "unsure", SWAPPED: "lost", DOUBTFUL: "kept"}
    assert (answer.requests, answer.input_tokens) == (2, 200) and not answer.notes


@pytest.mark.parametrize(
    ("said", "note"),
    [
        ((500, "{}", {}), "fact check: the LLM gave up after 1 requests: HTTP 500; code alone decided"),
        ("I like both.", "fact check: 2 of 2 rewrites were not judged; code alone decided"),
        (checks({}), "fact check: 1 of 2 rewrites were not judged; code alone decided"),
    ],
)
def test_a_failed_fact_check_leaves_the_verdict_of_code(llm, said, note):
    llm.script = [rewrites(PLAIN, DOUBTFUL), said]
    answer = ask(chat(llm, retries=0), request(), Guarding("llm"))
    assert answer.notes == [note] and answer.answered and len(answer.rewrites) == 2
    assert {t: v.verdict for t, v in answer.verdicts.items()} == {PLAIN: "kept", DOUBTFUL: "unsure"}


def test_the_fact_check_counts_as_a_request(llm, scorer):
    llm.script = [rewrites(DOUBTFUL), checks({"unsure": [2]})]
    record = optimize(PROMPT, tau=99, rounds=1, scorer=scorer, rewriter=chat(llm), llm_price="10,20")
    assert record.llm["requests"] == 2 and record.llm["cost"] == pytest.approx(200 * 10e-6 + 40 * 20e-6)
    assert record.settings["guard"] == "llm" and record.candidates[1].unsure and record.candidates[0].unsure == []
    llm.requests.clear()
    once = optimize(PROMPT, tau=99, rounds=2, scorer=scorer, rewriter=chat(llm), max_llm_calls=1)
    assert len(llm.requests) == 1 and once.stop_reason == "LLM budget used up"
    assert "round 1: no LLM request was left for the fact check; code alone decided" in once.notes


def test_off_lets_all_through_and_the_record_says_so(llm, scorer):
    llm.script = [rewrites(SWAPPED, "a green tree")]
    record = optimize(PROMPT, tau=99, rounds=1, scorer=scorer, rewriter=chat(llm), guard="off")
    assert (
        len(llm.requests) == 1 and record.settings["guard"] == "off" and any("guard is off" in n for n in record.notes)
    )
    assert [c.rejected for c in record.candidates] == [None] * 3


def test_the_guard_needs_an_llm_for_llm(scorer):
    with pytest.raises(InputError, match=r"guard is 'llm', but the rewriter '.*offline.*choose code"):
        make_plan(rewriter="offline", guard="llm", scorer=scorer)
    with pytest.raises(InputError, match="guard is 'maybe'; it must be one of code, llm, off"):
        make_plan(rewriter="offline", guard="maybe", scorer=scorer)
    assert make_plan(rewriter="offline", scorer=scorer).guard == "code"


def test_a_batch_keeps_the_answers_of_the_fact_check(llm, scorer, tmp_path):
    llm.script = [rewrites(PLAIN), checks({})]
    plan = make_plan(rewriter=chat(llm), scorer=scorer, tau=99, rounds=1)
    assert plan.guard == "llm"
    run_batch(plan, [PROMPT], tmp_path)
    assert len(list((tmp_path / "llm-answers").glob("*.json"))) == len(llm.requests) == 2
    (tmp_path / "results.jsonl").unlink()
    run_batch(plan, [PROMPT], tmp_path)
    assert len(llm.requests) == 2


class Fixed:
    """Proposes the next of its wordings each round."""

    name, calls_llm = "fixed", True

    def __init__(self, *wordings):
        self.wordings = iter(wordings)

    def rewrite(self, request):
        self.request = request
        return RewriteAnswer([Rewrite("fixed", next(self.wordings))])


def test_two_rounds_without_a_better_prompt_end_the_loop(scorer):
    record = optimize(PLAIN, tau=99, rounds=9, scorer=scorer, rewriter=Fixed(*["a green tree"] * 9))
    assert (record.stop_reason, record.rounds) == ("two rounds without a better prompt", 2)


def test_the_rewriter_is_told_length_and_scale(scorer):
    fixed = Fixed("a green tree")
    optimize(PLAIN, tau=99, rounds=1, scorer=scorer, rewriter=fixed)
    low, high = fixed.request.scale
    assert low < high and fixed.request.length >= len(PLAIN.split()) and fixed.request.label == "icons"


def test_an_unsure_wording_gives_up_no_sure_one_early(scorer):
    plan = make_plan(rewriter="offline", scorer=scorer)
    state, context = rounds.begin(PROMPT, plan)
    state = rounds.updated(state, rounds.take_scores(state, context, scorer.score([PROMPT], [0])))
    answer = ask(Fixed(DOUBTFUL), request())
    state = rounds.updated(state, rounds.take_answer(state, context, answer))
    assert rounds.rivals(state) == [1] and state["waiting"][0]["unsure"]


@pytest.mark.parametrize(
    ("rewrite", "direction", "verdict"),
    [
        ("a cat on a chair, an oil painting", "more painterly", "kept"),
        ("a cat on a chair in a forest at dusk", "in a forest at dusk", "kept"),
        ("a cat with a hat on a chair", "with a hat", "kept"),
        ("a cat on a chair with a dog", "more painterly", "lost"),
        ("an oil painting of a chair", "more painterly", "lost"),
        ("a cat on a chair in a forest", "", "unsure"),
    ],
)
def test_a_direction_may_add_style_and_setting(rewrite, direction, verdict):
    assert compare("a photo of a cat on a chair", rewrite, direction=direction).verdict == verdict


def test_facts_that_a_person_left_out_or_pinned(llm):
    facts = facts_of("a cat on a chair")
    fewer = type(facts)(facts.prompt, tuple(f for f in facts if "chair" not in f.text))
    asked = RewriteRequest("a cat on a chair", 0, 1, [], [], 4, 38)
    for kept, verdict in ((facts, "lost"), (fewer, "kept")):
        assert ask(Fixed("a cat"), asked, Guarding(facts=kept)).verdicts["a cat"].verdict == verdict
    foreign = facts_of("a red cat")
    sure = ask(
        Fixed("eine rote Katze"),
        RewriteRequest("a red cat", 0, 1, [], [], 4, 38),
        Guarding(facts=foreign, pinned=("red cat",)),
    )
    assert sure.verdicts["eine rote Katze"].lost == ("pinned fact red cat",)


class Waits:
    """Tells of its waiting, as a chat model does."""

    name, calls_llm, tells_waiting = "patient", True, True

    def rewrite(self, request, on_wait=None):
        for seconds in (1.0, 11.0):
            if on_wait:
                on_wait(Waiting("waiting for m at host", seconds, 3, 900, 100, 0.25))
        return RewriteAnswer([Rewrite("s", PLAIN)], requests=1)


WAITED = "waiting for m at host, 11 s (3 requests, 1000 tokens so far, cost 0.25)"


def test_waiting_for_the_llm_is_seen(scorer, tmp_path, capsys):
    plan = make_plan(rewriter=Waits(), scorer=scorer, tau=99, rounds=1)
    with LiveView() as view:
        optimize(PROMPT, plan=plan, on_event=view.show)
    shown = capsys.readouterr().out
    assert WAITED in shown and ", 1 s (" not in shown  # without a terminal, a line each ten seconds
    progress = []
    Service(plan).optimize(PROMPT, progress=lambda share, doing: progress.append(doing))
    assert WAITED in progress
    session = Session(plan, tmp_path / "s.sqlite", "w", tmp_path, on_wait=SessionView().waiting)
    session.say(PROMPT)
    session.say("/rewrite")
    session.close()
    assert WAITED in capsys.readouterr().out


def test_a_call_given_up_while_it_waits_ends(scorer):
    plan = make_plan(rewriter=Waits(), scorer=scorer, tau=99, rounds=1)
    gone = threading.Event()

    def progress(share, doing):
        if "waiting" in doing:
            gone.set()

    with pytest.raises(CancelledError):
        Service(plan).optimize(PROMPT, progress=progress, cancel=gone)
