"""The page: what it serves and whom it refuses, sessions shared with the terminal, and a person's way through a real browser."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from promptprobe.agents import BusyError, Service
from promptprobe.agents.gate import Refused, check_request
from promptprobe.agents.page import Page
from promptprobe.agents.page.live import KEPT, Live
from promptprobe.agents.page.pictures import replay_of
from promptprobe.agents.page.results import read_results
from promptprobe.agents.plan import make_plan
from promptprobe.agents.server import make_app
from promptprobe.agents.session import Session

from promptprobe.errors import InputError
from promptprobe.options import PlanOptions, names_of

PROMPT = "a trio of cobalt felines on a cream backdrop"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def plan():
    return make_plan(model="icons-64", rewriter="offline", candidates=2)


@pytest.fixture
def page(plan, tmp_path):
    return Page(Service(plan), tmp_path / "runs")


def done(board, seconds=60):
    until = time.monotonic() + seconds
    while board.doing:
        assert time.monotonic() < until
        time.sleep(0.02)
    return board.view()


def said(board, line):
    board.say(line)
    return done(board)


# --- without a browser -------------------------------------------------------------------------------------------------


def test_the_cells_of_a_session_are_finished_from_where_they_were_paused_and_shared_with_the_terminal(page, plan):
    board = page.board("shared")
    said(board, PROMPT)
    said(board, "/seeds 2")
    rewritten = said(board, "/rewrite")
    assert [list(r["cells"]) for r in rewritten["rows"]] == [["0", "1"]] * 3
    cells = {f"{r['id']}@{s}": c for r in rewritten["rows"] for s, c in r["cells"].items()}
    assert all(c["error"] > 0 and c["picture"] and c["words"] for c in cells.values())
    lost = next(key for key in ("0@0", "0@1") if "chance" in cells[key]["why"])  # the hopeless say why
    steps: list[int] = []
    board.session.desk.on_step = steps.append
    finished = said(board, f"/finish {lost} 1@1")["finished"]
    first = min(cells[lost]["step"], cells["1@1"]["step"]) + 1
    assert min(steps) == first and max(steps) == plan.scorer.steps and len(finished) == 2  # no step is made again
    assert board.record(1)[1]["seed"] == 1 and board.record(1)[1]["prompt"] == PROMPT
    further = said(board, f"/further {lost}")["rows"][0]["cells"][lost[-1]]
    assert further["step"] > cells[lost]["step"] and "at step" not in further["why"]
    # A terminal goes on, and the page hears of it; then the page does.
    listened = board.live.listeners
    terminal = Session(plan, page.store, "shared", page.out)
    assert terminal.state["seeds"] == [0, 1] and len(terminal.state["finished"]) == 2
    assert not board.changed_elsewhere()
    terminal.say("/reject 2")
    assert board.changed_elsewhere() and board.view()["rejected"] == ["2"] and board.live.listeners == listened
    assert said(board, "/undo")["rejected"] == [] and terminal.state["rejected"] == []
    terminal.close()
    # Another start of the server shows the same without a step.
    again = Page(Service(plan), page.out).board("shared")
    before = plan.scorer.denoiser_calls
    kept, now = again.view(), board.view()
    held = [[c.pop("held") for r in view["rows"] for c in r["cells"].values()] for view in (kept, now)]
    assert kept["rows"] == now["rows"] and plan.scorer.denoiser_calls == before
    assert set(held[0]) == {0} and min(held[1]) > 0  # what was paused went with the server, and the page can say so
    assert shlex.split(finished[0]["replay"]) == ["promptprobe", "replay", str(Path(finished[0]["path"]).resolve())]
    Path(finished[0]["path"]).unlink()
    assert [f["there"] for f in again.view()["finished"]] == [False, True]
    with pytest.raises(InputError, match="can't read image"):
        again.record(0)


def test_a_picture_is_made_again_by_the_model_that_the_page_has_without_trust_in_the_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    picture, trusted = str(tmp_path / "a 'b' $c.png"), ["--trust-record"]
    for model, loading, own, more in (
        ("my/model", {"dtype": "bfloat16"}, "my/model", ["--model", "my/model"]),
        ("own", {}, "own", ["--model", str(tmp_path / "own")]),  # to be pasted in whatever folder
        ("my/model", {"lora": ["style"]}, "my/model", trusted),
        ("my/model", {}, "other/model", trusted),
        ("icons", {"lora": ["style"]}, "icons", trusted),
        ("icons", {}, None, []),
    ):
        assert shlex.split(replay_of("a 'b' $c.png", model, loading, own)) == ["promptprobe", "replay", picture, *more]


def test_one_thing_at_a_time_and_it_can_be_stopped(page):
    board = page.board("default")
    looked = threading.Event()
    board.session.desk.on_look = lambda scored: looked.set()
    step = board.session.desk.on_step
    board.session.desk.on_step = lambda k: (time.sleep(0.05), step(k))
    board.say(PROMPT)
    with pytest.raises(BusyError, match="busy with"):
        board.say("/rewrite")
    board.stop()
    assert done(board)["error"] == "stopped" and not board.view()["rows"] and not looked.is_set()
    board.session.desk.on_step = step
    assert said(board, "/finish 7")["error"].startswith("can't do that")
    assert len(said(board, "two red cars")["rows"]) == 1


def test_who_was_away_reads_on_and_a_slow_one_holds_up_nobody():
    async def read(live, last, count):
        stream = live.listen(last)
        texts = [await asyncio.wait_for(anext(stream), 5) for _ in range(count)]
        await stream.aclose()
        return texts

    async def talk():
        live = Live()
        for n in range(3):
            live.tell("step", step=n)
        assert '"step": 2' in (await read(live, f"{live.start}-2", 2))[1]
        assert (
            '"anew"' in (await read(live, "another-2", 2))[1]
            and '"anew"' in (await read(live, f"{live.start}-99", 2))[1]
        )
        slow = live.listen(f"{live.start}-3")
        await anext(slow)
        began = time.monotonic()
        for n in range(10 * KEPT):
            live.tell("step", step=n)
        assert time.monotonic() - began < 2
        assert '"anew"' in await anext(slow)  # it missed some, and is told
        await slow.aclose()
        assert live.listeners == 0

    asyncio.run(talk())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:8721"}, None),
        ({"host": "127.0.0.1:8721", "origin": "http://127.0.0.1:8721", "sec-fetch-site": "same-origin"}, None),
        ({"host": "[::1]:8721"}, None),
        ({"host": "evil.example"}, 421),
        ({"host": "localhost.evil.example:8721"}, 421),
        ({"host": "127.0.0.1@evil.example"}, 421),
        ({}, 421),
        ({"host": "localhost:8721", "origin": "http://evil.example"}, 403),
        ({"host": "localhost:8721", "origin": "http://localhost:9999"}, 403),
        ({"host": "localhost:8721", "origin": "null"}, 403),
        ({"host": "localhost:8721", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
    ],
)
def test_foreign_hosts_and_origins_are_refused(headers, status):
    try:
        check_request("GET", headers)
        refused = None
    except Refused as error:
        refused = error.status
    assert refused == status


def made_results(folder: Path, count: int) -> Path:
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (64, 64), "teal").save(folder / "images" / "0.png")
    lines = [
        {"prompt": f"prompt {n} <b>", "best_prompt": f"prompt {n}", "unchanged": n % 2 == 0, "reward": n / 100, "predicted_reward": 0.5,
         "seed": n, "image": "images/0.png" if n % 50 else "images/gone.png", "denoiser_calls": {"used": 30}}
        for n in range(count)
    ]  # fmt: skip
    lines += [{"prompt": "outside", "image": "../../secret.png"}, {"prompt": "failed", "error": "out of memory"}]
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"prompt": "cut')
    (folder.parent.parent / "secret.png").write_bytes((folder / "images" / "0.png").read_bytes())
    return folder


def test_what_is_asked_of_the_server(plan, tmp_path):
    pytest.importorskip("httpx")
    from starlette.testclient import TestClient

    folder = made_results(tmp_path / "x" / "results", 300)
    assert len(read_results(folder)) == 302
    with pytest.raises(InputError, match=r"no results\.jsonl"):
        Page(Service(plan), tmp_path, folders=[tmp_path])
    app = make_app(Service(plan), Page(Service(plan), tmp_path / "runs", folders=[folder]))
    client = TestClient(app, base_url="http://localhost:8721")
    whole = client.get("/")
    assert whole.status_code == 200 and "script-src 'self'" in whole.headers["content-security-policy"]
    assert "<script>" not in whole.text and "style=" not in whole.text and "://" not in whole.text
    for path, status in {
        "/page/static/page.js": 200, "/page/static/..%2fboard.py": 404, "/page/cell/%2e%2e.json": 400, "/page/results/1": 400,
        "/page/results/0/image?image=images/0.png&side=256": 200, "/page/results/0/image?image=images/gone.png": 404,
        "/page/results/0/image?image=../../secret.png": 404, "/page/results/0/image?image=images/0.png&side=9": 400,
        "/page/image/0/file": 400, "/page/state?session=..%2fx": 400, "/health": 200,
    }.items():  # fmt: skip
        assert client.get(path).status_code == status, path
    rows = client.get("/page/results/0").json()["rows"]
    assert [r["there"] for r in rows[-3:]] == [True, False, False] and sum(r["there"] for r in rows) == 294
    for body, told in {
        '{"line": " "}': "the line is empty; give", '{"line": 3}': "is empty", '{"line": "\\ud800 x"}': "half of a surrogate pair", "[]": "no JSON object", "{": "no JSON",
        json.dumps({"line": "a" * 10_200}): "10200 characters", '{"line": "x", "session": "a/b"}': "session name",
    }.items():  # fmt: skip
        answer = client.post("/page/say", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400 and told in answer.json()["error"] and "\n" not in answer.json()["error"], body
    assert client.post("/page/say", content='{"line": "x"}').status_code == 415  # what a form of another site can send
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421
    shown = {r["flag"] for g in client.get("/page/settings").json() for r in g["rows"]}
    assert len(shown) == len(names_of(PlanOptions))


def test_results_that_others_wrote_are_shown_as_far_as_they_can_be(plan, tmp_path):
    pytest.importorskip("httpx")
    from starlette.testclient import TestClient

    folder = made_results(tmp_path / "x" / "results", 1)
    odd = (
        '{"prompt": "half \\ud800", "reward": NaN, "predicted_reward": -Infinity, "seed": true}',
        '{"prompt": ["a"], "best_prompt": {"b": 1}, "reward": "high", "image": 5, "settings": 3, "loading": [1], "unchanged": 1}',
        '{"prompt": "b", "image": "images/0.png", "settings": {"model": ["x"]}, "denoiser_calls": {"used": "y"}, "reward": 1e999}',
    )
    (folder / "results.jsonl").write_text("\n".join(odd))
    app = make_app(Service(plan), Page(Service(plan), tmp_path / "runs", folders=[folder]))
    answer = TestClient(app, base_url="http://localhost:8721").get("/page/results/0")
    rows = json.loads(answer.content.decode("ascii"), parse_constant=pytest.fail)["rows"]
    assert [r["prompt"] for r in rows] == ["half \ud800", None, "b"] and [r["there"] for r in rows] == [
        False,
        False,
        True,
    ]
    numbers = ("reward", "predicted_reward", "seed", "calls", "best_prompt", "unchanged")
    assert all(r[name] is None for r in rows for name in numbers)


# --- in a browser ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(plan, out, port, folders=()):
    import uvicorn

    service = Service(plan)
    page = Page(service, out, folders=folders)
    server = uvicorn.Server(uvicorn.Config(make_app(service, page), host="127.0.0.1", port=port, log_level="warning"))
    page.ending = lambda: server.should_exit
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: pip install 'promptprobe[browser]'")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def serious(page) -> list[str]:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-core is missing: promptprobe[browser]"
    )
    found = axe.Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:150]}" for v in found if v["impact"] in ("serious", "critical")]


def idle(tab):
    tab.wait_for_timeout(250)
    tab.wait_for_selector("#progress", state="hidden", timeout=60_000)


def test_from_a_prompt_to_finished_pictures_in_a_browser(browser, plan, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = made_results(tmp_path / "x" / "results", 300)
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab, faults, requests = context.new_page(), [], []
    context.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
    context.on("weberror", lambda e: faults.append(str(e.error)))
    context.on("request", lambda r: requests.append(r.url))
    with served(plan, tmp_path / "runs", port, [folder]) as address:
        tab.goto(address)
        tab.wait_for_selector("#empty:not([hidden])")
        tab.keyboard.press("/")
        tab.keyboard.type("<img src=x onerror=alert(1)> \x07two red cars")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("button.cell")
        assert "<img src=x onerror=alert(1)> two red cars" in tab.inner_text(".wording")
        idle(tab)
        tab.fill("#prompt", PROMPT)
        tab.keyboard.press("Enter")
        idle(tab)
        tab.select_option("#seeds", "2")
        idle(tab)
        tab.keyboard.press("r")
        tab.wait_for_selector("[data-key='2@1']", timeout=60_000)
        idle(tab)
        assert "beige" in tab.inner_text(".row:nth-child(2) .wording")
        assert tab.query_selector("button.cell.lost .why").inner_text()
        tab.hover(".row:nth-child(2) .word >> nth=2")
        tab.wait_for_selector(".row:nth-child(2) canvas.map:visible")
        assert "focus" in tab.inner_text(".row:nth-child(2) .about")
        # With keys alone: two cells are picked, compared, and finished; another tab sees it and outlives the first.
        tab.focus("[data-key='1@0']")
        tab.keyboard.press("Space")
        tab.keyboard.press("ArrowUp")
        assert tab.evaluate("document.activeElement.dataset.key") == "0@0"
        tab.keyboard.press("Enter")
        tab.keyboard.press("c")
        tab.wait_for_selector("#sheet[open] .slider")
        tab.keyboard.press("ArrowRight")
        assert tab.evaluate("document.querySelector('.slider').style.getPropertyValue('--at')") == "51%"
        assert serious(tab) == []
        tab.keyboard.press("Escape")
        tab.keyboard.press("f")
        other = context.new_page()
        other.goto(address)
        tab.close()
        other.wait_for_selector(".badge.done >> nth=1", timeout=60_000)
        idle(other)
        assert len(other.query_selector_all("#finished li")) == 2 and serious(other) == []
        other.click("#finished li:first-child button")
        other.wait_for_selector("#sheet[open] .slider")
        other.keyboard.press("Escape")
        other.keyboard.press("Escape")
        other.focus("[data-key='2@1']")
        other.keyboard.press("p")
        other.wait_for_selector("[data-key='2@1'].current")
        other.reload()
        other.wait_for_selector("[data-key='2@1'].current")
        other.click("[data-view=results]")
        other.wait_for_selector("#pictures li")
        other.fill("#search", "prompt 29")
        other.select_option("#sort", "reward")
        assert other.inner_text("#count") == "13 of 302 results"
        assert "prompt 299" in other.inner_text("#pictures li >> nth=0")
        assert serious(other) == []
        other.click("[data-view=session]")
    other.wait_for_selector("body.away", timeout=10_000)
    other.fill("#own", "a long wording")
    other.evaluate("scrollTo(0, 9999)")
    other.click("#add")
    other.wait_for_selector("#alert:not([hidden])")
    other.evaluate("scrollTo(0, 9999)")
    assert other.evaluate("document.getElementById('alert').getBoundingClientRect().top") >= 0  # in sight
    other.fill("#prompt", "another prompt")
    other.press("#prompt", "Enter")
    other.wait_for_timeout(300)
    assert [other.input_value(f) for f in ("#own", "#prompt")] == [
        "a long wording",
        "another prompt",
    ]  # nothing is lost
    faults.clear()  # what the browser says of a server that is gone
    with served(plan, tmp_path / "runs", port) as address:
        other.wait_for_selector("body:not(.away)", timeout=10_000)
        faults.clear()
        other.wait_for_selector("[data-key='2@1'].current")
        other.click("[data-key='2@1']")  # before steps are made again, the page says so
        assert "finishing takes 25 steps, 5 of them again" in other.inner_text("#cost")
        next((tmp_path / "runs").glob("image-*.png")).unlink()
        other.set_viewport_size({"width": 390, "height": 844})
        other.emulate_media(color_scheme="dark")
        other.reload()
        other.wait_for_selector("#finished .gone")
        assert other.evaluate("document.documentElement.scrollWidth") == 390
        ends = "[...document.querySelectorAll('#finished li > *')].map((e) => e.getBoundingClientRect().bottom)"
        below = "document.getElementById('history').getBoundingClientRect().top"
        assert other.evaluate(f"Math.max(...{ends}) <= {below}")
        assert serious(other) == []
        other.click("#other")
        other.fill("#session-name", "zweite-Größe")
        other.keyboard.press("Enter")
        other.wait_for_selector("#empty:not([hidden])")
        assert other.input_value("#sessions") == "zweite-Größe"
        assert all(url.startswith(address) for url in requests)
        context.close()
    assert faults == []
