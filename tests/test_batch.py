"""The batch: prompt files, resuming after a kill, faults of the LLM, budgets, the grid, Ray."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image
from promptprobe.agents import batch
from promptprobe.agents.batch_folder import BatchFolder, batch_settings, item_key
from promptprobe.agents.estimate import estimate
from promptprobe.agents.optimize import optimize
from promptprobe.agents.plan import make_plan
from promptprobe.agents.results import read_results
from promptprobe.agents.rewriter import ChatRewriter, Pacer
from promptprobe.agents.rewriters import CachedRewriter
from promptprobe.agents.rewrites import Rewrite, RewriteAnswer

from promptprobe.errors import InputError
from promptprobe.prompt_files import read_prompts
from promptprobe.reports import runs_report

PROMPTS = [
    f"{n} {colour} {thing}"
    for n in ("two", "three")
    for colour in ("crimson", "navy")
    for thing in ("automobiles", "felines")
]
DATA = Path(__file__).parent / "data"
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI", "DASHSCOPE"))} | {
    "OMP_NUM_THREADS": "1"
}


@pytest.fixture(scope="module")
def plan():
    return make_plan(rewriter="offline", rounds=1, candidates=2)


@pytest.fixture(scope="module")
def whole(plan, tmp_path_factory):
    """The folder of a batch that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    summary = batch.run_batch(plan, PROMPTS, out)
    assert summary["finished"] == len(PROMPTS) and summary["left"] == summary["failed"] == 0
    return out


def lines_of(out):
    return [json.loads(x) for x in (out / "results.jsonl").read_text("utf-8").splitlines()]


def test_the_seconds_of_prompts_made_side_by_side_add_up_to_what_the_batch_took(plan, whole, tmp_path):
    def side_by_side(plan, prompts, budget, llm_calls):
        time.sleep(0.1)
        for line in lines_of(whole)[:2]:
            line["seconds"] = {"loop": 99}
            yield batch.Result(line["prompt"], line, (whole / line["image"]).read_bytes())

    began = time.monotonic()
    batch.run_batch(plan, PROMPTS, tmp_path / "out", engine=side_by_side)
    took = time.monotonic() - began
    facts = dict(runs_report(list(read_results(tmp_path / "out"))).facts)
    assert 0.1 <= float(facts["seconds"]) <= took + 0.1


@pytest.mark.numbers
def test_a_batch_gives_what_single_runs_give(plan, whole):
    lines = {line["prompt"]: line for line in lines_of(whole)}
    for prompt in PROMPTS[:3]:
        single = optimize(prompt, plan=plan)
        line = lines[prompt]
        assert line["best_prompt"] == single.best_prompt and line["seed"] == single.seed
        assert line["predicted_reward"] == pytest.approx(single.predicted_reward, rel=1e-3, abs=1e-4)
        # The reward reads an image of whole grey levels, of which other batch sizes round some the other way.
        assert line["reward"] == pytest.approx(single.reward, rel=0.02, abs=0.02)
        with Image.open(whole / line["image"]) as image:
            assert image.size == (256, 256) and json.loads(image.text["promptprobe"])["prompt"] == prompt
            assert image.text["parameters"].startswith(line["best_prompt"] + "\nSteps: 25, Sampler: FlowMatchEuler")
    with (whole / "results.csv").open(encoding="utf-8-sig") as file:
        assert [row["prompt"] for row in csv.DictReader(file)] == PROMPTS
    with Image.open(whole / "grid.png") as grid:
        assert grid.width > 900


def test_only_what_is_missing_or_failed_is_done_again(plan, tmp_path):
    batch.run_batch(plan, PROMPTS[:4], tmp_path)
    results = tmp_path / "results.jsonl"
    whole = lines_of(tmp_path)
    failed = {"key": whole[1]["key"], "prompt": whole[1]["prompt"], "error": "out of memory"}
    texts = [json.dumps(x) for x in (whole[0], failed, whole[2])]
    (tmp_path / whole[2]["image"]).unlink()  # its image is gone
    results.write_text("\n".join(texts) + "\n" + json.dumps(whole[3])[:200])  # torn by a crash
    summary = batch.run_batch(plan, PROMPTS[:4], tmp_path)
    again = lines_of(tmp_path)
    assert summary["before"] == 1 and len(again) == 4 and len({x["key"] for x in again}) == 4
    assert {x["prompt"]: x["best_prompt"] for x in again} == {x["prompt"]: x["best_prompt"] for x in whole}


def test_a_folder_of_other_settings_or_at_work_is_refused(plan, tmp_path):
    settings = batch_settings(plan)
    first = BatchFolder(tmp_path, settings)
    with pytest.raises(InputError, match="another batch is at work"):
        BatchFolder(tmp_path, settings)
    first.close()
    with pytest.raises(InputError, match="made with rounds 1, now it is 2"):
        BatchFolder(tmp_path, settings | {"rounds": 2})
    BatchFolder(tmp_path, settings).close()


def test_a_batch_survives_kill_9(plan, whole, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS))
    out = tmp_path / "killed"
    command = [
        sys.executable, "-m", "promptprobe", "batch", str(prompts), "--rewriter", "offline", "--rounds", "1", "--candidates",
        "2", "--batch-size", "2", "--out", str(out),
    ]  # fmt: skip
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not list(out.glob("images/*.png")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.3 * random.random())  # any moment of writing, probing or rewriting
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it was at work
    # Finished in this process, which saves the start of another; its settings are those of the command.
    batch.run_batch(plan, PROMPTS, out)
    killed = lines_of(out)
    assert sorted(x["prompt"] for x in killed) == sorted(PROMPTS)
    assert {x["prompt"]: x["best_prompt"] for x in killed} == {x["prompt"]: x["best_prompt"] for x in lines_of(whole)}


FAULTS = {
    "429": (429, "{}", {"retry-after": "0"}), "500": (500, "{}", {}), "dropped": ("drop", "", {}),
    "not JSON": "I would rather talk about the weather", "cut off": '{"rewrites": [{"strategy": "plain", "prompt": "two r',
    "empty": "", "echo": json.dumps({"rewrites": [{"strategy": "same", "prompt": PROMPTS[0]}]}),
    "flood": json.dumps({"rewrites": [{"strategy": "x", "prompt": "red car " * 10_000}] * 50}),
    "401": (401, "{}", {}),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_every_prompt_ends_with_a_result_whatever_the_llm_does(fault, llm, plan, tmp_path):
    llm.script = [FAULTS[fault]]
    chat = ChatRewriter(model="m", base_url=llm.url, api_key="sk-secret", retries=1, backoff=0.01, timeout=5)
    own = make_plan(rewriter=chat, scorer=plan.scorer, tau=99, rounds=1)
    summary = batch.run_batch(own, PROMPTS[:2], tmp_path)
    assert summary["finished"] == 2
    assert fault in ("echo", "flood") or not list((tmp_path / "llm-answers").glob("*"))
    for line in lines_of(tmp_path):
        assert line["best_prompt"] == line["prompt"] and line["notes"]
        assert "sk-secret" not in json.dumps(line)


def test_a_stalling_llm_is_left_behind(llm, plan, tmp_path):
    chat = ChatRewriter(model="m", base_url="http://127.0.0.1:9/v1", api_key="k", retries=0, timeout=0.2)
    own = make_plan(rewriter=chat, scorer=plan.scorer, tau=99, rounds=1)
    batch.run_batch(own, PROMPTS[:1], tmp_path)
    assert "gave up" in lines_of(tmp_path)[0]["notes"][0]


def test_answers_are_asked_for_once_and_errors_never_kept(tmp_path):
    class Counting:
        name, calls_llm, count = "counting", True, 0

        def rewrite(self, request):
            self.count += 1
            return RewriteAnswer([Rewrite("s", "a red car")], requests=1, notes=["cut off"] if self.count == 1 else [])

    from promptprobe.agents.rewrites import RewriteRequest

    request = RewriteRequest("a car", 0.1, 0.5, [], [], 2, 77)
    inner = Counting()
    cached = CachedRewriter(inner, tmp_path)
    first, second, third = (cached.rewrite(request) for _ in range(3))
    assert inner.count == 2 and first.notes and second.requests == 1 and third.requests == 0
    assert third.rewrites == second.rewrites


def test_all_wait_when_the_endpoint_says_so():
    now = [0.0]
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    pacer = Pacer(sleep, lambda: now[0])
    pacer.wait()
    assert slept == []
    pacer.hold(3)
    pacer.hold(1)
    pacer.wait()
    assert slept == [3]


def test_a_budget_stops_cleanly_and_the_rest_is_done_later(plan, tmp_path):
    few = PROMPTS[:3]
    stopped = batch.run_batch(plan, few, tmp_path, budget=batch.Budget(max_minutes=0))
    assert stopped["left"] == len(few) and "time budget" in stopped["stopped"]
    done = batch.run_batch(plan, few, tmp_path)
    assert done["left"] == 0 and len(lines_of(tmp_path)) == len(few)


def test_ids_columns_and_repeats_travel(plan, tmp_path):
    file = tmp_path / "prompts.csv"
    file.write_text("id,prompt,category,seed\nA,two red cars,plain,5\nB,a fish,,6\nC,two red cars,again,7\n")
    rows = read_prompts(file).rows
    own = dataclasses.replace(plan, rounds=0)
    out = tmp_path / "out"
    summary = batch.run_batch(own, [r.prompt for r in rows], out, rows=rows)
    assert summary["finished"] == 2
    first, fish = sorted(lines_of(out), key=lambda line: line["row"]["id"])
    assert first["row"] == {
        "id": "A",
        "line": 2,
        "columns": {"id": "A", "category": "plain", "seed": "5"},
        "settings": {},
    }
    assert [r["id"] for r in first["repeated_by"]] == ["C"] and fish["repeated_by"] == []
    with (out / "results.csv").open(encoding="utf-8-sig") as text:
        table = list(csv.DictReader(text))
    assert [(r["id"], r["line"], r["repeats"], r["category"], r["file_seed"]) for r in table] == [
        ("A", "2", "", "plain", "5"), ("B", "3", "", "", "6"), ("C", "4", "A", "again", "7"),
    ]  # fmt: skip
    assert table[0]["image"] == table[2]["image"] != table[1]["image"]
    # The file was edited since: what is finished is linked anew, and not made again.
    file.write_text("id,prompt\nZ,two red cars\n")
    calls = plan.scorer.denoiser_calls
    batch.run_batch(own, ["two red cars"], out, rows=read_prompts(file).rows)
    assert plan.scorer.denoiser_calls == calls
    assert {line["row"]["id"]: line["repeated_by"] for line in lines_of(out)} == {"Z": [], "B": []}


def test_prompts_without_an_llm_answer_are_counted_and_done_again(llm, plan, tmp_path):
    llm.script = [(500, "{}", {}), json.dumps({"rewrites": [{"strategy": "s", "prompt": "two red cars"}]})]
    chat = ChatRewriter(model="m", base_url=llm.url, api_key="k", retries=0)
    own = make_plan(rewriter=chat, scorer=plan.scorer, tau=99, rounds=1, guard="code")
    first = batch.run_batch(own, [PROMPTS[0]], tmp_path)
    assert (first["finished"], first["without an LLM answer"]) == (1, 1)
    second = batch.run_batch(own, [PROMPTS[0]], tmp_path)
    assert (second["before"], second["finished"], second["without an LLM answer"]) == (0, 1, 0)
    (line,) = lines_of(tmp_path)
    assert line["candidates"][1]["prompt"] == "two red cars" and line["llm"]["unanswered"] == 0
    assert batch.run_batch(own, [PROMPTS[0]], tmp_path)["before"] == 1 and len(llm.requests) == 2


class SlowServer:
    """A chat server with one slot, so many seconds for an answer; `abandoned` counts clients that left."""

    def __init__(self, seconds, answer):
        slot, outer = threading.Lock(), self
        self.abandoned = self.answered = 0

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                with slot:
                    time.sleep(seconds)
                    message = {"choices": [{"finish_reason": "stop", "message": {"content": answer}}]}
                    try:
                        self.connection.settimeout(0)
                        if self.connection.recv(1, socket.MSG_PEEK) == b"":
                            outer.abandoned += 1
                            return
                    except BlockingIOError:
                        pass
                    self.connection.settimeout(None)
                    data = json.dumps(message).encode()
                    self.send_response(200)
                    self.send_header("content-length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                    outer.answered += 1

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def slow():
    server = SlowServer(0.3, json.dumps({"rewrites": [{"strategy": "s", "prompt": "red cars"}]}))
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_a_slow_server_of_one_slot_abandons_nobody(slow, plan, tmp_path):
    chat = ChatRewriter(model="m", base_url=slow.url, retries=0, timeout=2)
    ten = make_plan(rewriter=chat, scorer=plan.scorer, tau=99, rounds=1, guard="code")
    told = []
    engine = partial(batch.run_jobs, on_wait=told.append)
    prompts = [f"{p} on a {c} background" for p in PROMPTS[:5] for c in ("white", "black")]
    summary = batch.run_batch(ten, prompts, tmp_path, engine=engine)
    assert (summary["finished"], summary["without an LLM answer"], summary["LLM requests"]) == (10, 0, 10)
    assert (slow.abandoned, slow.answered) == (0, 10)
    assert told and told[-1].seconds >= 1 and "answers of m at 127.0.0.1" in told[-1].what


def test_max_seconds_ends_while_the_llm_is_slow(slow, plan):
    chat = ChatRewriter(model="m", base_url=slow.url)
    began = time.monotonic()
    record = optimize(PROMPTS[0], rewriter=chat, scorer=plan.scorer, tau=99, rounds=9, max_seconds=0.8)
    assert time.monotonic() - began < 0.8 + 3 and record.stop_reason in (
        "time used up",
        "two rounds without a better prompt",
    )


def test_in_a_batch_max_seconds_also_counts_the_time_in_the_queue(plan, tmp_path):
    left = []

    class Sleepy:
        name, calls_llm = "sleepy", True

        def rewrite(self, request, on_wait=None):
            left.append(request.deadline)
            time.sleep(0.2)
            return RewriteAnswer([], requests=1)

    three = make_plan(rewriter=Sleepy(), scorer=plan.scorer, tau=99, rounds=1, guard="code", max_seconds=99)
    batch.run_batch(three, PROMPTS[:3], tmp_path, llm_calls=1)
    assert len(left) == 3 and left[0] - left[1] >= 0.2 and left[1] - left[2] >= 0.2


def test_a_failing_prompt_does_not_stop_the_others(plan, tmp_path):
    def reward(images, prompts):
        return [float("nan") if "navy" in p else 1.0 for p in prompts]

    own = make_plan(rewriter="offline", scorer=plan.scorer, reward=reward, rounds=0)
    summary = batch.run_batch(own, PROMPTS[:4], tmp_path)
    lines = lines_of(tmp_path)
    assert summary["failed"] == 2 and len(lines) == 4
    assert all(("error" in line) == ("navy" in line["prompt"]) for line in lines)


def test_spreadsheet_formulas_are_defused(plan, tmp_path):
    batch.run_batch(plan, ["=two red cars"], tmp_path)
    with (tmp_path / "results.csv").open(encoding="utf-8-sig") as file:
        (row,) = csv.DictReader(file)
    assert row["prompt"] == "'=two red cars" and row["error"] == "" and float(row["predicted_reward"])


def test_a_folder_of_an_earlier_version_goes_on(plan, tmp_path):
    before = DATA / "batch-before"
    settings = json.loads((before / "settings.json").read_text())
    lines = lines_of(before)
    assert all(item_key(line["prompt"], settings) == line["key"] for line in lines)
    with pytest.raises(InputError, match="made with rounds 1, now it is 4; with steps 25, now it is 9"):
        BatchFolder(_copy(before, tmp_path / "refused"), settings | {"rounds": 4, "steps": 9})
    with pytest.raises(InputError, match="with --model icons-64"):
        BatchFolder(_copy(before, tmp_path / "newer"), batch_settings(plan))
    plan = make_plan(model="icons-64", rewriter="offline", rounds=1, candidates=2, tau="q0.8")
    # The shipped probe may have changed since; everything else is as it was.
    now = settings | {"probe": batch_settings(plan)["probe"]}
    assert batch_settings(plan) == now
    out = _copy(before, tmp_path / "goes-on")
    (out / "settings.json").write_text(json.dumps(now))
    renamed = [json.dumps(line | {"key": item_key(line["prompt"], now)}) + "\n" for line in lines]
    (out / "results.jsonl").write_text("".join(renamed))
    calls = plan.scorer.denoiser_calls
    summary = batch.run_batch(plan, [line["prompt"] for line in lines], out)
    assert summary["before"] == summary["finished"] == 2 and plan.scorer.denoiser_calls == calls
    assert (out / "results.jsonl").read_text() == "".join(renamed)
    assert batch.run_batch(plan, [*(line["prompt"] for line in lines), PROMPTS[-1]], out)["finished"] == 3


def _copy(folder, target):
    return Path(shutil.copytree(folder, target))


def test_an_estimate_has_bounds(plan):
    expected = estimate(plan, 10)
    low, high = expected["denoiser calls"]
    assert low == 10 * (5 + 20) and high == 10 * (3 * 5 + 20)
    assert 0 < expected["seconds"][0] < expected["seconds"][1]
    asked = dataclasses.replace(plan, rewriter=ChatRewriter(model="m", base_url="http://127.0.0.1:9/v1"))
    assert estimate(asked, 10)["LLM requests"] == [0, 10]
    assert estimate(dataclasses.replace(asked, guard="llm"), 10)["LLM requests"] == [0, 20]


def test_steps_of_workers_are_counted_together_also_when_one_is_started_anew():
    from promptprobe.agents.ray_batch import _Steps

    told: list[int] = []
    steps = _Steps(told.append)
    for worker, made in (("a", 3), ("b", 2), ("a", 5), ("a", 1), ("b", 2)):  # a died after 5
        steps.of(worker, made)
    assert told == list(range(1, 9))


@pytest.mark.slow
def test_ray_gives_the_same_although_a_worker_dies(plan, tmp_path):
    ray = pytest.importorskip("ray")
    from promptprobe.agents.ray_batch import ray_engine

    options = {"rewriter": "offline", "rounds": 1, "candidates": 2}
    killed = []

    def progress(done, total, line):
        if line is not None and not killed:
            workers = [
                int(p.parent.name)
                for p in Path("/proc").glob("[0-9]*/cmdline")
                if p.exists() and p.read_bytes().startswith(b"ray::_Worker")
            ]
            os.kill(workers[0], signal.SIGKILL)
            killed.append(workers[0])

    many = [f"{p} on a {c} background" for p in PROMPTS for c in ("white", "black", "yellow")]
    steps: list[int] = []
    batch.run_batch(
        plan, many, tmp_path / "ray", engine=ray_engine(options, 2, None, steps.append), on_progress=progress
    )
    ray.shutdown()
    assert len(steps) >= 25 and steps == list(range(1, len(steps) + 1))
    batch.run_batch(plan, many, tmp_path / "local")
    assert killed
    found, expected = ({x["prompt"]: x["best_prompt"] for x in lines_of(tmp_path / n)} for n in ("ray", "local"))
    assert found == expected and len(lines_of(tmp_path / "ray")) == len(many)


@pytest.mark.slow
def test_on_ray_the_waiting_for_an_llm_is_told(plan, tmp_path):
    ray = pytest.importorskip("ray")
    from promptprobe.agents.ray_batch import ray_engine

    server = SlowServer(4, json.dumps({"rewrites": [{"strategy": "s", "prompt": "red cars"}]}))
    options = {"rewriter": "llm", "llm_base_url": server.url, "llm_model": "m", "rounds": 1, "tau": 99, "guard": "code"}
    asking = make_plan(**options, scorer=plan.scorer)
    told = []
    summary = batch.run_batch(asking, PROMPTS[:2], tmp_path, engine=ray_engine(options, 1, told.append))
    ray.shutdown()
    server.http.shutdown()
    server.http.server_close()
    assert (summary["finished"], server.abandoned) == (2, 0)
    assert told and told[-1].seconds >= 1 and "m at 127.0.0.1" in told[-1].what
    assert max(t.requests for t in told) == 1  # the second answer ends the wait
