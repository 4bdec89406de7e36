"""What a batch left in its folder, as records: `read_results("results")`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from ..errors import InputError
from ..notebook import figure, frame, picture_or_none, piece
from ..records import RunRecord
from .batch_folder import RESULTS, result_lines

SHOWN = 24  # pictures in a notebook


class BatchResults(Sequence[RunRecord]):
    """The finished prompts of a batch in order, and in `failed` the lines of those that could not be made."""

    def __init__(self, folder: Path, records: Sequence[RunRecord], failed: Sequence[dict[str, Any]]):
        """Records of a `folder`: `records` that are finished, lines of those that `failed`."""
        self.folder, self.failed = folder, list(failed)
        self._records = list(records)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> RunRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[RunRecord]: ...
    def __getitem__(self, index: int | slice) -> RunRecord | list[RunRecord]:
        return self._records[index]

    def __iter__(self) -> Iterator[RunRecord]:
        return iter(self._records)

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for each prompt. Raises `InputError` where pandas isn't installed."""
        rows: list[dict[str, Any]] = [
            {
                "prompt": r.prompt, "best_prompt": r.best_prompt, "unchanged": r.unchanged, "predicted_reward": r.predicted_reward,
                "reward": r.reward, "seed": r.seed, "rounds": r.rounds, "stop_reason": r.stop_reason,
                "steps": r.denoiser_calls["used"], "steps_for_all": r.denoiser_calls["full"], "seconds": r.seconds.get("loop"),
                "llm_requests": r.llm["requests"], "llm_tokens": r.llm["input_tokens"] + r.llm["output_tokens"],
                "cost": r.llm.get("cost"), "image": r.image_file, "error": None,
            }
            for r in self
        ]  # fmt: skip
        return frame([*rows, *({"prompt": line.get("prompt"), "error": line["error"]} for line in self.failed)])

    def __repr__(self) -> str:
        more = f", {len(self.failed)} failed" if self.failed else ""
        return f"<BatchResults {str(self.folder)!r} {len(self)} prompts{more}>"

    def _repr_html_(self) -> str:
        shown = [(f"{r.best_prompt} ({figure(r.reward)})", picture_or_none(r)) for r in self[:SHOWN]]
        facts = {"failed": len(self.failed) or None, "shown": f"the first {SHOWN}" if len(self) > SHOWN else None}
        return piece(f"{len(self)} prompts of {self.folder}", facts, pictures=shown)


def read_results(folder: Path | str) -> BatchResults:
    """The results of the batch in `folder`, also of one that is still running or was interrupted: what is finished.

    Raises `InputError` when `folder` holds no batch.
    """
    folder = Path(folder)
    try:
        text = (folder / RESULTS).read_text("utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{str(folder)!r} holds no batch: it has no {RESULTS}; give the batch's --out") from error
    lines = {line["key"]: line for line in result_lines(text) if isinstance(line.get("key"), str)}
    good = [line for line in lines.values() if not line.get("error")]
    return BatchResults(
        folder,
        [RunRecord.from_dict(line, folder) for line in good],
        [line for line in lines.values() if line.get("error")],
    )
