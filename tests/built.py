"""What is built from the repository: a wheel of exactly the packages' files, which does the main job where it is installed,
and an sdist of the whole repository, whose own tests run.

Nothing is built in the repository itself but in a copy, so that nothing lying around gets in.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from imports import MAPPED, PACKAGE

ROOT = Path(__file__).resolve().parent.parent
JOB = "a trio of cobalt felines on a cream backdrop"
QUICK = "tests/test_rewards.py"  # it needs the sdist's packages, test modules and data


class FailedError(Exception):
    """A check that did not pass; its text says what was wrong where the tool has not said it."""


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> None:
    """Run a command to its end, its output shown; raises `FailedError` unless it ends with 0."""
    if subprocess.run([str(c) for c in command], cwd=cwd, env={**os.environ, **environment}).returncode:
        raise FailedError(f"failed: {' '.join(Path(str(c)).name for c in command[:6])}")


def check() -> None:
    """Build in a new folder, compare files, install, run; raises `FailedError`."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        wheel, sdist = make(work)
        wrong = wrong_files(work / "source", wheel, sdist)
        if wrong:
            raise FailedError("; ".join(wrong))
        python = work / "venv" / "bin" / "python"
        # Not compiled: of torch's modules few are used here.
        constrained: list[str | Path] = [
            python, "-m", "pip", "install", "-q", "--no-compile", "-c", ROOT / "constraints.txt",
        ]  # fmt: skip
        run(sys.executable, "-m", "venv", work / "venv", cwd=work)
        run(*constrained, "torch", cwd=work)
        run(*constrained, wheel, cwd=work)
        do_the_job(python.parent / PACKAGE, work / "elsewhere")
        # As users type-check: their own script, with the installed package.
        run(sys.executable, "-m", "pytest", ROOT / "tests/test_typed.py", cwd=work, PROMPTPROBE_INSTALLED=str(python))
        with tarfile.open(sdist) as archive:
            archive.extractall(work / "unpacked", filter="data")
        (unpacked,) = (work / "unpacked").iterdir()
        run(*constrained, "pytest", cwd=work)
        run(python, "-m", "pip", "install", "-q", "--no-deps", "-e", unpacked, cwd=work)
        run(python, "-m", "pytest", "--collect-only", "-qq", "tests", cwd=unpacked)
        run(python, "-m", "pytest", QUICK, cwd=unpacked)


def make(work: Path) -> tuple[Path, Path]:
    """Copy the repository's files to `work/source` and build there; the wheel is made of the sdist."""
    for file in repository_files():
        (work / "source" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, work / "source" / file)
    run(sys.executable, "-m", "build", "--quiet", "--outdir", work / "dist", work / "source", cwd=work)
    (wheel,) = (work / "dist").glob("*.whl")
    (sdist,) = (work / "dist").glob("*.tar.gz")
    print(f"wheel {wheel.stat().st_size / 1e6:.1f} MB, sdist {sdist.stat().st_size / 1e6:.1f} MB", flush=True)
    return wheel, sdist


def repository_files() -> list[str]:
    """What git knows or would take; where there is no git, as in an unpacked sdist, every file but caches."""
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
        return [f for f in listed if f and (ROOT / f).is_file()]
    names = (f.relative_to(ROOT) for f in ROOT.rglob("*") if f.is_file())
    return [str(f) for f in names if not any(p[0] == "." or p in ("__pycache__", "venv") for p in f.parts)]


def wrong_files(source: Path, wheel: Path, sdist: Path) -> list[str]:
    """Files that the wheel or the sdist lacks or has too many, in words.

    A wheel has every file of the package folders and nothing else; an sdist every file but hidden ones.
    """
    files = {str(f.relative_to(source)) for f in source.rglob("*") if f.is_file()}
    files = {f for f in files if ".egg-info/" not in f and "__pycache__" not in f}
    installed = {f for f in files if f.startswith(f"{PACKAGE}/")}
    installed |= {f"{PACKAGE}/{f}" for f in files if f.split("/")[0] in MAPPED}
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {n for n in archive.namelist() if ".dist-info/" not in n and n[-1] != "/"}
    with tarfile.open(sdist) as archive:
        in_sdist = {m.name.split("/", 1)[1] for m in archive.getmembers() if m.isfile()}
    in_sdist -= {f for f in in_sdist if ".egg-info/" in f or f in ("PKG-INFO", "setup.cfg")}
    shown = {f for f in files if not any(part[0] == "." for part in f.split("/"))}
    typed = {f"{PACKAGE}/{folder}py.typed" for folder in ("", *(f"{m}/" for m in MAPPED))}
    wrong = []
    for kind, wanted, found in (("wheel", installed | typed, in_wheel), ("sdist", shown, in_sdist)):
        wrong += [f"the {kind} lacks {f}" for f in sorted(wanted - found)]
        wrong += [f"the {kind} has {f}, which is no file of the repository's" for f in sorted(found - wanted)]
    return wrong


def do_the_job(command: Path, folder: Path) -> None:
    """README's first command where nothing else is: it must leave an image, its record and heat maps."""
    folder.mkdir()
    run(command, "optimize", JOB, cwd=folder, PYTHONPATH="", HF_HUB_OFFLINE="1")
    records = list(folder.glob("runs/*.json"))
    if len(records) != 1:
        raise FailedError(f"the main job left {len(records)} records in {os.listdir(folder)}")
    record = json.loads(records[0].read_text("utf-8"))
    image = folder / record["image"]
    if record["prompt"] != JOB or not image.read_bytes().startswith(b"\x89PNG"):
        raise FailedError(f"the main job's record says {record['prompt']!r} and names {image}, which is no PNG")
