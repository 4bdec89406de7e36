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
from ..rewards import RewardFunction
from .keeping import Correction, keep, within_groups
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
    rate: float = 3e-4
    clip: float = 1e-3
    kl: float = 0.01
    passes: int = 1
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
        """One iteration; a row of figures. Raises `InputError` for rewards that are no numbers."""
        began, r = time.perf_counter(), self.recipe
        rng = np.random.default_rng([r.seed, self.iteration, self.process])
        many = math.ceil(r.groups * (r.wider if r.filter != "none" else 1.0))
        chosen = rng.choice(len(self.prompts), size=many, replace=many > len(self.prompts))
        seeds = rng.integers(0, 2**62, size=(many, r.size)).tolist()
        prompts = [self.prompts[i] for i in chosen]
        filtered = r.filter != "none"
        stop = r.filter_step if filtered else max(1, self.policy.noisy)
        started = list(
            begin(self.policy, prompts, seeds, stop=stop, judge=self.judge, batch_size=r.batch_size)
        )  # fmt: skip
        sampled = sum(len(b) for b in started) * stop
        groups = [g for b in started for g in b.groups]
        scores = None
        if self.judge is not None:
            views = torch.cat([b.predicted for b in started if b.predicted is not None])
            scores = self.correction(views, groups)
        if filtered:
            way = "random" if r.filter == "random" else "tails"
            kept = keep(groups, scores, share=r.share, way=way, most_groups=r.groups, seed=int(rng.integers(2**31)))
        else:
            kept = list(range(len(groups)))
        done, place = [], 0
        for batch in started:
            rows = [i - place for i in kept if place <= i < place + len(batch)]
            place += len(batch)
            if rows:
                done.append(complete(self.policy, batch, rows, self.reward, self.decoder))
        del started
        sampled += len(kept) * (self.policy.steps - stop)
        kept_groups = [g for b in done for g in b.groups]
        rewards = torch.cat([b.rewards for b in done])
        advantages = group_advantages(rewards, kept_groups)
        row = self._figures(done, rewards, kept_groups, scores, kept, groups)
        trained, more = self._learn(done, advantages)
        if self.judge is not None:
            self.correction.learn(torch.cat([b.predicted for b in done if b.predicted is not None]), rewards, kept_groups)
        self.seen = [(p, float(v), i) for b in done for p, v, i in zip(b.paused.prompts, b.rewards, b.images, strict=True)]
        self.iteration += 1
        self.calls += self._total(sampled + trained)
        self.seconds += time.perf_counter() - began
        return {"iteration": self.iteration, "calls": self.calls, "seconds": round(self.seconds, 2), "begun": len(groups),
                "kept": len(kept), **row, **more}  # fmt: skip

    def _figures(
        self, done: list[Batch], rewards: torch.Tensor, groups: list[int], scores: Any, kept: list[int], begun: list[int]
    ) -> dict[str, Any]:
        """Reward, its spread within groups, the share of valid samples, how well the judge foresaw the rewards."""
        within = [float(rewards[[i for i, g in enumerate(groups) if g == k]].std(correction=0)) for k in dict.fromkeys(groups)]
        mean = {k: float(rewards[[i for i, g in enumerate(groups) if g == k]].mean()) for k in dict.fromkeys(groups)}
        away = [abs(float(v) - mean[g]) for v, g in zip(rewards, groups, strict=True)]
        row = {
            "reward": float(rewards.mean()), "spread": float(np.mean(within)),
            "valid": float(np.mean([a > max(self.recipe.margin, 1e-6) for a in away])),
        }  # fmt: skip
        if scores is not None:
            raw = torch.cat([b.predicted for b in done if b.predicted is not None])[:, 0]
            row |= {
                "judge": within_groups(scores[kept], rewards, groups),
                "judge_uncorrected": within_groups(raw, rewards, groups),
            }
        return row

    def _learn(self, done: list[Batch], advantages: torch.Tensor) -> tuple[float, dict[str, Any]]:
        """Steps of the optimizer on all kept trajectories; forward and backward passes in units of one call, and figures."""
        r, policy = self.recipe, self.policy
        total = self._total(float(len(advantages) * policy.noisy))
        spent, told = 0.0, {"kl": 0.0, "clipped": 0.0, "gradient": 0.0}
        for _ in range(r.passes):
            self.optimizer.zero_grad()
            at = 0
            for batch in done:
                own = advantages[at : at + len(batch)]
                at += len(batch)
                for i in range(0, len(batch), r.batch_size):
                    rows = [j for j in range(i, min(i + r.batch_size, len(batch))) if float(own[j]) or r.kl]
                    for step in range(policy.noisy) if rows else ():
                        loss, figures, calls = self._loss(batch, rows, step, own[rows])
                        (loss * (self.processes / total)).backward()
                        spent += calls
                        for name, value in figures.items():
                            told[name] += value / total
            told["gradient"] = self._step()
        return spent, told

    def _loss(self, batch: Batch, rows: list[int], step: int, advantages: torch.Tensor) -> tuple[torch.Tensor, dict, float]:
        """Summed loss of one step of some trajectories."""
        policy, r, solver = self.policy, self.recipe, batch.paused.scheduler
        sample, taken, before = solver.path[step][rows], solver.path[step + 1][rows], solver.means[step][rows]
        sigma, following, largest = solver.levels_of(step)
        velocity = policy.velocity(batch.paused, rows, step, sample)
        mean, deviation = sde_mean(sample, velocity, sigma, following, policy.level, largest)
        now, was = log_probability(taken, mean, deviation), log_probability(taken, before, deviation)
        losses = clipped_loss(now, was, advantages.to(now.device), r.clip)
        calls = len(rows) * (1.0 + BACKWARD)
        figures = {"clipped": float(((now - was).exp().detach() - 1).abs().gt(r.clip).sum())}
        if r.kl:
            with torch.no_grad(), policy.base():
                base, _ = sde_mean(
                    sample, policy.velocity(batch.paused, rows, step, sample), sigma, following, policy.level, largest
                )
            far = divergence(mean, base, deviation)
            losses = losses + r.kl * far
            figures["kl"] = float(far.detach().sum())
            calls += len(rows)
        return losses.sum(), figures, calls

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
        return norm

    def _total(self, value: float) -> float:
        """The sum over all processes."""
        if self.processes == 1:
            return value
        return float(self.accelerator.reduce(torch.tensor(value, device=self.accelerator.device), "sum"))
