"""Images that are handed out by address: files of an hour, under names that can't be guessed."""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path

from ..errors import PromptProbeError

HOUR = 3600.0  # seconds that an image is kept; as OpenAI's addresses
MOST = 200


class KeptFiles:
    """A folder of its own, gone with the process. The latest `MOST` files are kept, for `seconds` at most."""

    def __init__(self, seconds: float = HOUR) -> None:
        self.seconds = seconds
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._names: dict[str, float] = {}  # and when they were kept, the oldest first

    def keep(self, data: bytes, ending: str) -> str:
        """The name under which `data` is found from now on. Raises `PromptProbeError` where nothing can be written."""
        self._forget(MOST - 1)
        name = f"{secrets.token_urlsafe(16)}.{ending}"
        try:
            if self._folder is None or not Path(self._folder.name).is_dir():  # a long time: systems clean up
                self._folder = tempfile.TemporaryDirectory(prefix="promptprobe-")
            (Path(self._folder.name) / name).write_bytes(data)
        except OSError as error:
            raise PromptProbeError(
                f"the image is made but can't be kept in {tempfile.gettempdir()}: {error.strerror}"
            ) from error
        self._names[name] = time.monotonic()
        return name

    def find(self, name: str) -> Path | None:
        """Where a file lies; None for one that was never kept, or is no more."""
        self._forget(MOST)
        path = Path(self._folder.name) / name if self._folder is not None and name in self._names else None
        return path if path is not None and path.is_file() else None

    def _forget(self, most: int) -> None:
        old = [n for n, at in self._names.items() if time.monotonic() - at > self.seconds]
        for name in [*old, *list(self._names)[: max(0, len(self._names) - len(old) - most)]]:
            if self._names.pop(name, None) is not None and self._folder is not None:
                (Path(self._folder.name) / name).unlink(missing_ok=True)
