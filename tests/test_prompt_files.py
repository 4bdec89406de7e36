"""Prompt files as people have them: what is read, what is named, what is refused; templates; a thousand broken files."""

from __future__ import annotations

import json
import random
import time

import pytest

from promptprobe import cli, prompt_files
from promptprobe.errors import InputError
from promptprobe.prompt_files import Notes, PromptRow, expand, expand_rows, read_prompts

PANDAS = {"prompt": {"0": "a cat", "1": "a dog"}, "seed": {"0": 1, "1": 2}}
INFOTEXT = (
    "a red cat,\nbest quality\nNegative prompt: fog,\nrain\n"
    'Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 1, Size: 512x768, Lora hashes: "a: 1, b: 2"\n'
)


def written(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    return path


@pytest.mark.parametrize(
    "name,data,found",
    [
        ("a.txt", b"\xef\xbb\xbfa cat\r\n\r\na dog\r\na cat\r\n", ["a cat", "a dog"]),
        ("a.txt", b"a cat\ra dog", ["a cat", "a dog"]),
        ("a.txt", "a red cat\u2028on a mat\u2029x\x85y\nb", ["a red cat on a mat x y", "b"]),
        ("a.txt", "a cat\nein Bär".encode("utf-16"), ["a cat", "ein Bär"]),
        ("a.txt", "a cat\nein Bär".encode("utf-16-le"), ["a cat", "ein Bär"]),
        ("a.txt", "a cat\nein Bär".encode("utf-16-be"), ["a cat", "ein Bär"]),
        ("a.txt", "一只猫\n二只狗\n".encode("utf-16-be"), ["一只猫", "二只狗"]),
        ("a.txt", "a cat".encode("utf-32"), ["a cat"]),
        ("a.txt", b"prompt\tid\na cat\t1\n", ["a cat"]),
        ("a.txt", b'{"prompt": "a cat"}\n', ["a cat"]),
        ("a.csv", b"id,Prompt\n1,a cat\n2,\"a dog, brown\"\n", ["a cat", "a dog, brown"]),
        ("a.csv", b"prompt;seed\na cat, on a mat;3\n", ["a cat, on a mat"]),
        ("a.csv", b"seed\tprompt\n3\ta cat, on a mat\n", ["a cat, on a mat"]),
        ("a.csv", b"sep=;\nprompt;a\na cat;1\n", ["a cat"]),
        ("a.csv", b'prompt,n\n"a cat\non a mat",1\n"a ""big"" dog",2\n', ["a cat on a mat", 'a "big" dog']),
        ("a.csv", b"prompt,n\na cat,1,,\n", ["a cat"]),
        ("a.tsv", b"caption\tid\na cat\t1\n", ["a cat"]),
        ("a.tsv", b'caption\tid\n"a cat\t1\n"open" sign\t2\n"say ""hi"""\t3\n', ['"a cat', '"open" sign', 'say "hi"']),
        ("a.jsonl", b'{"prompt": "a cat"}\n\n"a dog"\n["a fish"]\n', ["a cat", "a dog", "a fish"]),
        ("a.jsonl", '{"prompt": "a red cat\u2028on a mat"}\n', ["a red cat on a mat"]),
        ("a.jsonl", b'[\n"a cat",\n{"prompt": "a dog"}]', ["a cat", "a dog"]),
        ("a.jsonl", b'{\n "prompt": "a cat"\n}\n{\n "prompt": "a dog"\n}\n', ["a cat", "a dog"]),
        ("a.json", b'{"images": [], "annotations": [{"id": 1, "caption": "a cat"}]}', ["a cat"]),
        ("a.json", b'["a cat", {"text": "a dog"}]', ["a cat", "a dog"]),
        ("a.json", b'{"x.png": {"p": "a cat", "se": 1}, "y.png": {"p": "a dog"}}', ["a cat", "a dog"]),
        ("a.json", b'{"anime": ["a cat", "a dog"], "photo": ["a fish"]}', ["a cat", "a dog", "a fish"]),
        ("a.json", b'[{"prompt": "a cat", "image_path": ["1.jpg"], "rank": [0, 1]}]', ["a cat"]),
        ("a.json", b'{"1": "a cat", "2": "a dog"}', ["a cat", "a dog"]),
        ("a.json", json.dumps(PANDAS), ["a cat", "a dog"]),
        ("a.json", b'{"columns": ["prompt", "n"], "data": [["a cat", 1]]}', ["a cat"]),
        ("a.json", b'{"prompt": "a cat"}', ["a cat"]),
        ("a.json", b'{"prompt": "a cat"}\n{"prompt": "a dog"}\n', ["a cat", "a dog"]),
        ("a.txt", b'--prompt "a woman rowing" --negative_prompt "fog" --seed 12\n', ["a woman rowing"]),
        ("a.txt", INFOTEXT + "\na plain dog\n", ["a red cat, best quality", "a plain dog"]),
        ("a.jsonl", json.dumps({"parameters": INFOTEXT}), ["a red cat, best quality"]),
        ("a.jsonl", b'{"image_name": "x.png", "p": "a cat", "se": 1}\n', ["a cat"]),
        ("a.csv", b"Image Prompt,Negative prompt\na cat,fog\n", ["a cat"]),
        ("a.txt", b"/imagine prompt: a cat --v 6\nhttps://x.y/z.png a dog\n/imagine a fox\n", ["a cat", "a dog", "a fox"]),
        ("a.txt", b"a cat --ar 16:9 --v 6\na dog --tile on a mat\na -- b --own\n", ["a cat", "a dog on a mat", "a -- b --own"]),
        ("a.txt", b"1. a cat\n2. a dog\n\n10) 2 fish\n", ["a cat", "a dog", "2 fish"]),
        ("a.txt", "- a cat\n* a dog\n• [ ] a fox\nlike -- this - here\n".encode(), ["a cat", "a dog", "a fox", "like -- this - here"]),
        ("a.txt", b'"a cat",\n"a ""red"" dog\'s hat",\n"a \\"b\\""\n', ["a cat", 'a "red" dog\'s hat', 'a "b"']),
        ("a.md", "1. “a cat”\n2. “a dog”\n".encode(), ["a cat", "a dog"]),
        ("a.txt", b'"OPEN" sign\n"A" and "B"\n16:9 banner\n3:2 cats\n2 cats\n-5 degrees\n', ['"OPEN" sign', '"A" and "B"', "16:9 banner", "3:2 cats", "2 cats", "-5 degrees"]),
        ("a.txt", b"- a cat\na dog\na fish\n", ["- a cat", "a dog", "a fish"]),
        ("a.txt", b"a cat::2 a dog::-.5 x\nhot:: dog::1, big::0.5\nstd::vector {2::a|3 ::b} [a::0.5]\n", ["a cat, a dog, x", "hot, dog, big", "std::vector {2::a|3 ::b} [a::0.5]"]),
    ],
)  # fmt: skip
def test_prompts_are_read_from_every_kind_of_file(tmp_path, name, data, found):
    assert read_prompts(written(tmp_path, name, data)).prompts == found


@pytest.mark.parametrize(
    "name,data,found,note",
    [
        ("a.txt", b"a cat\nB\xe4r\nc\xc3\xa9", ["a cat", "Bär", "cé"], "line 2: no UTF-8: read as Latin-1"),
        ("a.txt", "a cat".encode("utf-16") + b"x", ["a cat"], "in the middle of a character"),
        ("a.txt", "a cat\nB\n".encode("utf-16-le"), ["a cat", "B"], "read as UTF-16-LE"),
        ("a.csv", b"prompt\na red\x00 cat\n", ["a red cat"], "line 2: control characters (such as NUL) became blanks"),
        ("a.jsonl", b'{"prompt": "a\\u0000 cat"}', ["a cat"], "line 1: control characters"),
        ("a.txt", "a \ud83d cat\na dog", ["a dog"], "line 1 was left out: the prompt has half of a surrogate pair, '\\ud83d'"),
        ("a.jsonl", b'"\\udc00 a"\n"a dog"', ["a dog"], "line 1 was left out: the prompt has half"),
        ("a.csv", b"prompt,n\na cat, a dog,1\na,2\n", ["a cat, a dog", "a"], "line 2: wider than the header's 2 columns"),
        ("a.csv", b"n,prompt\n1\n2,a\n", ["a"], "line 2 was left out: it has 1 of 2 columns"),
        ("a.csv", b'prompt,n\n"a cat,1\na dog,2\n', ["a cat", "a dog"], "line 2: its quotes are broken"),
        ("a.csv", b'prompt,n\n"a "big" cat, x",1\na,2\n', ['a "big" cat, x', "a"], "line 2: its quotes are broken"),
        ("a.csv", b"prompt;n\na cat;3\n", ["a cat"], "separated by a semicolon"),
        ("a.csv", b"text,caption\na,b\n", ["b"], "taken from 'caption'; --column takes another"),
        ("a.jsonl", b'{"prompt": "a"}\n{"caption": "b"}\n', ["a", "b"], "from 'prompt' (1), 'caption' (1)"),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt"\n"b"\n', ["a", "b"], "line 2 was left out: broken JSON"),
        ("a.jsonl", b'"a"\n{"prompt": true}\n{"prompt": {}}\n', ["a"], "line 3 was left out: its prompt is no text but an object"),
        ("a.jsonl", b'"a"\n{"x": 1}', ["a"], "line 2 was left out: there is no prompt, caption or text; its keys are: x"),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt": 1984}\n', ["a", "1984"], "line 2: a number, taken as text"),
        ("a.jsonl", b'"a"\n' + b"[" * 100_000, ["a"], "line 2 was left out: nested too deeply"),
        ("a.jsonl", b'"a"\n' + b"9" * 9000, ["a"], "line 2 was left out: "),
        ("a.json", b'[{"prompt": "a"},\n{"prompt": "b",},\n{"prompt": "c"},\n{"pro', ["a", "c"], "item 2 was left out: broken JSON"),
        ("a.txt", b"a cat\na dog\na cat\n", ["a cat", "a dog"], "line 3: repeats an earlier prompt"),
        ("a.txt", b"a " * 6000 + b"\na dog", ["a dog"], "line 1 was left out: a prompt of 12000 characters; at most 10000"),
        ("a.txt", b"a --v 6 --style raw\nb --v 5", ["a", "b"], "left out of the prompts: --v (2), --style (1)"),
        ("a.txt", b"--prompt a --seed 3\n--steps 4", ["a"], "line 2 was left out: options but no --prompt"),
        ("a.txt", b"a --ar 3:2 --no fog\n", ["a"], "line 1: aspect, negative given beside the prompt"),
        ("a.csv", b"prompt\n\n \na\n", ["a"], "--column"),
        ("a.txt", b"1. a\n2. b\nc\n", ["a", "b", "c"], "read as a list: the numbers of 2 lines were left out"),
        ("a.txt", b"a cat::2 a dog::1\nb::3", ["a cat, a dog", "b"], "left out of the prompts: :: (2)"),
    ],
)  # fmt: skip
def test_what_is_changed_or_left_out_is_said_and_the_rest_is_read(tmp_path, name, data, found, note):
    read = read_prompts(written(tmp_path, name, data))
    assert read.prompts == found
    assert any(note in n for n in read.notes), read.notes
    assert read.left_out == sum("was left out" in n for n in read.notes)


@pytest.mark.parametrize(
    "name,data,message",
    [
        ("a.txt", b"", "has no prompt"), ("a.txt", b"\n \n", "has no prompt"),
        ("a.txt", b"a " * 600_000, "line 1: a prompt of 1200000 characters; at most 10000"),
        ("a.txt", bytes(range(256)) * 9, "is no text"),
        ("a.csv", b"id,name\n1,a cat\n", "its columns are: id, name"),
        ("a.csv", b"prompt\n", "has no prompt"),
        ("a.jsonl", b'{"prompt": "a"\n{"prompt"\n', "line 1: broken JSON .* \\(1 more like this\\)"),
        ("a.json", b"{", "broken JSON"), ("a.json", b"[" * 100_000, "nested too deeply"), ("a.json", b"3", "holds no list"),
        ("a.json", b'{"a": 1}', "no list 'annotations'"),
        ("a.json", b'{"x": {"q": "a"}}', "its keys are: q; name one with --column"),
        ("a.yaml", b"animals:\n  - cat\n", "YAML holds wildcards .* --wildcards"),
        ("a.parquet", b"PAR1....", r"Parquet; .*read_parquet\('a.parquet'\)"),
        ("a.csv", b"PK\x03\x04....", "a ZIP archive or an Office document"),
    ],
)  # fmt: skip
def test_a_file_in_which_nothing_can_be_read_is_refused_in_one_line(tmp_path, name, data, message):
    with pytest.raises(InputError, match=message) as error:
        read_prompts(written(tmp_path, name, data))
    assert "\n" not in str(error.value) and name in str(error.value)


def test_a_path_that_can_t_be_read_is_named(tmp_path):
    for path in (tmp_path / "missing.txt", tmp_path):
        with pytest.raises(InputError, match=r"can't read prompts from .*(No such file|Is a directory)"):
            read_prompts(path)


def test_limits_are_said(tmp_path, monkeypatch):
    path = written(tmp_path, "a.txt", b"a\nb\nc\n")
    monkeypatch.setattr(prompt_files.reading, "MAX_PROMPTS", 2)
    with pytest.raises(InputError, match="more than 2 prompts; split it"):
        read_prompts(path)
    monkeypatch.setattr(prompt_files.decoding, "MAX_BYTES", 2**20)
    with pytest.raises(InputError, match="more than 1 MiB; split it"):
        read_prompts(written(tmp_path, "b.txt", b"a" * 2**21))


def test_columns_ids_settings_and_repeats_travel(tmp_path):
    table = b"id,prompt,seed,\xc3\xa9\nx1,a cat,5,u\nx2,a dog,6,v\nx3,a  cat,7,w\n"
    rows = read_prompts(written(tmp_path, "a.csv", table)).rows
    assert [(r.id, r.line, r.repeats) for r in rows] == [("x1", 2, None), ("x2", 3, None), ("x3", 4, "x1")]
    assert rows[2].columns == {"id": "x3", "seed": "7", "é": "w"} and rows[2].prompt == "a cat"
    part = {"x.png": {"p": "a cat", "se": 1, "deep": [[{"a": float("inf")}]]}}
    row = read_prompts(written(tmp_path, "a.json", json.dumps(part))).rows[0]
    assert row.id == "x.png" and row.columns == {"se": 1, "deep": [[{"a": None}]]}
    row = read_prompts(written(tmp_path, "a.txt", INFOTEXT)).rows[0]
    assert row.settings == {
        "negative": "fog, rain", "steps": 20, "sampler": "Euler a", "guidance": 7.5, "seed": 1, "width": 512, "height": 768
    }  # fmt: skip
    assert row.columns == {"Lora hashes": "a: 1, b: 2"}
    row = read_prompts(written(tmp_path, "a.txt", b"a cat --ar 16:9 --no fog, rain --v 6 --seed 5")).rows[0]
    assert row.settings == {"aspect": "16:9", "negative": "fog, rain", "seed": 5} and row.columns == {"v": "6"}
    line = '--negative_prompt \'a "b" c\' --prompt "a \\"big\\" -- cat" --width 512 --sd_model x'
    row = read_prompts(written(tmp_path, "a.txt", line)).rows[0]
    assert row.prompt == 'a "big" -- cat' and row.settings == {"negative": 'a "b" c', "width": 512}
    assert json.loads(json.dumps(row.as_dict()))["columns"] == {"sd_model": "x"}
    halves = b'--prompt "a cat" --sd_model \xed\xa0\xbd --sampler_name \xed\xa0\xbd --\xed\xa0\xbd x'
    row = read_prompts(written(tmp_path, "a.txt", halves)).rows[0]
    assert row.prompt == "a cat" and json.dumps(row.as_dict(), ensure_ascii=False).encode()
    names = json.dumps([{"caption " + "y" * 6000: "a cat"}])
    assert all(len(note) < 200 for note in read_prompts(written(tmp_path, "a.json", names)).notes)
    with pytest.raises(InputError, match="there is no 'name'"):
        read_prompts(written(tmp_path, "b.csv", table), "name")
    assert read_prompts(written(tmp_path, "b.csv", table), "seed").prompts == ["5", "6", "7"]


def test_many_bad_lines_are_counted(tmp_path):
    read = read_prompts(written(tmp_path, "a.jsonl", b'"a cat"\n' + b"{\n" * 500))
    assert read.left_out == 500 and len(read.notes) == 11 and "490 more were left out, 500 in all" in read.notes[-1]


@pytest.mark.parametrize(
    "template,made",
    [
        ("a {red|blue} fish", "a red fish/a blue fish"), ("{a|{b|c}} #{1|2}", "a #1/a #2/b #1/b #2/c #1/c #2"),
        ("{2$$ and $$a|b}", "a and b/b and a"), ("{-2$$a|b}", "a/b/a,b/b,a"), ("{1-2$$ $$a|b}", "a/b/a b/b a"),
        ("{3-1$$ $$a|b}", "a/b/a b/b a"), ("{2-$$ $$a|b}", "a b/b a"), ("{9999999999$$ $$a|b}", "a b/b a"),
        ("{ red | blue }fish", "red fish/blue fish"), ("{0.5::red|2 :: blue}", "red/blue"), ("{|a} x", "x/a x"),
        ("{a {b|c}", "{a b/{a c"), ("{2$$a|a|b}", "a,b/b,a"), ("a {red|blue} __nothing__", "a red __nothing__/a blue __nothing__"),
        *((t, t) for t in ("a C# logo on a mug", "a 50% off sign", "$5 for ${x} and %{y}", "{{best}} {solo}", "a__b __c d__ __", "}{ | x")),
    ],
)  # fmt: skip
def test_templates_are_expanded_and_nothing_else(template, made):
    assert expand([template, template]) == made.split("/")


def test_wildcards_have_the_values_of_their_files(tmp_path, caplog):
    pytest.importorskip("dynamicprompts")
    (tmp_path / "thing.txt").write_text("cat\ndog\n# no\nC# logo, 5% $2 {x}\n{old|new} __deep/what__\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "what.json").write_text('["cup", "a \\ud83d"]')
    (tmp_path / "loop.txt").write_text("a __loop__\n")
    (tmp_path / "bad.json").write_text("{")
    things = ["C# logo, 5% $2 {x}", "cat", "dog", "old cup", "new cup"]
    assert expand(["a __thing__"], tmp_path) == [f"a {thing}" for thing in things]
    assert expand(["{2$$ $$__thing__}"], tmp_path) == [f"{a} {b}" for a in things for b in things if a != b]
    with pytest.raises(InputError, match=r"prompt 1: 'b __loop__' .*__loop__ holds itself; correct its values"):
        expand(["b __loop__"], tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        expand(["a"], tmp_path / "thing.txt")
    notes = Notes("p.txt")
    expand_rows(
        [PromptRow("a {b|c} __no__", n, str(n)) for n in (1, 2)] + [PromptRow("__what__", 3, "3")], tmp_path, notes
    )
    said = "\n".join(notes.lines())
    assert "lines 1, 2: __no__ has no values and stays as it stands; give its file in the folder of --wildcards" in said
    assert "Unable to read structured wildcard file" in said and "half of a surrogate pair were left out" in said
    assert not caplog.records


@pytest.mark.parametrize(
    "template,message",
    [
        ("{1|2|3|4|5|6|7|8|9|0}" * 6, "more than 100000 combinations in this file; give fewer choices"),
        ("{|}" * 3000, "more than 30000000 characters"), ("{" + "|" * 9000 + "}" + "{a|b}" * 9, "more than 100000 comb"),
        ("{5$$" + "a|" * 30 + "a}", "more than 100000 combinations"), ("{900-$$" + "a|b|" * 1000 + "a}", "more than 30000000 char"),
        ("{a|" * 11 + "}" * 11, "nested more than 10 deep; write fewer"),
        (("{a|" * 10 + "}" * 10) * 150, "more than 100000 comb"), ("{9$$" * 9 + "a|b" + "|c}" * 9 + "{d|e}" * 20, "more than"),
    ],
)  # fmt: skip
def test_what_expands_too_far_is_refused_at_once(template, message):
    began = time.process_time()
    rows = [PromptRow("a fish", 1, "1"), PromptRow(template, 7, "7")]
    with pytest.raises(InputError, match=f"'p.txt', line 7: .*{message}") as error:
        expand_rows(rows, notes=Notes("p.txt"))
    assert time.process_time() - began < 2 and len(str(error.value)) < 300


def test_what_expands_to_nothing_is_left_out():
    notes = Notes("p.txt")
    assert [r.prompt for r in expand_rows([PromptRow("{|}", 1, "1"), PromptRow("a", 2, "2")], notes=notes)] == ["a"]
    assert "line 1 was left out: its template makes no prompt" in notes.lines()[0]
    with pytest.raises(InputError, match="makes no prompt"):
        expand(["{|}"])


def test_expanded_rows_keep_what_belongs_to_them(tmp_path):
    rows = read_prompts(written(tmp_path, "a.csv", b"id,prompt\n7,a {red|blue} fish\n8,a red fish\n")).rows
    made = expand_rows(rows)
    assert [(r.id, r.prompt, r.repeats) for r in made] == [
        ("7.1", "a red fish", None), ("7.2", "a blue fish", None), ("8", "a red fish", "7.1"),
    ]  # fmt: skip
    assert made[1].columns == {"id": "7"}


SAMPLES = [
    b"a red cat\na blue dog --ar 3:2 --v 6\n", INFOTEXT.encode() * 3, b'--prompt "a cat" --seed 3 --negative_prompt \'x\'\n' * 5,
    b'id,prompt\n1,"a cat, ""red"""\n2,a dog, blue\n' * 9, "a;prompt\n1;ein Bär\n2;\"x\ny\"\n".encode(), b'caption\tid\n"a\t1\n' * 5,
    b'{"prompt": "a cat", "seed": 5, "x": [1, {"y": null}]}\n' * 9, b'["a", {"caption": "b"}, 3, null, true, [["c"]]]',
    json.dumps({"x.png": {"p": "a cat", "se": 1}, "y.png": {"p": "日本 \ud83d\ude00"}}).encode(), json.dumps(PANDAS).encode(),
    b'{"annotations": [{"caption": "a", "id": 1}, {"caption": 3}]}', "猫 बिल्ली قطة 👩‍🚀\u2028x\x85y\x00\n".encode() * 3,
]  # fmt: skip
ENDINGS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", "", ".md", ".yaml", ".parquet")
PIECES = [
    b'"',
    b"{",
    b"[",
    b",",
    b":",
    b"\\",
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\xbd",
    b"\n",
    b"\r",
    b"\t",
    b";",
    b"--prompt ",
    b"\\ud83d",
]


def fuzzed(random_: random.Random) -> bytes:
    """Random bytes, or a good file that is cut, mixed, re-encoded, nested or sprinkled with what breaks parsers."""
    data = random_.choice(SAMPLES)
    for _ in range(random_.randint(1, 4)):
        kind = random_.randrange(9)
        if kind == 0:
            data = random_.randbytes(random_.choice([0, 1, 7, 300, 5000]))
        elif kind == 1:
            data = data[: random_.randint(0, len(data))]
        elif kind == 2:
            data += random_.choice(SAMPLES)
        elif kind == 3:
            encoding = random_.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "utf-8-sig", "gb18030"])
            data = data.decode("utf-8", "replace").encode(encoding, "replace")
        elif kind == 4:
            at = random_.randint(0, len(data))
            data = data[:at] + random_.choice(PIECES) * random_.choice([1, 3, 40, 20_000]) + data[at:]
        elif kind == 5:
            for _ in range(random_.randint(1, 30)):
                at = random_.randint(0, len(data))
                data = data[:at] + random_.choice(PIECES) + data[at:]
        elif kind == 6:
            depth = random_.choice([3, 40, 900, 30_000])
            data = random_.choice([b"[", b'{"prompt":', b'{"a":[']) * depth + data + b"]" * random_.choice([0, depth])
        elif kind == 7:
            data = data * random_.choice([2, 100])
        else:
            data = bytes(b ^ (random_.random() < 0.02) * random_.randrange(256) for b in data[:20_000])
    return data[:2_000_000]


@pytest.mark.parametrize("part", range(10))
def test_a_thousand_broken_files_end_in_prompts_or_one_line(tmp_path, part):
    random_ = random.Random(part)
    for number in range(100):
        data = fuzzed(random_)
        path = written(tmp_path, "f" + random_.choice(ENDINGS), data)
        began = time.process_time()
        try:
            read = read_prompts(path, random_.choice([None, None, "p", "seed"]))
            assert read.prompts and all(p == " ".join(p.split()) and "\x00" not in p for p in read.prompts)
            json.dumps([r.as_dict() for r in read.rows], ensure_ascii=False, allow_nan=False).encode()
            "\n".join(read.notes).encode()
            assert not any("\n" in n for n in read.notes)
        except InputError as error:
            assert "\n" not in str(error) and str(error).encode()
        assert time.process_time() - began < 2, (part, number)


@pytest.mark.parametrize(
    "name,line,count",
    [
        ("a.txt", b"--prompt \"a --seed '", 20_000), ("a.txt", b"x " * 50 + b"--no ", 20_000), ("a.csv", b'"a\n', 50_000),
        ("a.csv", b'1,"a""\n', 50_000), ("a.txt", b"Steps: 20, Seed: 1, x " * 3 + b"\n", 20_000), ("a.jsonl", b"{\n", 50_000),
        ("a.jsonl", b'{"a', 300_000), ("a.json", b'["a\n{"', 100_000), ("a.txt", b"Steps: 20, Seed: 1, " + b"x " * 40_000 + b"\n", 10),
        ("a.txt", b"{", 500_000), ("a.txt", b"\xff\n", 50_000),
    ],
)  # fmt: skip
def test_large_files_are_read_in_linear_time(tmp_path, name, line, count):
    head = b"n,prompt\n" if name == "a.csv" else b""
    path = written(tmp_path, name, head + line * count)
    began = time.process_time()
    try:
        read_prompts(path)
    except InputError as error:
        assert "\n" not in str(error)
    assert time.process_time() - began < 6  # under 2 s on two slow cores; quadratic ones take minutes


def test_collect_says_what_was_taken_from_a_file(tmp_path, capsys):
    file = written(tmp_path, "a.csv", "caption;id\na cat;1\na cat;2\n")
    with pytest.raises(SystemExit):
        cli.main(["collect", str(file), "--out", str(tmp_path / "out"), "--probe-step", "99"])
    said = capsys.readouterr().err
    assert "prompts were taken from 'caption'; --column takes another" in said and "repeats an earlier prompt" in said
