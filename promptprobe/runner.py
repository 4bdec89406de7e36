"""A pipeline and its judge at work: batches that fit in memory are denoised to a step and judged; what it takes is counted.

Comes in: (prompt, seed) pairs, or rows of paused batches. Goes out: paused batches, and a judgement of each trajectory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from .backbones import probed_blocks, share_until
from .errors import InputError
from .events import OnStep
from .judges import Judge, Judgement
from .observation import observe
from .paused import Paused
from .trajectory import advance, start

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Runner:
    """A pipeline and the judge of its trajectories, checked against each other once; counts what it spends.

    `settings` go to the pipeline's call. `warnings` has one line for everything in which a run differs from what the
    judge was made for. With `early_step`, prompts that are scored together are looked at there first, and those that
    can hardly be the best are not denoised any further.
    """

    pipeline: Any
    judge: Judge
    steps: int
    probe_step: int
    settings: dict[str, Any]
    batch_size: int = 32
    early_step: int | None = None
    denoiser_calls: float = 0
    denoising_seconds: float = 0.0
    probe_seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    model: str | None = None  # None: a pipeline handed over from Python
    loading: dict[str, Any] = field(default_factory=dict)
    judge_asked: bool = True  # whether a person chose the judge
    find_decoder: Callable[[], Any] | None = field(default=None, repr=False)  # of previews, called once it is needed

    def __post_init__(self) -> None:
        self.admit(self.judge)

    def admit(self, judge: Judge) -> None:
        """Check a judge against the run; raises what `Judge.check` raises."""
        told = judge.check(
            self.pipeline, steps=self.steps, probe_step=self.probe_step, early_step=self.early_step,
            settings=self.settings,
        )  # fmt: skip
        self.warnings += [w for w in told if w not in self.warnings]

    @property
    def decoder(self) -> Any:
        """What decodes previews, loaded when it is first asked for; None is the pipeline's own."""
        return self.find_decoder() if self.find_decoder else None

    @property
    def label(self) -> str:
        """What is predicted: a reward's name, or the head of the largest weight."""
        return self.judge.label

    @property
    def objective(self) -> dict[str, float]:
        """What is predicted, as weights by label."""
        return self.judge.objective

    @property
    def share(self) -> float:
        """How much of a denoiser call the judge has to see, 0..1."""
        return self.share_of(self.judge)

    def share_of(self, judge: Judge) -> float:
        """How much of a denoiser call a judge has to see, 0..1."""
        return 1.0 if judge.needs.whole_step else share_until(self.pipeline, self.blocks_of(judge))

    def blocks_of(self, judge: Judge, words: bool = False) -> list[str]:
        """The blocks that are watched for a judge: those that it needs; of one that reads no maps none, unless `words` are to
        be diagnosed."""
        if not (judge.needs.maps or words):
            return []
        return list(judge.needs.blocks) or probed_blocks(self.pipeline)

    def cuts(self, count: int, winners: int | None, judge: Judge | None = None) -> bool:
        """Whether cutting off the judged step of `count` trajectories saves more than `winners` of them cost once more."""
        return winners is not None and count * (1 - self.share_of(judge or self.judge)) > winners

    def begin(
        self,
        pairs: Sequence[tuple[str, int]],
        step: int,
        judge: Judge,
        on_step: OnStep | None = None,
        cut: bool = False,
        words: bool = False,
    ) -> Paused:
        """Denoise new trajectories to `step`, watched for `judge` and, if so, for a diagnosis of the `words`."""
        began = time.perf_counter()
        paused = start(
            self.pipeline, [p for p, _ in pairs], [s for _, s in pairs], steps=self.steps, stop=step,
            blocks=self.blocks_of(judge, words), on_step=on_step, cut=cut, gap=judge.needs.gap,
            **self.settings,
        )  # fmt: skip
        return self._counted(paused, began, self.calls_of(paused, step, judge))

    def go_on(
        self,
        paused: Paused,
        rows: Sequence[int],
        step: int,
        judge: Judge,
        on_step: OnStep | None = None,
        cut: bool = False,
        words: bool = False,
    ) -> Paused:
        """Denoise rows of a paused batch on to `step`, watched as in `begin`."""
        began = time.perf_counter()
        further = advance(
            self.pipeline, paused, rows, stop=step, blocks=self.blocks_of(judge, words), on_step=on_step, cut=cut,
            gap=judge.needs.gap,
        )  # fmt: skip
        return self._counted(further, began, self.calls_of(further, step, judge) - paused.step)

    def _counted(self, paused: Paused, began: float, calls: float) -> Paused:
        self.denoising_seconds += time.perf_counter() - began
        self.denoiser_calls += len(paused) * calls
        return paused

    def calls_of(self, paused: Paused, step: int, judge: Judge) -> float:
        """Denoiser calls from the beginning to the judging of `step`, which may have been cut off."""
        return step if paused.step == step else paused.step + self.share_of(judge)

    def judged(
        self,
        paused: Paused,
        step: int,
        judge: Judge | None = None,
        against: Sequence[str] | None = None,
        rows: Sequence[int] | None = None,
    ) -> list[Judgement]:
        """What `judge` (default: the runner's) says of a batch at a watched step; `against` and `rows` as for `observe`."""
        judge = judge or self.judge
        began = time.perf_counter()
        seen = observe(paused, step, rows, against)
        judgements = judge.judge(seen)
        warning = judge.warning(seen)
        if warning and warning not in self.warnings:
            self.warnings.append(warning)
        self.probe_seconds += time.perf_counter() - began
        return judgements

    def fitting(
        self, items: Sequence[Item], work: Callable[[list[Item]], Result], key: Callable[[Item], Any] | None = None
    ) -> Iterator[Result]:
        """Results of `work` on batches of at most `batch_size` items; those of one batch have the same `key` object.

        When the device is out of memory, the batch size is halved for good, a warning says so, and no item is lost.
        Raises `InputError` when even one item does not fit.
        """
        i = 0
        while i < len(items):
            batch = list(items[i : i + self.batch_size])
            if key is not None:
                same = [key(x) is key(batch[0]) for x in batch]
                batch = batch[: same.index(False)] if False in same else batch
            try:
                result = work(batch)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise InputError(
                        "the device is out of memory with one image; use --offload model, --dtype bfloat16 or a smaller "
                        "--height and --width"
                    ) from error
            else:
                i += len(batch)
                yield result
                continue
            # Out here: while the error is being handled, its traceback holds all that was on the device.
            self.batch_size = len(batch) // 2
            self.warnings.append(f"out of memory with {len(batch)} images at once; going on with {self.batch_size}")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
