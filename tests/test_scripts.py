"""Words and labels in any script: whole letters, whole words, nothing cut off."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from PIL import Image, ImageFont, features

from promptprobe import fonts
from promptprobe.diagnosis import WordDiagnosis
from promptprobe.errors import InputError
from promptprobe.heatmaps import heat_map_image
from promptprobe.text import clean_prompt, find_words
from promptprobe.tokens import PromptTokens, Word, tokenize_prompt

WORDS = [
    ("a street in İstanbul", ["a", "street", "in", "İstanbul"]),
    ("İ İ fox", ["İ", "İ", "fox"]),
    ("एक बिल्ली", ["एक", "बिल्ली"]),
    ("பூனை மேசை", ["பூனை", "மேசை"]),
    ("ന്\u200d പൂച്ച", ["ന്\u200d", "പൂച്ച"]),
    ("می\u200cخواهم گربه", ["می\u200cخواهم", "گربه"]),
    ("क्\u200dष एक", ["क्\u200dष", "एक"]),
    ("a 👩\u200d🚀 on 🇩🇪 1️⃣ 🐱🐱", ["a", "👩\u200d🚀", "on", "🇩🇪", "1️⃣", "🐱", "🐱"]),
    ("e\u0301t\u0301 cafe\u0301", ["e\u0301t\u0301", "cafe\u0301"]),
    ("한국어 고양이", ["한국어", "고양이"]),
    ("แมวสีแดง", ["แมวสีแดง"]),
    ("the fox's well-known snow", ["the", "fox's", "well-known", "snow"]),
]


@pytest.mark.parametrize("prompt,words", WORDS)
def test_words_are_whole_in_every_script(sd, prompt, words):
    tokens = tokenize_prompt(sd, prompt)
    assert [w.text for w in tokens.words] == words
    assert all(prompt[w.start : w.end] == w.text and w.tokens for w in tokens.words)
    assert sorted({t for w in tokens.words for t in w.tokens}) == list(range(len(tokens.columns)))


def test_chinese_and_japanese_are_split_where_tokens_and_scripts_change(sd):
    prompt = "一只红色的猫坐在木桌上"
    assert [w.text for w in tokenize_prompt(sd, prompt).words] == list(prompt)  # a tokenizer of bytes
    cut = [prompt[a:b] for a, b in find_words(prompt, {0, 2, 4, 5, 8})]
    assert cut == ["一只", "红色", "的", "猫坐在", "木桌上"]
    prompt = "赤い猫がテーブルの上、ラーメンとT恤"
    found = [prompt[a:b] for a, b in find_words(prompt)]
    assert found == ["赤", "い", "猫", "が", "テーブル", "の", "上", "ラーメン", "と", "T", "恤"]


def test_a_prompt_in_lower_case_is_found_again_although_it_is_longer():
    from promptprobe.tokens import _located

    class Row:
        @staticmethod
        def wrap(pipeline, prompt, settings):
            return f"assistant: {prompt.lower()} assistant"

    for prompt in ("assistant", "a", "İI İ x"):
        text, places = _located(None, Row, prompt, {})
        assert "".join(text[a:b] for a, b in pairwise(places)) == prompt.lower() and places[0] == 11


def test_a_prompt_is_cleaned_where_it_enters(sd):
    assert clean_prompt(" a\x00 cat\u2028on\ufeff a \x1bmat\x85 ") == "a cat on a mat"
    assert clean_prompt("a \ud83d\ude00") == "a 😀"
    for half in ("a car \ud83d", "\udcff x"):
        for take in (clean_prompt, lambda p: tokenize_prompt(sd, p)):
            with pytest.raises(InputError, match=r"half of a surrogate pair, '.ud"):
                take(half)
    with pytest.raises(InputError, match="the prompt is empty"):
        clean_prompt("\x00 \u2028")
    done = subprocess.run(
        [sys.executable, "-c", "import sys, promptprobe.prompt_files; sys.exit('torch' in sys.modules)"]
    )
    assert done.returncode == 0


def sheet_of(prompt):
    places = find_words(prompt)
    words = tuple(Word(prompt[a:b], a, b, (i,)) for i, (a, b) in enumerate(places))
    tokens = PromptTokens(prompt, tuple(range(len(words))), words, 0, 75)
    said = [WordDiagnosis(w.text, w.start, w.end, 0.5, 0.1, i % 2 == 0) for i, w in enumerate(words)]
    return heat_map_image(torch.rand(len(words), 1, 4, 4), tokens, said, Image.new("RGB", (8, 8), "green"))


def test_nothing_is_cut_off_at_the_edge_of_a_sheet():
    for prompt in ("W" * 60, f"a b c d {'W' * 60}", "Ñ" * 40 + " gj", "قطة " * 5, "猫" * 30, "👩\u200d🚀" * 9):
        sheet = sheet_of(prompt)
        for box in (
            (0, 0, 8, sheet.height), (sheet.width - 8, 0, sheet.width, sheet.height), (0, sheet.height - 4, sheet.width, sheet.height),
        ):  # fmt: skip
            assert sheet.crop(box).convert("L").getextrema() == (255, 255), prompt


def test_a_word_that_no_font_can_draw_is_given_by_its_number(monkeypatch):
    plain = sheet_of("a cat")
    assert plain.height == sheet_of("a dog").height
    missing = "\U00013000\U00013001"  # hieroglyphs
    if fonts.font_for(missing, 14):
        pytest.skip("a font here has hieroglyphs")
    numbered = sheet_of(f"a {missing}")
    assert numbered.height > plain.height  # the legend
    label = numbered.crop((8 + 2 * 168, 170, 8 + 3 * 168, 202))
    assert label.convert("L").getextrema()[0] < 100
    monkeypatch.setattr(features, "check", lambda name: False)
    fonts.font_for.cache_clear()
    assert fonts.font_for("बिल्ली", 14) is None and fonts.font_for("Кошка", 14) is not None
    fonts.font_for.cache_clear()


@pytest.mark.parametrize("way", ["fontconfig", "folders"])
def test_a_font_of_the_system_is_found(tmp_path, monkeypatch, way):
    builder = pytest.importorskip("fontTools.fontBuilder")
    pens = pytest.importorskip("fontTools.pens.ttGlyphPen")
    letters = {0x13000: "one", 0x13001: "two", 0x20: "space"}

    def box(width):
        pen = pens.TTGlyphPen(None)
        for place in ((0, 0), (0, 700), (width, 700), (width, 0)):
            (pen.lineTo if place != (0, 0) else pen.moveTo)(place)
        pen.closePath()
        return pen.glyph()

    font = builder.FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", *letters.values()])
    font.setupCharacterMap(letters)
    font.setupGlyf({".notdef": box(500), "one": box(300), "two": box(800), "space": pens.TTGlyphPen(None).glyph()})
    font.setupHorizontalMetrics({n: (900, 0) for n in [".notdef", *letters.values()]})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Probe Sans", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    (tmp_path / "fonts").mkdir()
    font.save(tmp_path / "fonts" / "ProbeSans.ttf")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    if way == "folders":
        monkeypatch.setattr(fonts.shutil, "which", lambda name: None)
    elif not fonts.shutil.which("fc-list"):
        pytest.skip("no fontconfig here")
    fonts.font_for.cache_clear()
    found = fonts.font_for("\U00013000\U00013001", 14)
    fonts.font_for.cache_clear()
    assert isinstance(found, ImageFont.FreeTypeFont) and found.path.endswith("ProbeSans.ttf")
    assert not fonts.has_letters(found, "猫")


def test_a_text_is_shortened_between_letters():
    font = ImageFont.load_default(14)
    assert fonts.fitted("cat", font, 100) == "cat"
    short = fonts.fitted("e\u0301" * 40, font, 60)
    assert font.getlength(short) <= 60 and short.rstrip(".…") == "e\u0301" * (len(short.rstrip(".…")) // 2)
    assert [fonts.script_of(w) for w in ("猫", "बिल्ली", "👩\u200d🚀", "кот")] == [
        "Han",
        "Devanagari",
        "emoji",
        "Cyrillic",
    ]
