"""Score prompts: run them to the probe step in one batch, predict rewards, diagnose words.

This is what the command `score`, the loop and the benchmarks share. Who predicts is a judge (`judges`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from .diagnosis import WordDiagnosis, diagnose
from .errors import InputError
from .events import OnStep
from .judges import Judge
from .notebook import SHORT, figure, piece, short
from .paused import Paused
from .race import Race, Row
from .records import Origin
from .runner import Runner
from .tokens import PromptTokens


@dataclass(repr=False)
class Scored:
    """One prompt on all its seeds. `trajectories` are (paused batch, row), in the order of `seeds`.

    `errors` are the judge's standard errors of `predicted`, None where it doesn't know.
    `chosen` is the place of the seed to be finished where something else than `predicted` says so.
    `dropped` says why it was given up before the probe step; `predicted` then is an earlier step's. `calls` is how many
    denoiser calls it took on all seeds; one that was cut off counts as the part that was run.
    """

    prompt: str
    seeds: list[int]
    predicted: list[float]
    words: list[WordDiagnosis]
    cut_tokens: int
    token_limit: int
    maps: torch.Tensor = field(repr=False)  # [tokens, 1, height, width], mean over seeds and blocks
    tokens: PromptTokens = field(repr=False)
    trajectories: list[tuple[Paused, int]] = field(repr=False)
    dropped: str | None = None
    calls: float = 0
    chosen: int | None = None
    errors: list[float | None] = field(default_factory=list)

    @property
    def score(self) -> float:
        """Mean predicted reward over the seeds."""
        return sum(self.predicted) / len(self.predicted)

    @property
    def best(self) -> int:
        """Place in `seeds` of the one to be finished: that with the highest predicted reward, unless another is `chosen`."""
        if self.chosen is not None:
            return self.chosen
        return max(range(len(self.seeds)), key=lambda i: self.predicted[i])

    @property
    def trajectory(self) -> tuple[Paused, int] | None:
        """The paused batch and row of the best seed; None when it was freed."""
        return self.trajectories[self.best] if self.trajectories else None

    def __repr__(self) -> str:
        weak = ", ".join(dict.fromkeys(w.word for w in self.words if w.diffuse)) or "none"
        return f"<Scored {short(self.prompt)} predicted {self.score:.3f}, diffuse words: {weak if len(weak) <= SHORT else short(weak)}>"

    def _repr_html_(self) -> str:
        rows = [(w.word, figure(w.focus), figure(w.strength), "diffuse" if w.diffuse else "") for w in self.words]
        facts = {"predicted reward": figure(self.score), "given up": self.dropped}
        return piece(self.prompt, facts, ("word", "focus", "strength", ""), rows)


class Scorer(Runner):
    """A runner that scores prompts: `Scorer(pipeline, judge, steps, probe_step, settings)`, more as for `Runner`."""

    @property
    def origin(self) -> Origin:
        """Where its images come from."""
        return Origin.of(self.pipeline, self.model, self.steps, self.settings, self.loading)

    def score(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        on_step: OnStep | None = None,
        groups: Sequence[int] | None = None,
        winners: int | None = None,
        against: Sequence[str] | None = None,
    ) -> list[Scored]:
        """Score each prompt on each seed; raises `InputError` without prompts or seeds.

        With `early_step`, only prompts of one group (default: all) compete with each other. `winners` as for `Race.to`.
        `against[i]` is what the user asked for when prompt i is a rewrite of it (default: the prompt itself); a judge
        that measures previews measures them against that.
        """
        if not prompts or not seeds:
            raise InputError("give at least one prompt and one seed")
        each = range(len(prompts))
        groups = groups or [0] * len(prompts)
        race = Race(
            self, [(p, s) for p in prompts for s in seeds], competitors=[i for i in each for _ in seeds],
            groups=groups, against=None if against is None else [against[i] for i in each for _ in seeds],
            on_step=on_step, words=True,
        )  # fmt: skip
        done: dict[int, Scored] = {}
        if self.early_step is not None and len(set(groups)) < len(prompts):
            race.to(self.early_step)
            for competitor, why, rows in race.drop():
                done[competitor] = scored_of(race, rows)
                done[competitor].dropped, done[competitor].trajectories = why, []
        race.to(self.probe_step, winners=winners)
        rows_of: dict[int, list[Row]] = {}
        for row in race.alive:
            rows_of.setdefault(race.competitors[row.place], []).append(row)
        return [done[i] if i in done else scored_of(race, rows_of[i]) for i in each]

    def look_again(
        self,
        scored: Sequence[Scored],
        judge: Judge,
        step: int,
        against: Sequence[str],
        on_step: OnStep | None = None,
    ) -> list[Scored]:
        """The same prompts judged anew by `judge` at `step`, no earlier than where they are paused.

        `against[i]` is what the image of `scored[i]` is measured against. Trajectories that are paused earlier are denoised
        on. Raises `InputError` when a trajectory is beyond `step`, and as the judge does.
        """
        own = [i for i, s in enumerate(scored) for _ in s.trajectories]
        at = [place for s in scored for place in s.trajectories]
        race = Race(
            self, [(p.prompts[row], p.seeds[row]) for p, row in at], against=[against[i] for i in own], on_step=on_step
        )
        # Those of one batch stay together.
        race.alive = sorted((Row(n, *place) for n, place in enumerate(at)), key=lambda r: id(r.paused))
        race.to(step, judge)
        result = [replace(s, predicted=[], trajectories=[], errors=[]) for s in scored]
        for row in sorted(race.alive):
            again = result[own[row.place]]
            again.predicted.append(race.value(row.place))
            again.errors.append(race.error(row.place))
            again.trajectories.append((row.paused, row.row))  # type: ignore[arg-type]  # it is somewhere by now
            again.calls += race.calls[row.place]
        return result


def scored_of(race: Race, rows: list[Row]) -> Scored:
    """What is known of one prompt's trajectories at the race's step."""
    at = [(r.paused, r.row) for r in rows if r.paused is not None]
    paused, first = at[0]
    tokens = paused.tokens[first]
    maps = torch.stack([p.token_maps[race.step][j, : len(tokens.columns)] for p, j in at]).mean(0)
    return Scored(
        prompt=paused.prompts[first], seeds=[p.seeds[j] for p, j in at], predicted=[race.value(r.place) for r in rows],
        words=diagnose(maps, tokens), cut_tokens=tokens.cut, token_limit=tokens.limit, maps=maps, tokens=tokens,
        trajectories=at, errors=[race.error(r.place) for r in rows], calls=sum(race.calls[r.place] for r in rows),
    )  # fmt: skip
