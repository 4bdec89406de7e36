"""Each check fails when there is something to find: a fault is planted in a copy of the repository, and the one command
must name it. `python tests/check.py faults` runs this.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from built import repository_files

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(tmp_path) -> Path:
    """The repository's files, without its git."""
    for file in repository_files():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, tmp_path / file)
    return tmp_path


def failing(copy: Path, stage: str, **environment: str) -> str:
    """What the one command prints for a stage that must fail, and say which it was."""
    kept = {"MYPY_CACHE_DIR": str(ROOT / ".mypy_cache")}
    run = subprocess.run(
        [sys.executable, "tests/check.py", stage], cwd=copy, env={**os.environ, **kept, **environment},
        capture_output=True, text=True,
    )  # fmt: skip
    said = run.stdout + run.stderr
    assert run.returncode == 1 and run.stdout.splitlines()[-1].startswith(f"FAILED in {stage}: "), said
    return said


def plant(copy: Path, file: str, old: str, new: str) -> int:
    """Replace the last `old` in a file (all, if empty: append) and return the line of what was planted."""
    text = (copy / file).read_text("utf-8")
    assert old in text
    before = text.rpartition(old)[0] if old else text
    (copy / file).write_text(before + new + (text.rpartition(old)[2] if old else ""), "utf-8")
    return before.count("\n") + 1


@pytest.mark.parametrize(
    ("stage", "planted"),
    [
        ("lint", {"benchmarks/steps.py": ("\nimport os\n", "benchmarks/steps.py")}),
        ("format", {"benchmarks/steps.py": ("\nX = {  'a' :1}\n", "benchmarks/steps.py")}),
        ("types", {f: ('\n\nWRONG: int = "text"\n', f + ":{}: error")
                   for f in ("agents/loop.py", "promptprobe/rewards/clip.py", "benchmarks/steps.py", "tests/conftest.py")}),
        ("house", {"agents/loop.py": ("\n\ndef late():\n    from ..cli import app\n\n    return app\n",
                                      "agents.loop:{} imports cli"),
                   "promptprobe/__init__.py": ("\n\ndef bare(x):\n    return x\n\n\n__all__ += ['bare']\n",
                                               "bare has no docstring"),
                   "promptprobe/cli/__init__.py": ("\nimport langgraph\n", "loaded ['langgraph']")}),
    ],
)  # fmt: skip
def test_planted_faults_are_named(stage, planted, copy):
    """All faults of a stage at once, each in a file of its own."""
    wanted = []
    for file, (new, said) in planted.items():
        line = plant(copy, file, "", new) + new.rstrip().count("\n", 0, max(new.find("WRONG"), new.find("from ..")))
        wanted.append(said.format(line))
    said = failing(copy, stage)
    assert not [text for text in wanted if text not in said], said


def test_a_failing_test_is_named(copy):
    plant(copy, "tests/test_rewards.py", "(255, 255, 255)  # alpha on white", "(1, 2, 3)")
    said = failing(copy, "tests", PYTEST_ADDOPTS="-k images_of_every_mode tests/test_rewards.py")
    assert "test_images_of_every_mode_become_rgb" in said


def test_numbers_that_differ_between_processors_are_named(copy):
    plant(copy, "tests/conftest.py", "ROUNDING = 2e-5", "ROUNDING = -1.0")
    said = failing(copy, "processors", PYTEST_ADDOPTS="-k pickscore tests/test_rewards.py")
    assert "numbers differ under ATEN_CPU_CAPABILITY=default" in said and "test_pickscore" in said


def test_a_file_that_the_wheel_or_the_sdist_lacks_is_named(copy):
    for file, line in (("pyproject.toml", '"promptprobe.prompts" = ['), ("MANIFEST.in", "recursive-include tests ")):
        kept = [text for text in (copy / file).read_text("utf-8").splitlines(True) if not text.startswith(line)]
        (copy / file).write_text("".join(kept), "utf-8")
    (copy / "agents" / "py.typed").unlink()
    (copy / "promptprobe" / "notes.txt").write_text("lies here, and no line of pyproject.toml takes it along")
    said = failing(copy, "build")
    for lacking in ("wheel lacks promptprobe/prompts/system.txt", "wheel lacks promptprobe/agents/py.typed",
                    "wheel lacks promptprobe/notes.txt", "sdist lacks tests/data/image_reward.json"):  # fmt: skip
        assert f"the {lacking}" in said
