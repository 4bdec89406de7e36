"""One iteration: groups are walked, filtered, finished and learned from; its figures go out as a row.

Comes in: a policy, prompts, a reward, a judge. Goes out: a policy that has taken one step, and what it cost.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import InputError
from ..judges import Judge
from ..rewards import RewardFunction, reward_name
from .finished import Finished, figures_of
from .keeping import Correction, keep
from .objective import clipped_loss, divergence, group_advantages
from .policy import Policy
from .rollout import Batch, begin, complete
from .sde import log_probability, sde_mean

BACKWARD = 2  # what a backward pass costs, in forward passes


@dataclass
class Recipe:
    """How it learns. `groups` prompts of `size` trajectories an iteration; with a filter `wider` times as many are begun."""

    groups: int = 4
    size: int = 8
    filter: str = "probe"
    filter_step: int = 2
    share: float = 0.5
    wider: float = 1.0
    least_spread: float = 0.0
    rate: float = 3e-4
    clip: float = 1e-3
    kl: float = 0.01
    passes: int = 1
    likelihood: str = "path"
    draws: int = 3
    batch_size: int = 32
    margin: float = 0.0
    seed: int = 0


@dataclass
class Learner:
    """A policy that learns; `correction` and `optimizer` move with it. `share_of` processes, this one is number `process`."""

    policy: Policy
    reward: RewardFunction
    prompts: Sequence[str]
    recipe: Recipe
    judge: Judge | None = None
    decoder: Any = None
    accelerator: Any = None
    iteration: int = 0
    updates: int = 0
    range: tuple[float, ...] = ()  # least and greatest reward so far
    calls: float = 0.0
    seconds: float = 0.0
    correction: Correction = field(default_factory=Correction)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(
            self.policy.parameters.values(), lr=self.recipe.rate, weight_decay=0.0, betas=(0.9, 0.99)
        )
        self.seen: list[tuple[str, float, Image.Image]] = []  # of the last iteration

    @property
    def processes(self) -> int:
        return self.accelerator.num_processes if self.accelerator else 1

    @property
    def process(self) -> int:
        return self.accelerator.process_index if self.accelerator else 0

    def step(self) -> dict[str, Any]:
        """One iteration; a row of figures. Raises `InputError` for rewards that are no numbers, or always the same."""
        began, r = time.perf_counter(), self.recipe
        filtered = r.filter != "none"
        stop = r.filter_step if filtered or self.judge is not None else max(1, self.policy.noisy)
        started = self._begin(stop)
        groups = [g for b in started for g in b.groups]
        scores = None
        if self.judge is not None:
            scores = self.correction(torch.cat([b.predicted for b in started if b.predicted is not None]), groups)
        kept = list(range(len(groups)))
        if filtered:
            way = "random" if r.filter == "random" else "tails"
            most = math.ceil(r.groups / self.processes)
            kept = keep(
                groups, scores, share=r.share, way=way, most_groups=most, least_spread=r.least_spread,
                seed=r.seed * 1_000_003 + self.iteration,
            )  # fmt: skip
        done, place = [], 0
        for batch in started:
            rows = [i - place for i in kept if place <= i < place + len(batch)]
            place += len(batch)
            if rows:
                done.append(complete(self.policy, batch, rows, self.reward, self.decoder))
        sampled = len(groups) * stop + len(kept) * (self.policy.steps - stop)
        del started
        own = Finished.of(done, None if scores is None else scores[kept])
        parts = self._gathered(own)
        everyone = Finished.joined(parts)
        self._check(everyone.rewards)
        advantages = group_advantages(everyone.rewards, everyone.groups)
        first = sum(len(p.groups) for p in parts[: self.process])
        trained, learned = self._learn(done, advantages[first : first + len(own.groups)])
        row = figures_of(everyone, r.margin)
        if everyone.views is not None:
            self.correction.learn(everyone.views, everyone.rewards, everyone.groups)
        self.seen = [
            (p, float(v), i) for b in done for p, v, i in zip(b.paused.prompts, b.rewards, b.images, strict=True)
        ]
        self.iteration += 1
        self.calls += self.total(sampled + trained)
        self.seconds += time.perf_counter() - began
        counts = {"begun": int(self.total(len(groups))), "kept": len(everyone.groups)}
        return {
            "iteration": self.iteration,
            "calls": self.calls,
            "seconds": round(self.seconds, 2),
            **counts,
            **row,
            **learned,
        }

    def _begin(self, stop: int) -> list[Batch]:
        """This process's groups of the iteration, walked to the step `stop`; all chance is the seed's and the iteration's."""
        r = self.recipe
        rng = np.random.default_rng([r.seed, self.iteration])
        many = math.ceil(r.groups * (r.wider if r.filter != "none" else 1.0))
        chosen = rng.choice(len(self.prompts), size=many, replace=many > len(self.prompts))
        seeds = rng.integers(0, 2**62, size=(many, r.size)).tolist()
        mine = [i for i in range(many) if i % self.processes == self.process]
        return list(
            begin(
                self.policy, [(i, self.prompts[chosen[i]], seeds[i]) for i in mine], stop=stop, judge=self.judge,
                batch_size=r.batch_size,
            )
        )  # fmt: skip

    def _check(self, rewards: torch.Tensor) -> None:
        """Raise `InputError` when the reward has been one and the same from the beginning."""
        least, most = self.range or (math.inf, -math.inf)
        self.range = (min(least, float(rewards.min())), max(most, float(rewards.max())))
        if self.iteration and self.range[0] == self.range[1]:
            raise InputError(
                f"the reward {reward_name(self.reward)!r} is {self.range[0]:g} for every image so far, so there is nothing to "
                "learn; give another --reward, or other prompts"
            )

    def _learn(self, done: list[Batch], advantages: torch.Tensor) -> tuple[float, dict[str, Any]]:
        """Steps of the optimizer on all kept trajectories; forward and backward passes in units of one call, and figures."""
        r, policy = self.recipe, self.policy
        places = list(range(policy.noisy))
        if r.likelihood == "matching":
            places = sorted(
                np.random.default_rng([r.seed, self.iteration, 1]).permutation(policy.steps - 1)[: r.draws].tolist()
            )
        total = self.total(float(len(advantages) * len(places)))
        spent, told = 0.0, {"kl": 0.0, "clipped": 0.0, "gradient": 0.0}
        before: dict[tuple[int, ...], torch.Tensor] = {}
        for _ in range(r.passes):
            self.optimizer.zero_grad()
            at = 0
            for batch in done:
                own = advantages[at : at + len(batch)]
                at += len(batch)
                for i in range(0, len(batch), r.batch_size):
                    rows = [j for j in range(i, min(i + r.batch_size, len(batch))) if float(own[j]) or r.kl]
                    for step in places if rows else ():
                        make = self._matched if r.likelihood == "matching" else self._walked
                        now, was, far, calls = make(batch, rows, step)
                        was = before.setdefault((at, i, step), was)
                        losses = clipped_loss(now, was, own[rows].to(now.device), r.clip)
                        losses = losses if far is None else losses + r.kl * far
                        (losses.sum() * (self.processes / total)).backward()
                        spent += calls
                        told["clipped"] += (
                            float(((now - was).detach().exp() - 1).abs().gt(r.clip).sum()) / total / r.passes
                        )
                        told["kl"] += 0.0 if far is None else float(far.detach().sum()) / total / r.passes
            told["gradient"] = self._step()
        return spent, told

    def _walked(
        self, batch: Batch, rows: list[int], step: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, float]:
        """Log-probabilities of a noisy step, now and when it was taken, the distance to the base, and what it cost."""
        policy, solver = self.policy, batch.paused.scheduler
        sample, taken, before = solver.path[step][rows], solver.path[step + 1][rows], solver.means[step][rows]
        levels = solver.levels_of(step)

        def mean() -> torch.Tensor:
            velocity = policy.velocity(batch.paused, rows, step, sample)
            return sde_mean(sample, velocity, levels[0], levels[1], policy.level, levels[2])[0]

        deviation = sde_mean(sample[:1], sample[:1], levels[0], levels[1], policy.level, levels[2])[1]
        own = mean()
        now, was = log_probability(taken, own, deviation), log_probability(taken, before, deviation)
        if not self.recipe.kl:
            return now, was, None, len(rows) * (1.0 + BACKWARD)
        with torch.no_grad(), policy.base():
            base = mean()
        return now, was, divergence(own, base, deviation), len(rows) * (2.0 + BACKWARD)

    def _matched(
        self, batch: Batch, rows: list[int], step: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, float]:
        """The same of finished latents with fresh noise: how well the denoiser matches the way back to them.

        Source: Advantage Weighted Matching, arXiv:2509.25050: one likelihood for learning and for pre-training, of less
        variance than the walked path's; it needs no noise while sampling, and no guidance.
        """
        policy, clean = self.policy, batch.paused.latents[rows].float()
        noise = torch.stack([self._noise(step, batch.groups[i], clean.shape[1:]) for i in rows]).to(clean.device)
        sigma = batch.paused.scheduler.levels_of(step)[0]
        sample = ((1 - sigma) * clean + sigma * noise).to(batch.paused.latents.dtype)
        velocity = policy.velocity(batch.paused, rows, step, sample, guided=False).float()
        now = -(velocity - (noise - clean)).square().flatten(1).mean(1)
        cost = len(rows) * (0.5 if policy.guided else 1.0)
        if not self.recipe.kl:
            return now, now.detach(), None, cost * (1 + BACKWARD)
        with torch.no_grad(), policy.base():
            base = policy.velocity(batch.paused, rows, step, sample, guided=False).float()
        return now, now.detach(), (velocity - base).square().flatten(1).mean(1), cost * (2 + BACKWARD)

    def _noise(self, step: int, group: int, shape: torch.Size) -> torch.Tensor:
        """One noise for a whole group: its advantages sum to zero, so that what is the noise's own cancels out."""
        numbers = np.random.default_rng([self.recipe.seed, self.iteration, step, group])
        return torch.randn(shape, generator=torch.Generator().manual_seed(int(numbers.integers(2**62))))

    def _step(self) -> float:
        """Mean the gradient over all processes and take a step; the gradient's norm before it was clipped to 1."""
        weights = [p for p in self.policy.parameters.values()]
        for p in weights:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            if self.processes > 1:
                p.grad = self.accelerator.reduce(p.grad, "mean")
        norm = float(torch.nn.utils.clip_grad_norm_(weights, 1.0))
        if not math.isfinite(norm):
            raise InputError(f"the gradient is {norm}; use --dtype float32 or a smaller --learning-rate")
        self.optimizer.step()
        self.updates += 1
        return norm

    def _gathered(self, own: Finished) -> list[Finished]:
        """What every process has, in the order of the processes."""
        if self.processes == 1:
            return [own]
        from accelerate.utils import gather_object

        found: list[Finished] = gather_object([own])
        return found

    def total(self, value: float) -> float:
        """The sum over all processes."""
        if self.processes == 1:
            return value
        return float(self.accelerator.reduce(torch.tensor(value, device=self.accelerator.device), "sum"))
