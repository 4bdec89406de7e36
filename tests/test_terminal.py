"""Pictures in the terminal, grades, and what is said beside them; nothing of it where the terminal can't show it."""

from __future__ import annotations

import io
import os
import re
import threading
import time
from types import SimpleNamespace

import pytest
from PIL import Image
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from promptprobe import terminal_kind, view
from promptprobe.errors import InputError
from promptprobe.grades import grade_in_words, grade_of
from promptprobe.printing import print_lines, print_scores, print_seeds
from promptprobe.selection import SeedRecord, SeedSelection
from promptprobe.sheets import Caption, Tile
from promptprobe.terminal import show_pictures
from promptprobe.view import Counting, LiveView

WORDS = "two extraordinary crimson automobiles beside an umbrella"
TILES = [Tile(Image.new("RGB", (64, 64), colour), (Caption(f"{i}: {WORDS}"), Caption("predicted 0.5"))) for i, colour in enumerate(("red", "blue", "green"))]  # fmt: skip


def shown(width: int, **more) -> tuple[bool, str]:
    file = io.StringIO()
    console = Console(file=file, width=width, legacy_windows=False, _environ={"TERM": "xterm-256color"}, **more)
    return show_pictures(console, TILES), file.getvalue()


@pytest.mark.parametrize("width", [40, 120])
def test_a_run_is_followed_in_a_narrow_terminal_and_no_word_is_cut(width):
    seen = {"prompt": WORDS, "words": [], "strategy": "plain words, digits", "round": 1, "unsure": [], "rejected": ""}
    view = LiveView()
    view.console = Console(file=io.StringIO(), width=width, _environ={})
    view.show("probed", {"best": 0, "candidates": [seen | {"id": i, "score": s} for i, s in enumerate((0.5, None))]})
    with view.console.capture() as captured:
        view.console.print(view._draw())
    lines = captured.get().splitlines()
    words = captured.get().replace("│", " ").split()
    assert all(words.count(w) == 2 for w in WORDS.split()) and len(lines) < 18 and max(map(len, lines)) <= width
    assert ("strategy" in words) == (width > 40)


@pytest.mark.parametrize("width", [40, 120])
def test_pictures_stand_over_their_captions_and_no_word_is_cut(width):
    done, text = shown(width, force_terminal=True, color_system="truecolor")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert done and "▀" in plain and max(map(len, plain.splitlines())) <= width
    words = plain.replace("▀", " ").split()
    assert all(words.count(w) == 3 for w in WORDS.split()) and words.count("predicted") == 3
    assert [w for w in words if w in ("0:", "1:", "2:")] == ["0:", "1:", "2:"]


@pytest.mark.parametrize(
    "more",
    [{"force_terminal": False}, {"force_terminal": True, "color_system": None}, {"force_terminal": True, "no_color": True},
     {"force_terminal": True, "color_system": "standard"}],
)  # fmt: skip
def test_a_pipe_and_a_terminal_without_colour_get_no_pictures(more):
    assert shown(80, **more) == (False, "")


class Judge:
    calibrated = True

    def quantile(self, share, step, steps):
        if step == 1:
            raise InputError("a weighted sum")
        return 2 * share - 1  # predictions from -1 to 1


def test_a_grade_says_of_how_many_of_100_images_a_prediction_is_better():
    judge = Judge()
    assert [grade_of(judge, p, 5, 25) for p in (-9.0, -0.5, 0.01, 9.0)] == [0, 25, 51, 100]
    assert grade_of(judge, 0.0, 1, 25) is None
    judge.calibrated = False
    assert grade_of(judge, 0.0, 5, 25) is None and grade_in_words(None) == "" and "25 of 100" in grade_in_words(25)


def test_the_line_of_a_batch_counts_steps(capsys):
    count = Counting("optimising", None)
    for k in range(1, 6):
        count.step(k)
    count(1, 1)
    assert capsys.readouterr().err == "optimising 1/1, 5 steps\n"


def test_a_bar_does_not_say_of_how_many_before_that_is_known():
    with Progress(MofNCompleteColumn(), console=Console(file=io.StringIO())) as bar:
        count = Counting("optimising", bar)
        assert bar.tasks[0].total is None
        count(1, 2)
        assert bar.tasks[0].total == 2


def test_scores_are_wrapped_between_words_in_a_narrow_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    scored = SimpleNamespace(
        prompt=WORDS, score=0.5, seeds=[0], predicted=[0.5], cut_tokens=0, words=[], token_limit=77
    )
    print_scores([scored], ["a note that is by far too long for one line"], [50])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    told = f"{WORDS} above 50 of 100 images of this model a note that is by far too long for one line".split()
    assert max(map(len, lines)) <= 40 and set(told) <= set(" ".join(lines).split())


@pytest.fixture
def terminal(monkeypatch):
    """Plays a terminal: answers to what it is asked, after some seconds; gives its other end."""
    pytest.importorskip("termios")
    ours, theirs = os.openpty()
    with open(theirs, "r+b", buffering=0) as raw:
        tty = io.TextIOWrapper(raw, write_through=True)
        monkeypatch.setattr("sys.__stdin__", tty)
        monkeypatch.setattr("sys.__stdout__", tty)
        monkeypatch.setattr("os.tcgetpgrp", lambda fd: os.getpgrp())
        monkeypatch.setattr(terminal_kind, "_known", [])
        monkeypatch.setattr(terminal_kind, "PATIENCE", 1.0)

        def answer(text: bytes, after: float = 0.0) -> None:
            def work() -> None:
                heard = b""
                while not heard.endswith(b"\x1b[c"):
                    heard += os.read(ours, 100)
                time.sleep(after)
                os.write(ours, text)

            threading.Thread(target=work, daemon=True).start()

        yield answer, ours
    os.close(ours)


@pytest.mark.parametrize(
    ("answers", "after", "draws"),
    [(b"\x1bP>|XTerm(379)\x1b\\\x1b[?63;1;2;4;6c", 0.0, "_Chosen"), (b"\x1b[?63;4c", 0.3, "_Chosen"),  # a slow line
     (b"\x1bP>|kitty(0.35.2)\x1b\\\x1b[?62;c", 0.0, "TGP"), (b"\x1bP>|ghostty 1.1.3\x1b\\\x1b[6;20;10t\x1b[?62;22c", 0.0, "TGP"),
     (b"\x1bP>|kitty(0.26.5)\x1b\\\x1b[?62;c", 0.0, "halfcell"), (b"\x1b[?1;2c", 0.0, "halfcell"), (b"?", 0.0, "halfcell")],
)  # fmt: skip
def test_a_terminal_is_asked_what_it_understands(terminal, monkeypatch, answers, after, draws):
    answer, _ = terminal
    if answers == b"?":
        monkeypatch.setattr(terminal_kind, "PATIENCE", 0.1)
    answer(answers, after)
    kind = terminal_kind.picture_kind()
    drawn = kind.draw(Image.new("RGB", (64, 64), "red"), width=20)
    assert draws in f"{type(drawn).__module__} {type(drawn).__name__}".replace("tgp", "TGP")
    assert kind.blocks == (draws == "halfcell") and terminal_kind.picture_kind() is kind


def test_what_was_typed_ahead_stays_and_no_terminal_is_asked_for_nothing(terminal, monkeypatch):
    _, ours = terminal
    os.write(ours, b"/preview\n")
    assert terminal_kind.picture_kind().blocks and terminal_kind._known == []
    assert os.read(terminal_kind.sys.__stdin__.fileno(), 100) == b"/preview\n"
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.__stdin__", nothing)
        assert terminal_kind.ask("") == b""


@pytest.mark.parametrize(("kind", "colours"), [("sixel", "standard"), ("tgp", "256")])
def test_pictures_that_need_no_colours_of_the_terminal_are_whole(monkeypatch, kind, colours):
    sent = io.StringIO()
    monkeypatch.setattr("sys.__stdout__", sent)
    with terminal_kind._unasked():
        from textual_image.renderable import SixelImage, TGPImage
    draw = {"sixel": lambda image, width: terminal_kind._Chosen(SixelImage, image, width), "tgp": lambda image, width: TGPImage(image, width, "auto")}  # fmt: skip
    monkeypatch.setattr(terminal_kind, "_known", [terminal_kind.Kind(draw[kind], False)])
    done, text = shown(60, force_terminal=True, color_system=colours)
    assert done
    if kind == "sixel":  # a colour that is defined is chosen before anything is drawn with it
        assert re.findall(r"#(\d+);2;\d+;\d+;\d+#\1", text) and not re.search(r"#\d+;2;\d+;\d+;\d+(?![#\d])", text)
    else:
        assert "\x1b[38;2;" in text and "\x1b_G" in sent.getvalue()


@pytest.mark.parametrize("size", [(64, 64), (1024, 1024), (64, 128)])
def test_pictures_keep_their_proportions_in_letters(size):
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system="truecolor", legacy_windows=False)
    show_pictures(console, [Tile(Image.new("RGB", size))])
    assert file.getvalue().count("\n") == 14 * size[1] // size[0]  # of 28 columns, each half as wide as high


def test_words_and_paths_are_whole_in_a_narrow_terminal():
    file = io.StringIO()
    console = Console(file=file, width=44, force_terminal=True, color_system=None)
    path = "runs/" + "a-long-name" * 6 + ".png"
    print_lines(console, [("note", WORDS + "; " + WORDS), ("image", path)])
    lines = file.getvalue().splitlines()
    assert all(len(line) <= 44 for line in lines[:-1]) and path in lines[-1]
    assert " ".join(" ".join(lines[:-1]).split()) == f"note {WORDS}; {WORDS}"


def test_the_table_of_seeds_shows_the_steps_that_fit(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    own = [SeedRecord("cars", i, {k: 0.1 * i for k in range(5, 25 - 9 * i)}, 25, "worth less than what was taken") for i in range(2)]  # fmt: skip
    print_seeds(SeedSelection("cars", "racing", ["probe"], [1], own, [], 35, 50, 1.0, [], []))
    told = capsys.readouterr().out
    assert "predicted" in told and "0.100" in told and "0.000" in told and "…" not in told
    monkeypatch.setenv("COLUMNS", "60")
    print_seeds(SeedSelection("cars", "racing", ["probe"], [1], own, [], 35, 50, 1.0, [], []))
    assert "step 24" in capsys.readouterr().out


def test_what_draws_says_so_in_a_terminal_and_prints_notes_everywhere(monkeypatch, capsys):
    shown = io.StringIO()
    for terminal in (True, False):
        console = Console(file=shown, force_terminal=terminal, width=60)
        monkeypatch.setattr(view, "Console", lambda console=console, **_: console)
        with view.drawing("a [model]") as tell:
            tell("note", {"text": "float16 was chosen"})
            tell("step", {"step": 3, "steps": 25})
    assert shown.getvalue().count("loading a [model]") == 1
    assert capsys.readouterr().err.count("note: float16 was chosen") + shown.getvalue().count("note: float16") == 2
