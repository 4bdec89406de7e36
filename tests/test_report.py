"""Reports: one HTML file that asks for nothing from elsewhere, small, escaped, and honest about what is missing."""

from __future__ import annotations

import html.parser
import os
import random
import subprocess
import sys

import pytest
from PIL import Image

from promptprobe.card import ProbeCard
from promptprobe.errors import InputError
from promptprobe.records import CandidateRecord, RunRecord
from promptprobe.report import render, write_report
from promptprobe.reports import evaluation_report, runs_report, seeds_report, session_report
from promptprobe.selection import SeedRecord, SeedSelection

EVIL = '<script>alert(1)</script><img src=x onerror="a()">\x1b[31m\x00{{ 7 * 7 }}'


def record(prompt="two red cars", words=(), **more):
    own = CandidateRecord(0, 0, "as it is", prompt, [0], [0.1], 0.1, words=list(words), preview=0.0)
    other = CandidateRecord(1, 1, "plain", f"a photo of {prompt}", [0], [0.9], 0.9, unsure=["a colour"], preview=0.8)
    out = CandidateRecord(2, 1, "short", f"cars {prompt}", rejected="lost: two")
    values = dict(
        prompt=prompt, best_prompt=other.prompt, unchanged=False, stop_reason="good enough", tau=0.4, rounds=1,
        predicted_reward=0.9, reward=0.7, reward_label="icons", seed=0, image_file=None, heat_maps=None,
        candidates=[own, other, out], rewriter="offline", llm={"requests": 1, "input_tokens": 10, "output_tokens": 5, "cost": None},
        denoiser_calls={"used": 45, "full": 125}, seconds={"loop": 1.5}, settings={"model": "icons", "steps": 25, "probe_step": 5},
        call={}, loading={}, notes=["a note"], version="0", grade=62, interval=[0.2, 1.4],
    )  # fmt: skip
    return RunRecord(**(values | more))


class Reader(html.parser.HTMLParser):
    """Tags of a page, and every address that it would ask for."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.asked, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.asked += [
            v for k, v in attributes if k in ("src", "href", "srcset", "action") and not v.startswith("data:image/")
        ]
        assert not [k for k, _ in attributes if k.startswith("on")]

    def handle_data(self, data):
        self.text += data


def checked(report):
    text = render(report)
    page = Reader(text)
    assert page.asked == [] and not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "default-src 'none'" in text and "\x1b" not in text and "\x00" not in text
    return page


def evaluation():
    rng = random.Random(0)
    pairs = [(x := rng.random(), x + rng.gauss(0, 0.1)) for _ in range(60)]
    card = ProbeCard("Denoiser", ["a"], 25, [5], {}, "s", None, None, None, ["icons"], residuals={"icons": {"5": [-0.2, 0.0, 0.2]}},
                     figures={"learning curve": [0.1, 0.4, 0.5]})  # fmt: skip
    natural = {"SRCC": {"value": 0.9, "low": 0.8, "high": 0.95}}
    return evaluation_report({"icons": {"natural": natural, "within": None, "coverage": {"80 %": 0.79}}}, card, {"icons": pairs}, 5, 60)  # fmt: skip


def seeds():
    image = Image.new("RGB", (64, 64), "red")
    own = [
        SeedRecord(
            EVIL,
            i,
            {5: 0.1 * i},
            25,
            EVIL,
            0.5 if i == 2 else None,
            interval=[0.1 * i - 0.9, 0.1 * i + 0.9] if i else None,
        )
        for i in range(3)
    ]
    found = SeedSelection(EVIL, "racing", ["probe"], [2], own, own[2:], 35, 75, 1.0, [EVIL], [image])
    return seeds_report(found, settings={"model": EVIL, "lora": (), "revision": None})


def session(folder):
    shown = {"id": 0, "prompt": EVIL, "strategy": EVIL, "unsure": [], "score": 0.5, "cut_tokens": 0, "words": []}
    return session_report({"prompt": EVIL, "current": 0, "seed": 0, "candidates": [shown], "files": [str(folder / "gone.png")],
                           "finished": [{"path": str(folder / "gone.png"), "prompt": "2 red cars", "seed": 7, "predicted": 0.5, "reward": None}]}, "s", {})  # fmt: skip


def test_every_report_is_whole_escaped_and_asks_for_nothing(tmp_path):
    words = [{"start": 0, "end": 8, "word": EVIL[:8], "diffuse": True, "focus": 0.1, "strength": 0.1}]
    one = checked(runs_report([record(EVIL, words, stop_reason=EVIL, notes=[EVIL])]))
    assert "<script>alert(1)" in one.text and "{{ 7 * 7 }}" in one.text  # as text
    assert "45 of 125" in one.text and "lost: two" in one.text and "above 62 of 100" in one.text
    assert {"svg", "circle", "details"} <= set(one.tags) and "80" not in one.asked
    assert "svg" in checked(evaluation()).tags and "Learning curve" in checked(evaluation()).text
    assert "alert(1)" in checked(seeds()).text and "-0.700 to 1.100" in checked(seeds()).text
    assert not {"lora", "revision", "None"} & set(checked(seeds()).text.split())
    assert "0.900 (0.200 to 1.400)" in one.text
    assert "gone.png' is gone" in checked(session(tmp_path)).text
    Image.new("RGB", (8, 8)).save(tmp_path / "gone.png")
    assert "2 red cars; predicted 0.500, reward –, seed 7; gone.png" in checked(session(tmp_path)).text


def test_joined_letters_and_emoji_stay_whole_and_what_turns_the_direction_is_replaced():
    joined = "\U0001f469\u200d\U0001f467 می\u200cخواهم"
    text = render(runs_report([record(f"{joined} \u202e\ud800\x07x\u2066")]))
    assert f"<bdi>{joined} \ufffd\ufffd\ufffdx\ufffd</bdi>" in text


def test_what_is_not_whole_says_so(tmp_path):
    told = checked(
        runs_report([record(reward=None, image_file=str(tmp_path / "x.png"))], unfinished="Interrupted: no picture.")
    )
    assert "Interrupted: no picture." in told.text and "x.png' is gone" in told.text
    assert "nothing is finished yet" in checked(runs_report([], title="Batch", unfinished="3 left")).text
    with pytest.raises(InputError, match=r"must end in \.html"):
        write_report(runs_report([]), tmp_path / "a.pdf")


def test_a_report_of_300_prompts_stays_under_5_megabytes(tmp_path):
    noise = tmp_path / "noise.png"
    Image.frombytes("RGB", (256, 256), os.urandom(3 * 256 * 256)).save(noise)  # nothing is harder to pack
    long = "<&" * 5000
    report = runs_report([record(long, reward=i / 300, image_file=str(noise)) for i in range(300)])
    path = write_report(report, tmp_path / "report.html")
    assert path.stat().st_size < 5_000_000
    page = Reader(path.read_text("utf-8"))
    assert page.tags.count("img") == 300 and "Reliability" in page.text


STOPPED = """
import sys

class Stop:  # a person stops it while it loads
    def find_spec(self, name, *_):
        if name == "promptprobe.agents.optimize":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Stop())
from promptprobe.cli import main
main(["optimize", "two red cars", "--report", sys.argv[1]])
"""


def test_what_was_stopped_before_anything_was_judged_says_that_there_is_no_report(tmp_path):
    old = tmp_path / "old.html"
    old.write_text("of another run")
    run = subprocess.run([sys.executable, "-c", STOPPED, str(old)], capture_output=True, text=True)
    assert run.returncode == 130 and old.read_text() == "of another run"
    told = f"no report was written to {old}: nothing was judged yet\n"
    assert run.stderr == told + "promptprobe: stopped; what was finished is kept\n"
