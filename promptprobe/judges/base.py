"""What every judge can be asked. A new judge needs a name, a label, its needs and `judge`; the rest has defaults."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..observation import Observation


@dataclass(frozen=True)
class Judgement:
    """What a judge says of one trajectory: the reward that it predicts, and the standard deviation of its error among
    the seeds of one prompt, None when it doesn't know."""

    predicted: float
    uncertainty: float | None = None


@dataclass(frozen=True)
class Needs:
    """What a judge must be shown: token maps or none, of which blocks (none named: any will do), the clean latents or
    not, the guidance gap or not.

    A step that is judged by its maps alone can be cut off after the last of the blocks.
    """

    blocks: tuple[str, ...] = ()
    clean: bool = False
    gap: bool = False
    maps: bool = True

    @property
    def whole_step(self) -> bool:
        """Whether the denoiser call of the judged step must be run to its end."""
        return self.clean or self.gap or not self.maps


class Judge(ABC):
    """Says, at a paused step, how good the finished image will be.

    `name` is the judge's own, `label` what it predicts (a reward's name). A `calibrated` one knows τ as quantiles and
    probabilities; of another, τ can only be a number.
    """

    name: str
    label: str
    needs: Needs = Needs()
    calibrated: bool = False

    @abstractmethod
    def judge(self, seen: Observation) -> list[Judgement]:
        """What it thinks of each row of `seen`, in order. Higher is better."""

    def ranks_seeds(self, step: int, steps: int) -> float | None:
        """How well it is known to rank the seeds of a prompt at a step, as a rank correlation; None where that is unknown."""
        return None

    @property
    def objective(self) -> dict[str, float]:
        """What is predicted, as weights by label."""
        return {self.label: 1.0}

    @property
    def digest(self) -> str:
        """Short text that is equal for judges that say the same: results of a batch are kept by it."""
        return self.label

    def looks(self, steps: int) -> list[int]:
        """The steps of a run of `steps` at which it can look."""
        return list(range(1, steps))

    def check(
        self, pipeline: Any, *, steps: int, probe_step: int, early_step: int | None, settings: Mapping[str, Any]
    ) -> list[str]:
        """Warnings about a run in which it is to judge at these steps.

        Raises `InputError` or `ProbeMismatchError` when it can't.
        """
        if early_step is not None and not 1 <= early_step < probe_step:
            raise InputError(
                f"early step is {early_step}; it must lie between 1 and {probe_step - 1}, before the probe step"
            )
        return []

    def warning(self, seen: Observation) -> str | None:
        """What is odd about `seen`, in a line; None when nothing is."""
        return None

    def quantile(self, share: float, step: int, steps: int) -> float:
        """The prediction below which `share` (0..1) of all images lie at a step. Raises `InputError` when unknown."""
        raise InputError(self._uncalibrated(f"q{share:g}"))

    def balanced(self, step: int, steps: int) -> float:
        """The prediction at which a gate makes the fewest mistakes of both kinds; raises as `quantile`."""
        raise InputError(self._uncalibrated("balanced"))

    def surely(self, wanted: float, chance: float, step: int, steps: int) -> float:
        """The prediction from which on the reward exceeds `wanted` with probability `chance`; raises as `quantile`."""
        raise InputError(self._uncalibrated(f"{wanted:g}@{chance:g}"))

    def _uncalibrated(self, tau: str) -> str:
        return (
            f"tau is {tau!r}, but the judge {self.name!r} is not calibrated and has no quantiles; "
            "give a number, or judge with a trained probe"
        )


def by_row(predicted: Sequence[float], uncertainty: float | None = None) -> list[Judgement]:
    """Judgements of all rows, as sure of one as of another."""
    return [Judgement(value, uncertainty) for value in predicted]
