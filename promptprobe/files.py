"""Files that are whole or not there: write beside the target, then rename."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from .errors import InputError
from .options import check


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write each file under a temporary name, and rename them all once everything is on the disk.

    Raises `InputError` when a folder can't be written or the disk is full; no file under its final name is half-written,
    and no folder that was made for it stays empty.
    """
    parts: list[tuple[str, Path]] = []
    made: list[Path] = []  # folders, the outermost first
    try:
        for path, data in contents.items():
            made += [p for p in reversed(path.parents) if not os.path.lexists(p)]
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
            parts.append((part, path))
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for part, path in parts:
            os.chmod(part, 0o666 & ~_umask())
            os.replace(part, path)
        made = []
    except OSError as error:
        raise InputError(f"can't write {error.filename or path}: {error.strerror}; choose another --out") from error
    finally:
        for part, _ in parts:
            if os.path.exists(part):
                os.unlink(part)
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()


def free_path(folder: Path, stem: str, ending: str) -> Path:
    """The first of `stem-1ending`, `stem-2ending`, ... in `folder` that is not there."""
    number = 1
    while (path := folder / f"{stem}-{number}{ending}").exists():
        number += 1
    return path


def lock_file(file: IO[Any]) -> None:
    """Lock an open file for this process alone, until it is closed; raises `OSError` when another process has it.

    Where the system or the file system (some over a network) has no such locks, nothing is locked.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise


def check_writable(folder: Path | str, said: str = "--out") -> Path:
    """Raise `InputError` now rather than after the work when nothing can be written in `folder`; it is not made yet.

    `said` is the option that names it.
    """
    wanted: Path = check("out", folder)
    try:
        there = next(path for path in (wanted, *wanted.absolute().parents) if _is_there(path))
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InputError(f"can't write to {str(wanted)!r}: {error.strerror}; choose another {said}") from error
    return wanted


def check_report(path: Path) -> None:
    """Raise `InputError` where no report can be written: in place of a folder, or as `check_writable`."""
    if path.is_dir():
        raise InputError(f"report is {str(path)!r}, a folder; choose another --report")
    check_writable(path.parent, "--report")


def make_folder(folder: Path) -> None:
    """Make a folder that work is kept in from now on; raises as `check_writable`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't write to {str(folder)!r}: {error.strerror}; choose another --out") from error
    check_writable(folder)


def check_picture(out: Path | str) -> Path:
    """The path of a PNG file to be written; raises `InputError` for another suffix, and as `check_writable`."""
    path: Path = check("out", out)
    if path.suffix.lower() != ".png":
        raise InputError(f"out is {str(path)!r}; it must end in .png")
    if path.is_dir():
        raise InputError(f"out is {str(path)!r}, a folder; choose another --out")
    check_writable(path.parent)
    return path


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def free_name(out: Path, prompt: str, seed: int) -> Path:
    """A path in `out` without ending, made of the prompt's first letters and the seed, under which no record lies."""
    stem = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40].strip("-") or "prompt"
    return free_path(out, f"{stem}-{seed}", ".json").with_suffix("")
