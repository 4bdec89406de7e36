"""Contact sheets: nothing is cut off at an edge, proportions are kept, long wordings are wrapped."""

import numpy as np
import pytest
from PIL import Image

from promptprobe.sheets import GAP, RED, SIDE, Caption, Tile, contact_sheet, fitted

LONG = "a very long wording of many words that goes on and on, with " + "a" * 60 + " and a last word"


def ink(image):
    """Where a picture is not white: left, top, right, bottom."""
    rows, columns = np.nonzero(np.asarray(image.convert("L")) < 255)
    return columns.min(), rows.min(), columns.max(), rows.max()


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("text", ["short", LONG, LONG * 10, "W" * 500, "猫" * 90, "قطة بيضاء " * 9, "बिल्ली" * 40])
def test_nothing_reaches_the_edge_of_a_sheet(count, text):
    tiles = [Tile(Image.new("RGB", (64, 64), "black"), (Caption(text), Caption("predicted 0.50", RED)))] * count
    sheet = contact_sheet(tiles)
    left, top, right, bottom = ink(sheet)
    assert left >= GAP and top >= GAP and right < sheet.width - 1 and bottom < sheet.height - 1
    # Between the first two pictures and their captions nothing is written either.
    if count > 1:
        gap = np.asarray(sheet.convert("L"))[:, GAP + SIDE + 1 : 2 * GAP + SIDE]
        assert (gap == 255).all()


def test_a_caption_of_more_words_takes_more_lines_and_the_last_is_seen():
    picture = Image.new("RGB", (64, 64), "black")
    short = contact_sheet([Tile(picture, (Caption("a red cat"), Caption("0.50", RED)))])
    long = contact_sheet([Tile(picture, (Caption("a red cat on a chair beside a blue dog"), Caption("0.50", RED)))])
    assert long.height > short.height and long.width == short.width
    red = [(np.asarray(s)[..., 0] > np.asarray(s)[..., 1].astype(int) + 60).sum() for s in (short, long)]
    assert red[0] == red[1] > 0


@pytest.mark.parametrize("size", [(64, 64), (32, 16), (1, 900), (1024, 768)])
def test_pictures_keep_their_proportions(size):
    picture = fitted(Image.new("RGB", size), 160)
    assert max(picture.size) == 160 and picture.width == pytest.approx(160 * size[0] / max(size), abs=1)


def test_large_pictures_keep_their_size_unless_told_and_an_empty_sheet_is_one():
    assert contact_sheet([Tile(Image.new("RGB", (512, 512)))]).width == 512 + 2 * GAP
    assert contact_sheet([Tile(Image.new("RGB", (512, 512)))], side=SIDE).width == SIDE + 2 * GAP
    assert contact_sheet([]).size > (0, 0)
