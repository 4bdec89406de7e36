"""The interactive session: commands, undo, errors that change nothing, and taking it up again in another process."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image
from promptprobe.agents.commands import COMMANDS, HELP
from promptprobe.agents.plan import make_plan
from promptprobe.agents.rewrites import Rewrite, RewriteAnswer
from promptprobe.agents.session import Session, kept_model, names

from promptprobe import cli
from promptprobe.errors import InputError
from promptprobe.events import waiting_in_words
from promptprobe.view import SessionView
from promptprobe.word_bars import bars_below

PROMPT = "three crimson automobiles and a fish"
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI", "DASHSCOPE"))} | {
    "OMP_NUM_THREADS": "1"
}


@pytest.fixture(scope="module")
def plan():
    return make_plan(rewriter="offline", candidates=3)


@pytest.fixture
def session(plan, tmp_path):
    opened = Session(plan, tmp_path / "sessions.sqlite", "test", tmp_path)
    yield opened
    opened.close()


def test_a_prompt_is_refined_from_start_to_saved_image(session, tmp_path):
    first = session.say(PROMPT)
    assert first["candidates"][0]["prompt"] == PROMPT and "predicted reward" in first["said"]
    rewritten = session.say("/rewrite")
    assert len(rewritten["candidates"]) > 1 and rewritten["current"] == 0
    assert session.say("/pick 1")["current"] == 1
    own = session.say("three red cars and one fish on a white background")
    assert own["candidates"][own["current"]]["strategy"] == "your own"
    made = session.say("/generate")
    path = made["files"][-1]
    with Image.open(path) as image:
        record = json.loads(image.text["promptprobe"])
    assert record["prompt"] == PROMPT and record["best_prompt"] == own["candidates"][own["current"]]["prompt"]
    for command in ("/compare 0 1", "/preview 0 1", "/heat 0", "/finish 0"):
        with Image.open(session.say(command)["files"][-1]) as image:
            image.load()
    assert [t.captions[0].text for t in session.desk.take_tiles()] == [f"0: {PROMPT}"]  # those of the last command
    last = session.say("/show 2")
    assert last["said"].split("\n") == last["files"][-2:] and len(session.desk.take_tiles()) == 2
    Path(last["files"][-1]).unlink()
    assert "is gone" in session.say("/show")["said"] and not session.desk.take_tiles()
    session.say("/new two red cars")
    assert session.desk.known("two red cars", 0) is not None  # measured against itself, not against the prompt before


def test_undo_brings_back_what_was(session):
    session.say(PROMPT)
    before = session.say("/rewrite")
    session.say("/pick 1")
    session.say("/seed 4")
    session.say("/tau 0.9@0.5")
    for _ in range(3):
        after = session.say("/undo")
    kept = ("candidates", "current", "seed", "tau")
    assert {k: after[k] for k in kept} == {k: before[k] for k in kept}
    session.say("/undo")
    assert session.say("/undo")["candidates"] == []
    assert "nothing to undo" in session.say("/undo")["said"]


# A line for each command, and whether there is something to undo after it.
EVERY = {
    "rewrite": ("more plainly", True), "pick": ("1", True), "pin": ("crimson", True), "unpin": ("", True), "seed": ("3", True),
    "tau": ("0.1", True), "compare": ("0 1", False), "preview": ("", False), "finish": ("0", False), "generate": ("", False),
    "heat": ("", False), "show": ("", False), "list": ("", False), "save": ("", False), "help": ("", False), "quit": ("", False),
    "undo": ("", False), "facts": ("drop 1", True), "seeds": ("3,4", True), "reject": ("1", True),
    "further": ("0", False), "new": ("two red cars", True),
}  # fmt: skip


def test_after_every_command_the_state_is_on_the_disk_and_undo_takes_back_what_changed(plan, tmp_path):
    store = tmp_path / "sessions.sqlite"
    session = Session(plan, store, "test", tmp_path)
    kept = ("prompt", "current", "seed", "tau", "pinned", "facts", "candidates", "seeds", "rejected")
    for line in (PROMPT, "3 red cars and 1 fish", "/pick 0", "/pin fish"):
        session.say(line)
    for command, (arguments, changes) in EVERY.items():
        before = session.state
        after = session.say(f"/{command} {arguments}")
        assert "can't do that" not in after["said"]
        other = Session(plan, store, "test", tmp_path)
        assert other.taken_up and other.state == after, command
        other.close()
        changed = {k for k in kept if (after.get(k) or []) != (before.get(k) or [])}
        assert bool(changed) == (changes or command == "undo"), command
        if changes:
            undone = session.say("/undo")
            assert all((undone.get(k) or []) == (before.get(k) or []) for k in kept), command
        else:
            assert len(after["history"]) == len(before["history"]) - (command == "undo"), command
    session.close()


def test_help_has_every_command_with_its_arguments(session):
    assert set(EVERY) == set(COMMANDS)
    said = session.say("/help")["said"]
    assert said == HELP
    for name, row in COMMANDS.items():
        assert any(
            line.startswith(f"/{name} {row.arguments}".rstrip()) and row.help in line for line in said.splitlines()
        )


def test_a_session_of_an_earlier_version_is_taken_up(plan, tmp_path):
    store = Path(shutil.copy(Path(__file__).parent / "data" / "session-before.sqlite", tmp_path))
    assert names(store) == ["before"] and kept_model(store, "before") == "icons-64"
    session = Session(plan, store, "before", tmp_path)
    wordings = [PROMPT, "three red cars and a fish", "3 red cars and 1 fish"]
    assert session.taken_up and [c["prompt"] for c in session.state["candidates"]] == wordings
    assert (session.state["current"], session.state["pinned"]) == (1, ["red"])
    assert session.say("/undo")["pinned"] == [] and session.say("/undo")["current"] == 0
    assert len(session.say("/rewrite")["candidates"]) > 3
    with Image.open(session.say("/compare 0 1")["files"][-1]) as image:
        image.load()
    assert session.say("/undo")["prompt"] == PROMPT
    session.close()


def test_a_session_goes_on_with_the_model_that_it_was_begun_with(plan, tmp_path, monkeypatch):
    store = tmp_path / "s.sqlite"
    Session(plan, store, "kept", tmp_path).close()
    assert kept_model(store, "kept") == plan.origin.model and kept_model(store, "none") is None
    assert kept_model(tmp_path / "no.sqlite", "kept") is None
    monkeypatch.setattr(plan.scorer, "model", "another/model")
    with pytest.raises(InputError, match="'kept' was begun with --model icons; give that, or another --name"):
        Session(plan, store, "kept", tmp_path)


def test_two_at_work_with_one_session_take_turns_and_nothing_is_lost(plan, tmp_path):
    asked, may_answer = threading.Event(), threading.Event()

    class Slow:
        name, calls_llm = "slow", True

        def rewrite(self, request):
            asked.set()
            assert may_answer.wait(30)
            return RewriteAnswer([Rewrite("plain", "three blue cats")])

    own, store, waited = make_plan(rewriter=Slow(), scorer=plan.scorer, guard="off"), tmp_path / "s.sqlite", []

    def told(waiting):
        waited.append(waiting_in_words(vars(waiting)))
        may_answer.set()

    page, terminal = Session(own, store, "both", tmp_path), Session(own, store, "both", tmp_path, on_wait=told)
    page.say(PROMPT)
    first = threading.Thread(target=page.say, args=["/rewrite"])
    first.start()
    assert asked.wait(30)
    state = terminal.say("/reject 0")
    first.join(30)
    assert waited == ["a page or terminal is at work with this session, 1 s"]
    assert [c["prompt"] for c in state["candidates"]] == [PROMPT, "three blue cats"] and state["rejected"] == ["0"]
    page.close()
    terminal.close()


def test_a_file_system_without_locks_keeps_nobody_waiting(plan, tmp_path, monkeypatch):
    def none(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    session = Session(plan, tmp_path / "s.sqlite", "far", tmp_path)
    assert session.say(PROMPT)["candidates"]
    session.close()


def test_a_session_killed_at_work_does_what_is_said_next(plan, one_thread, tmp_path):
    store = tmp_path / "sessions.sqlite"

    class Killer:
        name, calls_llm = "killer", True

        def rewrite(self, request):
            os.kill(os.getpid(), signal.SIGKILL)

    doomed = make_plan(rewriter=Killer(), scorer=plan.scorer)
    child = os.fork()
    if child == 0:
        session = Session(doomed, store, "test", tmp_path)
        session.say(PROMPT)
        session.say("/rewrite")
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    session = Session(plan, store, "test", tmp_path)
    assert [c["prompt"] for c in session.state["candidates"]] == [PROMPT]
    assert session.say("/pin crimson")["said"] == "kept: crimson"
    assert session.say("/pin fish")["pinned"] == ["crimson", "fish"]
    session.close()


def test_nothing_is_given_up_early_in_a_session(plan, tmp_path):
    early = make_plan(rewriter="offline", candidates=3, early_step=2)
    session = Session(early, tmp_path / "s.sqlite", "early", tmp_path)
    session.say(PROMPT)
    session.say("/rewrite")
    session.say("/seed 1")
    assert "left to right" in session.say("/preview")["said"]
    session.close()


def test_seeds_change_all_scores_and_the_same_seed_gives_the_same(session):
    one = session.say(PROMPT)["candidates"][0]["score"]
    other = session.say("/seed 9")["candidates"][0]["score"]
    assert other != one and session.say("/seed 0")["candidates"][0]["score"] == one


@pytest.mark.parametrize(
    "line,answer",
    [
        ("/generate", "there is no prompt yet"), ("/fly", "unknown command /fly"), ("/seed x", "seed is 'x'; it must be a whole number between 0 and 2^63 - 1"),
        ("/seed -1", "seed is -1; it must be between 0 and 2^63 - 1"),
        ("/tau high", "tau is 'high'"), ("/undo", "nothing to undo"), ("/pin", "name the words"),
        ("/pin car", "no prompt yet"), ("/new", "give the other prompt"), ("/facts", "no prompt yet"),
    ],
)  # fmt: skip
def test_what_can_t_be_done_changes_nothing(session, line, answer):
    before = session.state
    after = session.say(line)
    assert answer in after["said"] and after["candidates"] == before["candidates"] == []


def test_numbers_out_of_range_are_named(session):
    session.say(PROMPT)
    assert "not 7" in session.say("/pick 7")["said"]
    assert "give 2 or more" in session.say("/compare 0")["said"]


def test_pinned_words_and_the_wish_reach_the_rewriter(plan, tmp_path):
    asked = []

    class Fake:
        name, calls_llm = "fake", True

        def rewrite(self, request):
            asked.append(request)
            return RewriteAnswer([Rewrite("a", "three red cars and a fish"), Rewrite("b", "3 crimson cars and a fish")])

    own = make_plan(rewriter=Fake(), scorer=plan.scorer)
    session = Session(own, tmp_path / "s.sqlite", "pins", tmp_path)
    session.say(PROMPT)
    session.say("/pin crimson")
    said = session.say("/rewrite more painterly")
    assert asked[0].direction == "more painterly" and asked[0].keep == ["crimson"]
    assert "pinned word crimson" in said["said"]
    assert [c["prompt"] for c in said["candidates"]][1:] == ["3 crimson cars and a fish"]
    session.close()


def test_a_word_that_the_prompt_lacks_is_not_pinned(session):
    session.say(PROMPT)
    said = session.say("/pin fish, blue")
    assert said["said"] == f"can't do that: 'blue' can't be kept: not in {PROMPT!r}; pin words that it has"
    assert said["pinned"] == [] and session.say("/pin FISH automobiles,")["pinned"] == ["FISH", "automobiles"]
    session.say("/new 一只红色的猫和car")
    assert session.say("/pin 红色")["pinned"] == ["红色"]


def test_another_prompt_and_back(session):
    session.say(PROMPT)
    session.say("/pin fish")
    before = session.say("/rewrite")
    after = session.say("/new two red cars")
    assert [c["prompt"] for c in after["candidates"]] == ["two red cars"] == [after["prompt"]]
    assert (after["pinned"], after["current"], after["round"]) == ([], 0, 0)
    back = session.say("/undo")
    kept = ("prompt", "candidates", "pinned", "current")
    assert {k: back[k] for k in kept} == {k: before[k] for k in kept}


def test_facts_are_shown_and_edited_and_rewrites_checked_against_them(plan, tmp_path):
    class Fake:
        name, calls_llm = "fake", True

        def rewrite(self, request):
            return RewriteAnswer([Rewrite("a", "three crimson automobiles")], requests=1, input_tokens=9)

    own = make_plan(rewriter=Fake(), scorer=plan.scorer, llm_price="1000,0")
    session = Session(own, tmp_path / "s.sqlite", "facts", tmp_path)
    session.say(PROMPT)
    shown = session.say("/facts")["said"].splitlines()
    numbers = [line.split()[0] for line in shown if "fish" in line]
    assert numbers and "drop N" in shown[-1]
    said = session.say("/rewrite")
    assert "lost object fish" in said["said"] and "LLM: 1 requests, 9 + 0 tokens, cost 0.009" in said["said"]
    assert "need not be kept" in session.say(f"/facts drop {' '.join(numbers)}")["said"]
    again = session.say("/rewrite")
    assert [c["prompt"] for c in again["candidates"]] == [PROMPT, "three crimson automobiles"]
    assert again["spent"] == {"requests": 2, "input_tokens": 18, "output_tokens": 0, "cost": 0.018}
    session.say("/undo")
    session.say("/facts reset")
    assert "a hat" in session.say("/facts add a hat")["said"] or "hat" in session.state["said"]
    assert "lost object fish, object hat" in session.say("/rewrite")["said"].replace("count 1 of fish, ", "")
    for line, answer in (("/facts drop 99", "not 99"), ("/facts fly", "unknown"), ("/facts add", "names nothing")):
        assert answer in session.say(line)["said"]
    session.close()


def test_unsure_rewrites_are_marked(plan, tmp_path):
    doubtful = PROMPT + " in a garden"

    class Fake:
        name, calls_llm = "fake", True

        def rewrite(self, request):
            return RewriteAnswer([Rewrite("a", doubtful)])

    session = Session(make_plan(rewriter=Fake(), scorer=plan.scorer), tmp_path / "s.sqlite", "u", tmp_path)
    session.say(PROMPT)
    assert session.say("/rewrite")["candidates"][1]["unsure"] == ["added garden"]
    after = session.say("/seed 3")
    assert after["candidates"][1]["unsure"] == ["added garden"]
    view = SessionView()
    view.console.file = out = io.StringIO()
    view.show(after)
    assert "[unsure: added garden]" in out.getvalue()
    session.close()


def test_a_session_is_taken_up_by_another_process(plan, tmp_path, capsys):
    command = [sys.executable, "-m", "promptprobe", "session", "--out", str(tmp_path), "--rewriter", "offline"]
    run = subprocess.run(
        command, input=f"{PROMPT}\n/rewrite\n/pick 1\n", env=ENVIRONMENT, capture_output=True, text=True
    )
    assert run.returncode == 0 and "predicted reward" in run.stdout, run.stderr
    assert names(tmp_path / "sessions.sqlite") == ["default"]
    again = subprocess.run(command, input="/generate\n", env=ENVIRONMENT, capture_output=True, text=True)
    assert "taken up" in again.stdout and list(tmp_path.glob("image-1-*.png")), again.stdout
    with pytest.raises(SystemExit):
        cli.main(["session", "--out", str(tmp_path), "--list"])
    assert capsys.readouterr().out.split() == ["default"]


def test_bad_names_and_stores_are_refused(plan, tmp_path):
    with pytest.raises(InputError, match="session name is"):
        Session(plan, tmp_path / "s.sqlite", "../x", tmp_path)
    (tmp_path / "broken.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(InputError, match="is no session store"):
        Session(plan, tmp_path / "broken.sqlite", "x", tmp_path)
    with pytest.raises(InputError, match="is no session store"):
        Session(plan, tmp_path, "x", tmp_path)


def test_bars_lie_under_their_words():
    words = [
        {"start": 2, "end": 5, "strength": 0.5, "diffuse": True},
        {"start": 6, "end": 9, "strength": 0.1, "diffuse": False},
    ]
    (text, bars), *rest = bars_below("a red cat sits", words, 10)
    assert text.plain == "a red cat " and bars.plain.startswith("  ███ ▂▂▂") and len(rest) == 1
