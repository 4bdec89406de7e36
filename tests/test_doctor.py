"""The doctor says what is there, what is missing and what to do, and shows no key."""

from __future__ import annotations

import json

import pytest
from promptprobe.agents import doctor

from promptprobe.cli import main


def by_name(found):
    return {f.name: f for f in found}


def test_the_doctor_finds_what_is_at_hand(monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:hunter2@127.0.0.1:9/v1?token=hunter3")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-never-to-be-seen")
    with pytest.raises(SystemExit) as left:
        main(["doctor", "--json"])
    told = capsys.readouterr().out
    found = {row["name"]: row for row in json.loads(told) if row["part"] != "extras"}
    assert (
        left.value.code == 0
        and found["torch"]["state"] == found["icons, probe"]["state"] == found["icons"]["state"] == "ok"
    )
    assert (
        found["image-reward"]["state"] == "missing"
        and "hf download zai-org/ImageReward" in found["image-reward"]["remedy"]
    )
    assert "127.0.0.1:9/v1, a key is set" in found["language model"]["what"]
    assert not any(secret in told for secret in ("hunter2", "hunter3", "never-to-be-seen"))


def test_what_is_wrong_is_named_with_its_remedy(monkeypatch, capsys):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: {"diffusers": "0.30.0", "rich": None}.get(name, real(name)))
    monkeypatch.setattr(doctor, "settle_device", lambda: 1 / 0)
    found = by_name(doctor.examine())
    assert (
        found["diffusers"].state == found["rich"].state == "wrong"
        and "pip install 'diffusers" in found["diffusers"].remedy
    )
    assert found[""].part == "device" and "ZeroDivisionError" in found[""].what and "icons" in found
    with pytest.raises(SystemExit) as left:
        main(["doctor"])
    assert left.value.code == 1 and "3 wrong" in capsys.readouterr().out
