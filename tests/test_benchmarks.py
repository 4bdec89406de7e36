"""The benchmarks that need a GPU or real sizes run in small, and say what they should."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import gpu
import preview_cost


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
