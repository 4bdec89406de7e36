"""Pictures in the terminal, grades, and what is said beside them; nothing of it where the terminal can't show it."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image
from rich.console import Console

from promptprobe.errors import InputError
from promptprobe.grades import grade_in_words, grade_of
from promptprobe.sheets import Caption, Tile
from promptprobe.terminal import show_pictures
from promptprobe.view import Counting

WORDS = "two extraordinary crimson automobiles beside an umbrella"
TILES = [Tile(Image.new("RGB", (64, 64), colour), (Caption(f"{i}: {WORDS}"), Caption("predicted 0.5"))) for i, colour in enumerate(("red", "blue", "green"))]  # fmt: skip


def shown(width: int, **more) -> tuple[bool, str]:
    file = io.StringIO()
    console = Console(file=file, width=width, legacy_windows=False, _environ={"TERM": "xterm-256color"}, **more)
    return show_pictures(console, TILES), file.getvalue()


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
