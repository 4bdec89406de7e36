"""Find the best seeds of a prompt for the least compute: probe all early, finish few.

Comes in: a scorer, a prompt, seeds. Goes out: a `SeedSelection`: what each seed was thought worth, when it was dropped,
and the finished images of the best. Policies: `fixed` (all to the probe step, the best goes on; the paper's), `racing`
(the hopeless are dropped at several stages, by the probe's own uncertainty), `decoded` and `decoded-racing` (as `fixed` and
`racing`, but at the last stage what the step predicts is decoded and measured with the reward model, in place of the
probe), `full` (everything is generated and measured).
Source: Diffusion Probe, arXiv:2602.23783, §3.4; successive elimination: Even-Dar et al., JMLR 2006.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from PIL import Image

from .errors import InputError, ProbeMismatchError
from .records import whole
from .rewards import RewardFunction, measure
from .scoring import HOPELESS, Scorer
from .tokens import clean_prompt
from .trajectory import Paused, advance, finish, preview, start

POLICIES = ("racing", "fixed", "decoded-racing", "decoded", "full")
STAGES = ((2, 0.7), (3, 0.3), (5, 0.2), (7, 0.1))  # racing: at this step of 25, at most this share of the seeds goes on


@dataclass
class SeedRecord:
    """One (prompt, seed): predicted reward after each probed step, where it stopped, and its measured reward if it was
    finished."""

    prompt: str
    seed: int
    predicted: dict[int, float] = field(default_factory=dict)
    stopped_at: int = 0
    why: str = ""
    reward: float | None = None
    image: str | None = None

    @property
    def last(self) -> float:
        """The latest prediction; minus infinity before there is one."""
        return self.predicted[max(self.predicted)] if self.predicted else -math.inf


@dataclass
class SeedSelection:
    """The outcome of a search. `best` are seeds, the best first; `winners` their records, `images` theirs."""

    prompt: str
    policy: str
    best: list[int]
    seeds: list[SeedRecord]
    winners: list[SeedRecord] = field(repr=False)
    denoiser_calls: float
    full_calls: int
    seconds: float
    notes: list[str]
    images: list[Image.Image] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the images."""
        values = {k: v for k, v in vars(self).items() if k not in ("images", "seeds", "winners")}
        return values | {"seeds": [asdict(s) for s in self.seeds]}


def select_seed(
    scorer: Scorer,
    prompt: str,
    seeds: Sequence[int],
    *,
    policy: str = "racing",
    top: int = 1,
    diverse: float = 0.0,
    reward: RewardFunction | None = None,
    on_event: Callable[[str, dict[str, Any]], None] | None = None,
) -> SeedSelection:
    """Find the `top` best of `seeds` for `prompt` and finish their images.

    `diverse` (0..1) trades predicted reward against likeness to the seeds already taken. `reward` measures the finished
    images; `full` needs it. A seed whose latents or prediction is not a number is out, and `notes` says so. On Ctrl-C
    the best so far is still finished when something was probed.

    Raises `InputError` for no or repeated seeds, `top` out of range, an unknown policy, or when every seed is out.
    """
    prompt = clean_prompt(prompt)
    repeated = [s for s in seeds if list(seeds).count(s) > 1]
    if repeated:
        raise InputError(f"seed {repeated[0]} is given twice; each seed makes one image")
    pairs = [(prompt, s) for s in seeds]
    return select_pair(
        scorer, pairs, policy=policy, top=top, diverse=diverse, reward=reward, judge=prompt, on_event=on_event
    )


def select_pair(
    scorer: Scorer,
    pairs: Sequence[tuple[str, int]],
    *,
    policy: str = "racing",
    top: int = 1,
    diverse: float = 0.0,
    reward: RewardFunction | None = None,
    judge: str | None = None,
    on_event: Callable[[str, dict[str, Any]], None] | None = None,
) -> SeedSelection:
    """As `select_seed`, over (prompt, seed) pairs: wordings and seeds compete in one batch, each text encoded once.

    `judge` is the prompt that finished images are measured against (default: each one's own).
    """
    _check([s for _, s in pairs], top, policy, diverse)
    decodes = policy.startswith("decoded")
    if (decodes or policy == "full") and reward is None:
        raise InputError(f"policy {policy} measures images: give a reward")
    began = time.perf_counter()
    records = [SeedRecord(clean_prompt(p), s) for p, s in pairs]
    run = _Race(scorer, records, judge, on_event)
    if policy == "full":
        images = run.everything(reward)  # type: ignore[arg-type]
        chosen = _diverse([r.reward or 0.0 for r in run.records[: len(images)]], top, diverse, None)
        kept = [(run.records[i], images[i]) for i in chosen]
    else:
        try:
            for step, most in _stages(scorer, policy, len(pairs), top):
                last = most == top
                run.to(step, winners=top if last and not decodes else None)
                if last and decodes:
                    run.measure_previews(reward)  # type: ignore[arg-type]
                run.drop(most, top)
                if len(run.alive) <= top:
                    break
        except KeyboardInterrupt:
            if not run.alive:
                raise
            run.notes.append("interrupted: the best so far was finished")
        kept = run.finish(top, diverse)
        if reward is not None:
            values = measure(reward, [image for _, image in kept], [judge or r.prompt for r, _ in kept]).tolist()
            for (record, _), value in zip(kept, values, strict=True):
                record.reward = round(value, 5)
    return SeedSelection(
        prompt=judge or records[0].prompt, policy=policy, best=[r.seed for r, _ in kept], seeds=run.records,
        winners=[r for r, _ in kept], denoiser_calls=whole(run.calls), full_calls=len(pairs) * scorer.steps,
        seconds=round(time.perf_counter() - began, 4), notes=[*scorer.warnings, *run.notes],
        images=[image for _, image in kept],
    )  # fmt: skip


def _check(seeds: Sequence[int], top: int, policy: str, diverse: float) -> None:
    if policy not in POLICIES:
        raise InputError(f"policy is {policy!r}; it must be one of {', '.join(POLICIES)}")
    if not seeds:
        raise InputError("no seeds; give at least one")
    for s in seeds:
        if not 0 <= s < 2**63:
            raise InputError(f"seed is {s}; it must be between 0 and 2^63 - 1")
    if not 1 <= top <= len(seeds):
        raise InputError(f"top is {top}; it must be between 1 and {len(seeds)}, the number of seeds")
    if not 0 <= diverse <= 1:
        raise InputError(f"diverse is {diverse}; it must be between 0 and 1")


def _stages(scorer: Scorer, policy: str, count: int, top: int) -> list[tuple[int, int]]:
    """(step, how many may go on) of a policy; racing takes the probe's nearest steps."""
    card = scorer.probe.card
    if policy in ("fixed", "decoded") or count <= top:
        return [(scorer.probe_step, top)]
    stages: list[tuple[int, int]] = []
    for k, share in STAGES:
        known = min(card.probe_steps, key=lambda have: abs(have / card.steps - k / 25))
        step = max(1, round(known * scorer.steps / card.steps))
        if stages and step <= stages[-1][0]:
            stages.pop()
        stages.append((step, max(top, math.ceil(share * count - 1e-9))))
    if len(stages) < 2:
        raise ProbeMismatchError(
            f"racing needs a probe of several steps, this one is for step {card.probe_steps[0]}; use --policy fixed"
        )
    several = [stage for stage in stages[:-1] if stage[1] > top]
    return [*several, (stages[len(several)][0], top)]


class _Race:
    """Trajectories on their way; `alive` are (paused batch, row, place in `records`)."""

    def __init__(self, scorer: Scorer, records: list[SeedRecord], judge: str | None, on_event):
        self.scorer, self.records, self.judge = scorer, records, judge
        self.on_event = on_event or (lambda event, values: None)
        self.alive: list[tuple[Paused, int, int]] = []
        self.step = 0
        self.calls: float = 0
        self.notes: list[str] = []

    def to(self, step: int, winners: int | None = None) -> None:
        """Denoise everything alive to `step` and predict; `winners` as for `Scorer.score`."""
        scorer = self.scorer
        waiting = self.alive if self.step else [(None, 0, i) for i in range(len(self.records))]
        arrived: list[tuple[Paused, int, int]] = []
        cut = scorer.cuts(len(waiting), winners)
        watched: dict[str, Any] = {"stop": step, "watch": (step,), "blocks": scorer.probe.card.blocks, "cut": cut}
        for paused, places in scorer.fitting(waiting, lambda batch: self._moved(batch, step, watched), lambda a: a[0]):
            for row, (place, value) in enumerate(zip(places, scorer.predict(paused, step), strict=True)):
                record = self.records[place]
                record.stopped_at = step
                if math.isfinite(value) and bool(torch.isfinite(paused.latents[row]).all()):
                    record.predicted[step] = round(value, 5)
                    arrived.append((paused, row, place))
                else:
                    record.why = "not a number"
                    self.notes.append(f"seed {record.seed} gave values that are no numbers at step {step} and is out")
        if not arrived:
            raise InputError(
                f"all {len(waiting)} seeds gave values that are no numbers at step {step}; try --dtype float32"
            )
        self.alive, self.step = arrived, step
        self.on_event("probed", {"step": step, "seeds": [self.records[i] for _, _, i in arrived]})

    def _moved(self, batch: list, step: int, watched: dict[str, Any]) -> tuple[Paused, list[int]]:
        """One batch denoised to `step`, and the seeds' places."""
        scorer = self.scorer
        places = [place for _, _, place in batch]
        if self.step:
            paused = advance(scorer.pipeline, batch[0][0], [row for _, row, _ in batch], **watched)
        else:
            own = [self.records[i] for i in places]
            paused = start(
                scorer.pipeline, [r.prompt for r in own], [r.seed for r in own], steps=scorer.steps, **watched,
                **scorer.settings,
            )  # fmt: skip
        self.calls += len(batch) * (scorer.calls_of(paused, step) - self.step)
        return paused, places

    def measure_previews(self, reward: RewardFunction) -> None:
        """Put the reward of what each trajectory is heading for in place of the probe's prediction."""
        for batch in self.scorer.fitting(self.alive, list, lambda a: a[0]):
            images = preview(self.scorer.pipeline, batch[0][0], [row for _, row, _ in batch])
            records = [self.records[place] for _, _, place in batch]
            values = measure(reward, images, [self.judge or r.prompt for r in records]).tolist()
            for record, value in zip(records, values, strict=True):
                record.predicted[self.step] = round(value, 5)

    def drop(self, most: int, top: int) -> None:
        """Drop what can hardly be among the `top` any more, and all but the `most` best."""
        ranked = sorted(self.alive, key=lambda a: (-self.records[a[2]].last, a[2]))
        bar = self.records[ranked[min(top, len(ranked)) - 1][2]].last
        card = self.scorer.probe.card
        spread = (
            card.uncertainty(self.scorer.label, self.scorer.known_step(self.step)) * math.sqrt(2)
            if most > top
            else math.inf
        )
        self.alive = []
        for i, runner in enumerate(ranked):
            record = self.records[runner[2]]
            chance = 0.5 * math.erfc((bar - record.last) / max(spread, 1e-9) / math.sqrt(2))
            if i >= max(most, top):
                record.why = f"not among the best {max(most, top)} at step {self.step}"
            elif chance < HOPELESS and i >= top:
                record.why = f"a chance of {chance:.2f} to be better at step {self.step}"
            else:
                self.alive.append(runner)
        self.on_event("dropped", {"step": self.step, "left": len(self.alive)})

    def finish(self, top: int, diverse: float) -> list[tuple[SeedRecord, Image.Image]]:
        """Finish the best `top` of what is alive."""
        latents = torch.stack([p.latents[row].float().flatten() for p, row, _ in self.alive])
        values = [self.records[place].last for _, _, place in self.alive]
        chosen = [self.alive[i] for i in _diverse(values, top, diverse, latents)]
        images: list[Any] = []

        def work(batch: list) -> Any:
            paused = batch[0][0]
            self.calls += len(batch) * (self.scorer.steps - paused.step)
            return finish(self.scorer.pipeline, paused, [row for _, row, _ in batch])

        for made in self.scorer.fitting(chosen, work, lambda a: a[0]):
            images += made
        result = [(self.records[place], image) for (_, _, place), image in zip(chosen, images, strict=True)]
        for record, _ in result:
            record.stopped_at, record.why = self.scorer.steps, "finished"
        return result

    def everything(self, reward: RewardFunction) -> list[Image.Image]:
        """Finish and measure all seeds."""
        scorer = self.scorer
        images: list[Image.Image] = []

        def work(batch: list[SeedRecord]) -> Any:
            paused = start(
                scorer.pipeline, [r.prompt for r in batch], [r.seed for r in batch], steps=scorer.steps,
                stop=scorer.steps, watch=(), **scorer.settings,
            )  # fmt: skip
            made: Any = finish(scorer.pipeline, paused)
            judged = [self.judge or r.prompt for r in batch]
            for record, value in zip(batch, measure(reward, made, judged).tolist(), strict=True):
                record.reward, record.stopped_at, record.why = round(value, 5), scorer.steps, "finished"
            self.calls += len(batch) * scorer.steps
            self.on_event("finished", {"seeds": batch})
            return made

        try:
            for made in scorer.fitting(self.records, work):
                images += made
        except KeyboardInterrupt:
            if not images:
                raise
            self.notes.append(f"interrupted: the best of the {len(images)} finished ones was kept")
        return images


def _diverse(values: Sequence[float], top: int, weight: float, features: torch.Tensor | None) -> list[int]:
    """Places of the `top` values, the best first; with `weight`, likeness to those already taken counts against one.

    Maximal marginal relevance (Carbonell and Goldstein, 1998), values scaled to 0..1, likeness the cosine of features.
    """
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    if not weight or features is None or top == 1:
        return order[:top]
    low, high = min(values), max(values)
    scaled = [(v - low) / max(high - low, 1e-9) for v in values]
    unit = torch.nn.functional.normalize(features, dim=1)
    taken = [order[0]]
    while len(taken) < min(top, len(values)):
        rest = [i for i in order if i not in taken]
        taken.append(max(rest, key=lambda i: (1 - weight) * scaled[i] - weight * float((unit[taken] @ unit[i]).max())))
    return taken
