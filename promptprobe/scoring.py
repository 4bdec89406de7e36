"""Score prompts: run them to the probe step in one batch, predict rewards, diagnose words.

This is what the command `score`, the loop and the benchmarks share.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from .backbones import share_until
from .diagnosis import WordDiagnosis, diagnose
from .errors import InputError, ProbeMismatchError
from .pipelines import check_probe, check_timestep
from .probe import Probe
from .records import Origin
from .tokens import PromptTokens
from .trajectory import Paused, advance, start

HOPELESS = 0.1  # what has less than this chance to be the best is given up
Row = tuple[Paused, int, float]  # a trajectory and its predicted reward
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Scored:
    """One prompt on all its seeds. `trajectories` are (paused batch, row), in the order of `seeds`.

    `dropped` says why it was given up before the probe step; `predicted` then is an earlier step's. `calls` is how many
    denoiser calls it took on all seeds; one that was cut off counts as the part that was run.
    """

    prompt: str
    seeds: list[int]
    predicted: list[float]
    words: list[WordDiagnosis]
    cut_tokens: int
    token_limit: int
    maps: torch.Tensor = field(repr=False)  # [tokens, blocks, height, width], mean over seeds
    tokens: PromptTokens = field(repr=False)
    trajectories: list[tuple[Paused, int]] = field(repr=False)
    dropped: str | None = None
    calls: float = 0

    @property
    def score(self) -> float:
        """Mean predicted reward over the seeds."""
        return sum(self.predicted) / len(self.predicted)

    @property
    def best(self) -> int:
        """Place in `seeds` of the one with the highest predicted reward."""
        return max(range(len(self.seeds)), key=lambda i: self.predicted[i])


@dataclass
class Scorer:
    """A pipeline and its probe, checked against each other once; counts what it spends.

    `warnings` has one line for everything in which the run differs from what the probe was trained for. With
    `early_step`, prompts that are scored together are looked at there first, and those that can hardly be the best are
    not denoised any further. `objective` weighs the probe's heads (default: the first alone).
    """

    pipeline: Any
    probe: Probe
    steps: int
    probe_step: int
    settings: dict[str, Any]
    batch_size: int = 32
    early_step: int | None = None
    objective: dict[str, float] = field(default_factory=dict)
    share: float = field(default=1.0, init=False)
    denoiser_calls: float = 0
    denoising_seconds: float = 0.0
    probe_seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    model: str | None = None  # None: a pipeline handed over from Python
    loading: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.warnings += check_probe(
            self.probe, self.pipeline, steps=self.steps, probe_step=self.probe_step, settings=self.settings
        )
        # How much of a denoiser call the probe has to see.
        needs_all = self.probe.card.variant == "latents"
        self.share = 1.0 if needs_all else share_until(self.pipeline, self.probe.card.blocks)
        self.objective = self.objective or {self.probe.card.labels[0]: 1.0}
        steps = self.probe.card.probe_steps
        if self.early_step is not None and not (
            self.early_step < self.probe_step and (self.early_step in steps or self.steps != self.probe.card.steps)
        ):
            earlier = ", ".join(str(k) for k in steps if k < self.probe_step) or "none"
            raise ProbeMismatchError(
                f"early step is {self.early_step}; this probe has these steps before step {self.probe_step}: {earlier}"
            )

    @property
    def origin(self) -> Origin:
        """Where its images come from."""
        return Origin.of(self.pipeline, self.model, self.steps, self.settings, self.loading)

    def score(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        on_step: Callable[[int], None] | None = None,
        groups: Sequence[int] | None = None,
        winners: int | None = None,
    ) -> list[Scored]:
        """Score each prompt on each seed; raises `InputError` without prompts or seeds.

        With `early_step`, only prompts of one group (default: all) compete with each other. Told how many trajectories
        will go on at most (`winners`), the denoiser does no more in the probed step than the probe needs to see, where
        that saves more than making the winners' step anew costs.
        """
        if not prompts or not seeds:
            raise InputError("give at least one prompt and one seed")
        pairs = [(p, s) for p in prompts for s in seeds]
        count = len(seeds)
        groups = groups or [0] * len(prompts)
        rows: list[Row] = []
        if self.early_step is None or len(set(groups)) == len(prompts):
            cut = self.cuts(len(pairs), winners)
            for part in self.fitting(pairs, lambda batch: self._probed(batch, self.probe_step, on_step, cut)):
                rows += part
            return [self._scored(rows[i * count : (i + 1) * count], self.probe_step) for i in range(len(prompts))]
        early = self.early_step
        for part in self.fitting(pairs, lambda batch: self._probed(batch, early, on_step)):
            rows += part
        looked = [self._scored(rows[i * count : (i + 1) * count], early) for i in range(len(prompts))]
        spread = self.probe.card.uncertainty(self.label, self.known_step(early)) * math.sqrt(2 / count)
        best = {g: max(s.score for s, own in zip(looked, groups, strict=True) if own == g) for g in set(groups)}
        alive: list[tuple[Paused, int, int]] = []
        for i, (s, group) in enumerate(zip(looked, groups, strict=True)):
            chance = 0.5 * math.erfc((best[group] - s.score) / max(spread, 1e-9) / math.sqrt(2))
            if chance < HOPELESS:
                s.dropped = f"a chance of {chance:.2f} to be the best at step {early}"
                s.trajectories = []
            else:
                alive += [(paused, row, i) for paused, row in s.trajectories]
        later: dict[int, list[Row]] = {}
        cut = self.cuts(len(alive), winners)
        for part, places in self.fitting(alive, lambda batch: self._advanced(batch, on_step, cut), lambda a: a[0]):
            for row, place in zip(part, places, strict=True):
                later.setdefault(place, []).append(row)
        return [self._scored(later[i], self.probe_step) if i in later else s for i, s in enumerate(looked)]

    def cuts(self, count: int, winners: int | None) -> bool:
        """Whether cutting off the probed step of `count` trajectories saves more than `winners` of them cost once more."""
        return winners is not None and count * (1 - self.share) > winners

    def _probed(
        self, batch: Sequence[tuple[str, int]], stop: int, on_step: Callable[[int], None] | None, cut: bool = False
    ) -> list[Row]:
        began = time.perf_counter()
        paused = start(
            self.pipeline, [p for p, _ in batch], [s for _, s in batch], steps=self.steps, stop=stop,
            blocks=self.probe.card.blocks, on_step=on_step, cut=cut, **self.settings,
        )  # fmt: skip
        return self._counted(paused, stop, began, 0)

    def _advanced(
        self, batch: Sequence[tuple[Paused, int, int]], on_step: Callable[[int], None] | None, cut: bool
    ) -> tuple[list[Row], list[int]]:
        began = time.perf_counter()
        before = batch[0][0]
        paused = advance(
            self.pipeline, before, [row for _, row, _ in batch], stop=self.probe_step, blocks=self.probe.card.blocks,
            on_step=on_step, cut=cut,
        )  # fmt: skip
        return self._counted(paused, self.probe_step, began, before.step), [place for _, _, place in batch]

    def calls_of(self, paused: Paused, step: int) -> float:
        """Denoiser calls from the beginning to the probing of `step`, which may have been cut off."""
        return step if paused.step == step else paused.step + self.share

    def _counted(self, paused: Paused, step: int, began: float, before: int) -> list[Row]:
        """Predictions of a batch probed at `step`; what it took since step `before` is added up."""
        probing = time.perf_counter()
        predicted = self.predict(paused, step)
        self.denoising_seconds += probing - began
        self.probe_seconds += time.perf_counter() - probing
        self.denoiser_calls += len(paused) * (self.calls_of(paused, step) - before)
        return [(paused, j, value) for j, value in enumerate(predicted)]

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
                self.batch_size = len(batch) // 2
                self.warnings.append(f"out of memory with {len(batch)} images at once; going on with {self.batch_size}")
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            i += len(batch)
            yield result

    def known_step(self, step: int) -> int:
        """The step that the probe's card knows which lies as far in the run as `step` does in ours."""
        card = self.probe.card
        return min(card.probe_steps, key=lambda k: (abs(k / card.steps - step / self.steps), k))

    @property
    def label(self) -> str:
        """The head that τ and uncertainty are taken from: the one of the largest weight."""
        return max(self.objective, key=lambda name: abs(self.objective[name]))

    def predict(self, paused: Paused, step: int) -> list[float]:
        """Predicted rewards of a paused batch after a watched step."""
        warning = check_timestep(self.probe, self.steps, step, paused.timesteps[step])
        if warning and warning not in self.warnings:
            self.warnings.append(warning)
        return self.probe.predict(
            paused.token_maps[step], [len(t.columns) for t in paused.tokens], paused.timesteps[step],
            paused.token_embeddings, paused.clean_latents.get(step), self.objective or None,
        )  # fmt: skip

    def _scored(self, rows: list[Row], step: int) -> Scored:
        paused, first, _ = rows[0]
        tokens = paused.tokens[first]
        own = [p.token_maps[step][j, : len(tokens.columns)] for p, j, _ in rows]
        maps = torch.stack(own).mean(0)
        return Scored(
            prompt=paused.prompts[first], seeds=[p.seeds[j] for p, j, _ in rows], predicted=[v for _, _, v in rows],
            words=diagnose(maps, tokens), cut_tokens=tokens.cut, token_limit=tokens.limit, maps=maps, tokens=tokens,
            trajectories=[(p, j) for p, j, _ in rows], calls=sum(self.calls_of(p, step) for p, _, _ in rows),
        )  # fmt: skip
