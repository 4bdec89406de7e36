"""Images that are handed out by address: files of an hour, under names that can't be guessed."""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path

HOUR = 3600.0  # seconds that an image is kept; as OpenAI's addresses
MOST = 200


class KeptFiles:
    """A folder of its own, gone with the process. The latest `MOST` files are kept, for `seconds` at most."""

    def __init__(self, seconds: float = HOUR) -> None:
        self.seconds = seconds
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._names: dict[str, float] = {}  # and when they were kept, the oldest first

    def keep(self, data: bytes, ending: str) -> str:
        """The name under which `data` is found from now on."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="promptprobe-")
        self._forget(MOST - 1)
        name = f"{secrets.token_urlsafe(16)}.{ending}"
        (Path(self._folder.name) / name).write_bytes(data)
        self._names[name] = time.monotonic()
        return name

    def find(self, name: str) -> Path | None:
        """Where a file lies; None for one that was never kept, or is no more."""
        self._forget(MOST)
        return Path(self._folder.name) / name if self._folder is not None and name in self._names else None

    def _forget(self, most: int) -> None:
        old = [n for n, at in self._names.items() if time.monotonic() - at > self.seconds]
        for name in [*old, *list(self._names)[: max(0, len(self._names) - len(old) - most)]]:
            if self._names.pop(name, None) is not None and self._folder is not None:
                (Path(self._folder.name) / name).unlink(missing_ok=True)
