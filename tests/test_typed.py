"""What a user's type checker knows of the installed package.

`PROMPTPROBE_INSTALLED` names the Python of an environment with the package; without it, one is laid out by links.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from imports import link_packages

# The user's own code and ours are checked; what others' packages say of their types makes no difference here.
CONFIG = """
[mypy]
follow_imports = skip
[mypy-promptprobe.*]
follow_imports = silent
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> str:
    if given := os.environ.get("PROMPTPROBE_INSTALLED"):
        return given
    folder = tmp_path_factory.mktemp("user")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    link_packages(packages)
    return str(folder / "bin" / "python")


@pytest.fixture(scope="module")
def outside(tmp_path_factory) -> Path:
    """A folder of the user's; one for all, so that mypy reads the package once."""
    return tmp_path_factory.mktemp("outside")


def mypy(installed: str, folder: Path, code: str) -> list[str]:
    """What mypy prints of a user's script, a line each without its notes on where a function stands, in a folder outside
    of the repository."""
    (folder / "script.py").write_text(code)
    (folder / "mypy.ini").write_text(CONFIG)
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "--python-executable", installed, "script.py"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert not run.stderr
    return [line for line in run.stdout.splitlines() if "note: " not in line or "Revealed type" in line]


def test_types_of_what_is_returned_are_known(installed, outside):
    code = """import promptprobe
from promptprobe.agents import Service
record = promptprobe.optimize("two red cars", seed=3)
reveal_type(record)
reveal_type(record.predicted_reward)
reveal_type(promptprobe.score)
reveal_type(Service().generate)
"""
    said = mypy(installed, outside, code)
    assert len(said) == 4 and not [line for line in said if ": error:" in line], said
    for line, part in zip(said, ("RunRecord", '"float"', "def (", '"def (prompt: str'), strict=True):
        assert part in line.partition("Revealed type is")[2]


def test_a_prompt_that_is_no_text_is_an_error(installed, outside):
    (said,) = mypy(installed, outside, "import promptprobe\npromptprobe.optimize(3)\n")
    assert said.startswith("script.py:2: error:") and "[arg-type]" in said


@pytest.mark.parametrize(
    ("call", "code", "named"),
    [('optimize("x", seed="three")', "[arg-type]", "seed"), ('optimize("x", sede=3)', "[call-arg]", "sede"),
     ('search_seeds("x", sede=3)', "[call-arg]", "sede"), ('generate("x", dtyp="x")', "[call-arg]", "dtyp")],
)  # fmt: skip
def test_wrong_and_unknown_options_are_errors(call, code, named, installed, outside):
    (said,) = mypy(installed, outside, f"import promptprobe\npromptprobe.{call}\n")
    assert said.startswith("script.py:2: error:") and code in said and named in said
