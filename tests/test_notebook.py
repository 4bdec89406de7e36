"""Python and notebooks: pictures of records, what a notebook shows of them, tables, names for completion. And docs/notebook.ipynb runs."""

from __future__ import annotations

import builtins
import json
from pathlib import Path

import pytest
from PIL import Image

import promptprobe
from promptprobe.errors import InputError
from promptprobe.records import RunRecord

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"
EVIL = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The names that the notebook leaves behind, and what its cells show."""
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("pandas")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    names: dict = {}
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        for cell in (c for c in notebook.cells if c.cell_type == "code"):
            *before, last = cell.source.rstrip().split("\n")
            exec("\n".join(before), names)
            if " = " in last.split("(")[0]:
                exec(last, names)
            else:
                shown.append(eval(last, names))
        names["record"].image_file = str(Path(names["record"].image_file).resolve())
    return names, shown


def test_the_notebook_runs_and_everything_that_it_shows_can_be_shown(ran):
    names, shown = ran
    for thing in shown:
        assert isinstance(thing, (Image.Image, str)) or thing._repr_html_()
    assert isinstance(names["picture"], Image.Image) and names["record"].image in shown
    before = names["record"].before
    assert before.size == names["record"].image.size and before.tobytes() != names["record"].image.tobytes()
    assert names["record"].before is before  # made once


def test_reprs_are_one_short_line_and_the_pieces_for_notebooks_are_escaped(ran):
    names, _ = ran
    record, found, scored = names["record"], names["found"], names["scored"]
    for thing in (record, found, scored, record.candidates[0], found.winners[0]):
        assert len(repr(thing)) < 300 and "\n" not in repr(thing)
    odd = RunRecord.from_dict(record.as_dict() | {"best_prompt": EVIL, "prompt": EVIL, "stop_reason": EVIL})
    assert EVIL not in odd._repr_html_() and "&lt;img" in odd._repr_html_()
    assert "data:image/png;base64," in record._repr_html_() and "data:image/png;base64," in found._repr_html_()
    assert found.winners[0].image is found.images[0]


def test_a_record_read_from_json_has_the_picture_of_its_file_and_says_when_that_is_gone(ran, tmp_path):
    record = ran[0]["record"]
    again = RunRecord.from_dict(json.loads(json.dumps(record.as_dict())))
    assert again.image.tobytes() == record.image.tobytes() and again.as_dict() == record.as_dict()
    with pytest.raises(InputError, match="makes no pictures"):
        assert again.before
    gone = RunRecord.from_dict(record.as_dict() | {"image": "gone.png"}, tmp_path)
    with pytest.raises(InputError, match=r"gone\.png' is gone"):
        assert gone.image
    assert "stopped because" in gone._repr_html_()  # all but the picture
    with pytest.raises(InputError, match="no 'best_prompt'"):
        RunRecord.from_dict({"prompt": "x"})


def test_seeds_and_batches_become_tables(ran, tmp_path, monkeypatch):
    record, found = ran[0]["record"], ran[0]["found"]
    table = found.to_pandas()
    assert len(table) == 6 and list(table["seed"]) == [0, 1, 2, 3, 4, 5]
    assert sorted(table["place"].dropna()) == [1, 2] and table["reward"].notna().sum() == 2
    lines = [{"key": "a", **record.as_dict()}, {"key": "b", "prompt": "bad", "error": "why"}]
    (tmp_path / "results.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"key": "c", "pro')  # cut off
    results = promptprobe.read_results(tmp_path)
    assert [r.prompt for r in results] == [record.prompt] and len(results.failed) == 1
    assert list(results.to_pandas()["error"])[1] == "why" and EVIL not in results._repr_html_()
    with pytest.raises(InputError, match=r"no results\.jsonl"):
        promptprobe.read_results(tmp_path / "nothing")
    imported = builtins.__import__

    def without(name, *rest, **more):
        if name == "pandas":
            raise ImportError(name)
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"promptprobe\[notebook\]"):
        found.to_pandas()


def test_completion_finds_the_public_names():
    assert dir(promptprobe) == sorted(promptprobe.__all__)
