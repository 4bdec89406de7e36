"""Every check of the project by one command: `python tests/check.py [STAGE ...]`; without stages all of them, as below,
but for `house`, whose tests are among the suite's.

    lint        ruff
    format      ruff's formatter
    types       mypy over both packages, tests and benchmarks
    house       the order of imports, what is public, help without torch
    faults      each check finds a planted fault (tests/test_check.py)
    tests       the suite, on two processes of one thread, with PyTorch's kernels for AVX2
    processors  the tests that compare numbers once more, with two threads and the kernels of other processors
    build       wheel and sdist: their files, the main job from the wheel in a new environment, the sdist's own tests

Each stage prints its time. The first that fails ends the run with exit code 1 and is named in the last line.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import built
from built import FailedError, run
from imports import MAPPED, PACKAGE, link_packages

ROOT = Path(__file__).resolve().parent.parent
PYTEST = [sys.executable, "-m", "pytest"]

# What processors compute with: PyTorch's own kernels, oneDNN's, MKL's, and the number of threads.
COMMON = {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"}
PLAIN = {
    "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE",  # yields, as cores are few
}  # fmt: skip


def lint() -> None:
    """ruff's rules over every file of the tree."""
    run(sys.executable, "-m", "ruff", "check", ".")


def formatting() -> None:
    """ruff's format over every file of the tree."""
    run(sys.executable, "-m", "ruff", "format", "--check", ".")


def types() -> None:
    """mypy over every folder of the tree that holds Python, the packages laid out as they are installed.

    In the repository `promptprobe.agents` is the folder `agents`, where mypy would take it for a package of that name.
    So it reads a tree of links; paths are printed as they are in the repository.
    """
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        link_packages(tree)
        others = [f for f in python_folders() if f not in (PACKAGE, *MAPPED)]
        for folder in others:
            (tree / folder).symlink_to(ROOT / folder)
        command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), PACKAGE, *others]
        kept = {"MYPY_CACHE_DIR": os.environ.get("MYPY_CACHE_DIR", str(ROOT / ".mypy_cache"))}
        done = subprocess.run(command, cwd=tree, env={**os.environ, **kept}, capture_output=True, text=True)
    shown = [line for line in done.stdout.splitlines() if "[annotation-unchecked]" not in line]
    print(
        re.sub(rf"^{PACKAGE}/({'|'.join(MAPPED)})/", r"\1/", "\n".join(shown), flags=re.MULTILINE), done.stderr, end=""
    )
    if done.returncode:
        raise FailedError("mypy found errors")


def python_folders() -> list[str]:
    """Folders of the repository's root that hold Python files; what tools leave there isn't meant."""
    made = ("build", "dist", "data", "runs", "checkpoints")
    return sorted(
        f.name
        for f in ROOT.iterdir()
        if f.is_dir() and f.name[0] != "." and f.name not in made and any(f.rglob("*.py"))
    )


def house() -> None:
    """Quick: the order of imports, public names, help without torch."""
    run(*PYTEST, "tests/test_house.py")


def faults() -> None:
    """Each check of this file finds what is planted for it."""
    run(*PYTEST, "-m", "slow", "tests/test_check.py", "-n", "2")


def tests() -> None:
    """The suite on two processes of one thread each, which suits two cores better than one process of two."""
    run(*PYTEST, "-n", "2", "--dist", "loadfile", "--durations", "10", cwd=ROOT, **COMMON)


def processors() -> None:
    """The tests marked `numbers` under `PLAIN`; the suite has them under `COMMON`."""
    command = [*PYTEST, "-m", "numbers and not slow", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile"]
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, **PLAIN}, capture_output=True, text=True)
    named = " ".join(f"{k}={v}" for k, v in PLAIN.items())
    print(f"{named}: {ran.stdout if ran.returncode else ran.stdout.strip().splitlines()[-1]}", flush=True)
    if ran.returncode:
        raise FailedError(f"numbers differ under {named}")


def build() -> None:
    """Wheel and sdist; see `built.py`."""
    built.check()


STAGES: dict[str, Callable[[], None]] = {
    "lint": lint, "format": formatting, "types": types, "house": house, "faults": faults, "tests": tests, "processors": processors,
    "build": build,
}  # fmt: skip


def main(chosen: list[str]) -> int:
    """Run the chosen stages in their order; the exit code."""
    unknown = [name for name in chosen if name not in STAGES]
    if unknown:
        print(f"no stage {', '.join(unknown)}; there are {', '.join(STAGES)}", file=sys.stderr)
        return 2
    took = []
    for name in [s for s in STAGES if s in chosen or (not chosen and s != "house")]:
        print(f"== {name}", flush=True)
        before, failure = time.monotonic(), None
        try:
            STAGES[name]()
        except FailedError as error:
            failure = error
        took.append(f"{name} {time.monotonic() - before:.0f} s")
        print(f"== {took[-1]}", flush=True)
        if failure is not None:
            print(f"FAILED in {name}: {failure}", flush=True)
            return 1
    print(f"all passed: {', '.join(took)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
