"""One resumable training loop for every model of the icon world.

Comes in: modules, a loss function of the step's random generator, a step count. Goes out: averaged weights.
A checkpoint is one safetensors file, so that a killed run continues where it was and gives the same weights. Under
`torchrun` each process draws batches of its own and the gradients are averaged.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

log = logging.getLogger("promptprobe.icons")


def fit(
    modules: nn.ModuleDict,
    loss: Callable[[np.random.Generator], tuple[torch.Tensor, dict[str, float]]],
    *,
    steps: int,
    lr: float,
    checkpoint: Path,
    seed: int = 0,
    warmup: int = 200,
    average: float = 0.995,
    every_seconds: float = 120.0,
    weight_decay: float = 0.01,
    muon: bool = False,
) -> nn.ModuleDict:
    """Minimise `loss` with AdamW, linear warm-up and cosine decay; return the modules with averaged weights.

    `loss` gets a generator that depends on (seed, step, process) alone and returns (scalar, figures to log). With `muon`,
    weight matrices and convolution kernels are updated by Muon (Jordan, 2024), everything else by AdamW.
    """
    rank = dist.get_rank() if dist.is_initialized() else 0
    named = [(n, p) for n, p in modules.named_parameters() if p.requires_grad]
    # A matrix shares its storage with the parameter; Muon takes two dimensions only.
    matrices = {n: _matrix(p.data, p) for n, p in named if muon and p.ndim >= 2 and "embedding" not in n}
    matrices = {n: nn.Parameter(m) for n, m in matrices.items()}
    rest = {n: p for n, p in named if n not in matrices}
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest.values(), lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay)
    ]
    if matrices:
        optimizers.append(
            torch.optim.Muon(matrices.values(), lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    trained = {**rest, **matrices}
    averaged = {n: p.detach().clone() for n, p in named}
    start = _load(checkpoint, named, averaged, trained, optimizers) if checkpoint.exists() else 0
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {}
    began = saved = time.monotonic()
    for step in range(start, steps):
        scale = min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * max(scale, 0.01)
        torch.manual_seed(hash((seed, step, rank)) % 2**31)
        value, parts = loss(np.random.default_rng([seed, step, rank]))
        modules.zero_grad()
        value.backward()
        if dist.is_initialized():
            _average_gradients([p for _, p in named])
        nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        for name, p in named:
            if name in matrices:
                assert p.grad is not None  # every trained parameter takes part in the loss
                matrices[name].grad = _matrix(p.grad, p)
        for optimizer in optimizers:
            optimizer.step()
        decay = min(average, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_([averaged[n] for n, _ in named], [p for _, p in named], 1 - decay)
        for key, v in parts.items():
            figures[key] = 0.98 * figures.get(key, v) + 0.02 * v
        if (step + 1) % 100 == 0 and rank == 0:
            seconds = time.monotonic() - began
            shown = " ".join(f"{k} {v:.4f}" for k, v in figures.items())
            log.info("step %d/%d %.0f s %.2f steps/s %s", step + 1, steps, seconds, (step + 1 - start) / seconds, shown)
        if rank == 0 and (time.monotonic() - saved > every_seconds or step + 1 == steps):
            saved = time.monotonic()
            _save(checkpoint, named, averaged, trained, optimizers, step + 1)
    with torch.no_grad():
        for n, p in named:
            p.copy_(averaged[n])
    return modules


def join_processes() -> int:
    """Join the other processes that `torchrun` started; the number of this one, 0 when alone."""
    if "RANK" not in os.environ:
        return 0
    dist.init_process_group("gloo")
    return dist.get_rank()


def _matrix(values: torch.Tensor, parameter: nn.Parameter) -> torch.Tensor:
    """`values` as a matrix with one row an output, columns in the order in which the parameter lies in memory."""
    if parameter.ndim == 4 and not parameter.is_contiguous():  # channels last
        values = values.permute(0, 2, 3, 1)
    return values.flatten(1)


def _average_gradients(parameters: list[nn.Parameter]) -> None:
    """One message for all gradients; every process gets the same sum, so weights never drift apart."""
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad = part.view_as(p)


def _save(path: Path, named: list, averaged: dict, trained: dict, optimizers: list, step: int) -> None:
    tensors = {}
    for name, p in named:
        tensors[f"weight/{name}"] = p.detach()
        tensors[f"average/{name}"] = averaged[name]
        for optimizer in optimizers:
            for key, value in optimizer.state.get(trained[name], {}).items():
                tensors[f"{key}/{name}"] = value
    part = path.with_suffix(".part")
    save_file({k: v.contiguous() for k, v in tensors.items()}, part, metadata={"step": str(step)})
    os.replace(part, path)


def _load(path: Path, named: list, averaged: dict, trained: dict, optimizers: list) -> int:
    with safe_open(path, "pt") as file, torch.no_grad():
        step = int(file.metadata()["step"])
        state: dict[str, dict[str, torch.Tensor]] = {}
        for full in file.keys():  # noqa: SIM118 - a safetensors file is no dict
            key, name = full.split("/", 1)
            state.setdefault(name, {})[key] = file.get_tensor(full)
        for name, p in named:
            entries = state[name]
            p.copy_(entries.pop("weight"))
            averaged[name].copy_(entries.pop("average"))
            optimizer = next(
                o for o in optimizers if any(q is trained[name] for g in o.param_groups for q in g["params"])
            )
            optimizer.state[trained[name]] = entries
    log.info("resumed from %s at step %d", path, step)
    return step
