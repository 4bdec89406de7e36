"""What reading token maps costs: a step of a FLUX-shaped denoiser plain, with the tap, and with full attention matrices.

    python benchmarks/attention_cost.py [--sides 16 24 32] [--tokens 40] [--repeats 3]

Each way and size runs in a process of its own, so that its peak memory can be told. Ten of 24 blocks are read. The full
way is what attention tools usually do: softmax(q kᵀ) of every probed block as one tensor, then the text's columns.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

WAYS = ("plain", "tap", "full")
TEXT = 512


def denoiser():
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(0)
    return FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=8, num_single_layers=16, attention_head_dim=64, num_attention_heads=8,
        joint_attention_dim=256, pooled_projection_dim=64, guidance_embeds=False, axes_dims_rope=(8, 28, 28),
    ).eval()  # fmt: skip


class Holder:
    """As much of a pipeline as a tap needs."""

    unet = None

    def __init__(self, transformer):
        self.transformer = transformer


def call(side: int) -> dict:
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    places = torch.stack([torch.zeros_like(rows), rows, columns], -1).flatten(0, 1).float()
    return {
        "hidden_states": torch.randn(1, side * side, 64), "encoder_hidden_states": torch.randn(1, TEXT, 256),
        "pooled_projections": torch.randn(1, 64), "timestep": torch.tensor([0.8]), "img_ids": places,
        "txt_ids": torch.zeros(TEXT, 3), "return_dict": False,
    }  # fmt: skip


@torch.no_grad()
def measure(way: str, side: int, tokens: int, repeats: int) -> dict[str, float]:
    """Median seconds of one denoiser call, and the process's peak memory in MiB."""
    from promptprobe import AttentionTap

    model, arguments = denoiser(), call(side)
    tap = AttentionTap(Holder(model))
    times = []
    for repeat in range(repeats + 1):
        began = time.perf_counter()
        if way == "plain":
            model(**arguments)
        elif way == "tap":
            with tap:
                tap.arm([tuple(range(tokens))])
                model(**arguments)
                tap.token_maps()
        else:
            with full_matrices(model, tap.blocks, tokens):
                model(**arguments)
        if repeat:
            times.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": statistics.median(times), "peak": peak}


class full_matrices:
    """softmax(q kᵀ) of the probed blocks, whole, as attention tools usually read it."""

    def __init__(self, model, blocks, tokens):
        self.modules = {m: n for n, m in model.named_modules() if n in blocks}
        self.tokens, self.inside, self.kept = tokens, False, []

    def __enter__(self):
        self.original = F.scaled_dot_product_attention
        self.hooks = [m.register_forward_pre_hook(lambda *_: setattr(self, "inside", True)) for m in self.modules]

        def attention(query, key, value, *args, **kwargs):
            if self.inside:
                self.inside = False
                matrix = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1)
                self.kept.append(matrix[:, :, TEXT:, : self.tokens].mean(1))
            return self.original(query, key, value, *args, **kwargs)

        F.scaled_dot_product_attention = attention
        return self

    def __exit__(self, *exc):
        F.scaled_dot_product_attention = self.original
        for hook in self.hooks:
            hook.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[16, 24, 32])
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("WAY", "SIDE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one[0], int(args.one[1]), args.tokens, args.repeats)))
        return
    table = Table("image tokens", "way", "seconds a step", "on top", "of five steps", "peak MiB", "on top MiB")
    for side in args.sides:
        got = {}
        for way in WAYS:
            command = [sys.executable, __file__, "--one", way, str(side), "--tokens", str(args.tokens)]
            command += ["--repeats", str(args.repeats)]
            got[way] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        base = got["plain"]
        for way, figures in got.items():
            share = figures["seconds"] / base["seconds"] - 1
            table.add_row(
                str(side * side), way, f"{figures['seconds']:.3f}", f"{100 * share:+.1f} %", f"{20 * share:+.1f} %",
                f"{figures['peak']:.0f}", f"{figures['peak'] - base['peak']:+.0f}",
            )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
