"""The benchmarks that need a GPU or real sizes run in small, and say what they should."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from promptprobe.icons.scenes import BACKGROUNDS, COLOURS, MAX_COUNT, OBJECTS, RELATIONS
from promptprobe.race import Row
from promptprobe.stage_rows import ROWS
from promptprobe.staged import take_by_worth
from promptprobe.stages import plan_stages

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import gpu
import preview_cost
import prompt_optimization
import real_models


def test_the_gpu_script_measures_a_tiny_model_and_ends_a_resumed_run_as_an_uninterrupted_one(
    tmp_path, monkeypatch, capsys
):
    out = tmp_path / "gpu.json"
    given = ["--size", "tiny", "--device", "cpu", "--models", "FLUX.1-dev", "--seeds", "2", "--steps", "3"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *given, "--out", str(out)])
    gpu.main()
    table, told = capsys.readouterr().out.split("\n\n")
    kept = json.loads(out.read_text())
    assert json.loads(told) == kept and table.count("\n") == 2 and "| FLUX.1-dev |" in table
    found = kept["results"][0]
    assert "error" not in found and found["resumed_differs_by"] == 0 and found["kernels"]
    assert found["fast_path"] == found["blocks"] == 4
    assert found["search_all_calls"] == 6 > found["search_tiny_calls"] == found["search_full_calls"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *given, "--budget", "-1"])
    gpu.main()
    assert "no time left" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu"])
    with pytest.raises(SystemExit, match="--size full needs a GPU"):
        gpu.main()


def test_a_tiny_decoder_costs_a_twentieth_of_the_full_one():
    full, tiny = preview_cost.flops(lambda: preview_cost.kl(4, True)), preview_cost.flops(lambda: preview_cost.tiny(4))
    assert 8 < full < 12 and 0.03 < tiny / full < 0.07


class Told:
    """A race over rewards that are known: what a look at a seed says stands in `seen` `[seeds, steps]`."""

    def __init__(self, seen):
        self.seen, self.runner, self.step = seen, SimpleNamespace(steps=seen.shape[1]), 0
        self.alive, self.calls = [Row(i) for i in range(len(seen))], [0] * len(seen)

    def to(self, step, judge):
        self.step = step
        for row in self.alive:
            self.calls[row.place] = step

    def value(self, place):
        return float(self.seen[place, self.calls[place] - 1])

    def rule_out_what_is_no_number(self):
        return []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_figures_on_real_models_are_those_of_the_shipped_rule(row):
    plan, rng = plan_stages(3, None, 20, row), np.random.default_rng(0)
    taken = []
    for _ in range(60):
        final = rng.normal(0, row.spread, (plan.seeds, 1))
        seen = final + rng.normal(0, row.spread, (plan.seeds, 20)) * np.linspace(1.3, 0, 20)
        race = Told(seen)
        (best,) = take_by_worth(race, plan, None, 1, lambda *looked: None, lambda *lost: None)
        spent = (sum(race.calls) + 20 - race.calls[best.place]) / 20
        expected = [float(v[0]) for v in real_models.staged(row, seen[None], plan.price, plan.budget)]
        assert [seen[best.place, -1], spent, np.count_nonzero(race.calls)] == pytest.approx(expected)
        taken.append((best.place, np.count_nonzero(race.calls)))
    assert len(set(taken)) > 10  # the draws are not all alike


def test_what_is_not_known_is_named():
    flux = next(row for row in ROWS if row.name == "FLUX.1-dev")
    for told, plan in (
        ("this model and judge", plan_stages(3, None, 20, None)), ("less than 1.96 images", plan_stages(1.8, None, 20, flux)),
        ("runs of 9 steps", plan_stages(3, None, 9, flux)),
    ):  # fmt: skip
        assert plan.note.endswith(f"no figures are known for {told}") and plan.row is None


def test_the_typed_prompts_ask_for_what_the_icon_world_can_draw_and_are_none_of_the_made_ones(tmp_path):
    rows = prompt_optimization.read_scenes(prompt_optimization.TYPED)
    sizes = dict.fromkeys(prompt_optimization.SIZES, 0) | {"user_test": 400}  # the 200, whichever of them are taken
    prompt_optimization.write(tmp_path, sizes=sizes)
    seen = {line.casefold() for line in (tmp_path / "user_test.txt").read_text("utf-8").splitlines()}
    assert len(rows) >= 150 and len(seen) == 400
    for prompt, scene in rows:
        assert prompt == " ".join(prompt.split()) and prompt.casefold() not in seen, prompt
        seen.add(prompt.casefold())
        assert len({g.object for g in scene.groups}) == len(scene.groups) in (1, 2), prompt
        assert all(g.object in OBJECTS and g.colour in COLOURS and 1 <= g.count <= MAX_COUNT for g in scene.groups), (
            prompt
        )
        assert scene.background is None or scene.background in BACKGROUNDS, prompt
        assert scene.relation is None or (scene.relation in RELATIONS and len(scene.groups) == 2), prompt


def test_a_share_of_the_oracles_gain_is_one_of_means():
    found = prompt_optimization.share_of_gain(np.array([0.0, 1, 0, 1]), np.array([0.0, 2, 0, 2]))
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    assert np.isnan(prompt_optimization.share_of_gain(np.ones(4), np.zeros(4)).value)
