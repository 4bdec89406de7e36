"""What reading and pausing cost on a GPU, at real size with random weights in bfloat16.

    python benchmarks/gpu.py [--models SDXL FLUX.1-dev] [--seeds 4] [--steps 20] [--budget 450] [--out gpu.json]
    python benchmarks/gpu.py --size tiny      # a smoke test, on a CPU too

For SDXL, Stable Diffusion 3.5 large, FLUX.1-dev and Qwen-Image at 1024 pixels (cut in depth where memory ends): seconds a
step with and without the tap, the attention kernels that PyTorch chooses in a plain step (flash, efficient, cuDNN, math),
in how many probed blocks the kernel's own normaliser was used, with attention as flat as random weights make it and sharper
(queries times four: logits of about 15), peak memory, whether a paused run ends as an uninterrupted one, and the seconds of
two searches over seeds (all to 0.4 of the steps, previews by the model's own decoder or a tiny one, the best goes on)
against making all. Prints a table in Markdown, then JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from real_size import MODELS, Model, build, parameters_of, share_that_fits, sharpened
from torch.nn.attention import SDPBackend
from torch.overrides import TorchFunctionMode

from promptprobe import attention, finish, start
from promptprobe.backbones import denoiser_of, probed_blocks
from promptprobe.decoders import channels_of
from promptprobe.judges import PreviewJudge
from promptprobe.rewards import load_reward
from promptprobe.scoring import Scorer
from promptprobe.search import select_seed
from promptprobe.trajectory import preview_values

PROMPT = "a red fox in the snow at dawn, an oil painting of a small house near the sea with a boat"
TIMED = 6  # steps of the run whose steps are timed
SHARP = 4.0
NAMES = {SDPBackend(i).value: name for i, name in enumerate(("math", "flash", "efficient", "cuDNN"))}


class Kernels(TorchFunctionMode):
    """Counts which kernel PyTorch chooses for each attention."""

    def __init__(self) -> None:
        super().__init__()
        self.chosen: Counter[str] = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        given = dict(kwargs or {})
        if func is F.scaled_dot_product_attention:
            names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
            named = dict(zip(names, args, strict=False)) | given
            q, k, v = (named.pop(n) for n in names[:3])
            self.chosen[NAMES.get(torch._fused_sdp_choice(q, k, v, **named), "other")] += 1
        return func(*args, **given)


@contextmanager
def fast_path() -> Iterator[list[bool]]:
    """While inside, whether each normaliser that a kernel told was believed."""
    original, believed = attention._fits, []

    def fits(*args: Any) -> bool:
        believed.append(original(*args))
        return believed[-1]

    attention._fits = fits  # type: ignore[assignment]
    try:
        yield believed
    finally:
        attention._fits = original


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--models", nargs="+", default=[m.name for m in MODELS], choices=[m.name for m in MODELS])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20, help="of the searches")
    parser.add_argument("--pixels", type=int, help="of a side; default: 1024, tiny: 64")
    parser.add_argument("--share", type=float, help="of a denoiser's depth; default: what fits")
    parser.add_argument("--budget", type=float, default=450, help="seconds after which no further model is begun")
    parser.add_argument("--out", help="file for the JSON, written after each model")
    args = parser.parse_args()
    if args.size == "full" and torch.device(args.device).type == "cpu" and args.share is None:
        raise SystemExit("--size full needs a GPU; on a CPU use --size tiny")
    args.pixels = args.pixels or (1024 if args.size == "full" else 64)
    began, results = time.perf_counter(), []
    for model in MODELS:
        if model.name in args.models:
            late = time.perf_counter() - began > args.budget
            results.append({"model": model.name} | ({"error": "no time left"} if late else guarded(model, args)))
            if args.out:
                with open(args.out, "w") as file:
                    json.dump(about(args, results), file, indent=1)
    print(table(results), json.dumps(about(args, results)), sep="\n\n")


def about(args: argparse.Namespace, results: list[dict[str, Any]]) -> dict[str, Any]:
    """The results, with the machine and the versions."""
    import diffusers

    card = torch.cuda.get_device_name() if torch.device(args.device).type == "cuda" else "CPU"
    return {
        "device": card, "torch": torch.__version__, "diffusers": diffusers.__version__, "size": args.size,
        "pixels": args.pixels, "seeds": args.seeds, "steps": args.steps, "results": results,
    }  # fmt: skip


def guarded(model: Model, args: argparse.Namespace) -> dict[str, Any]:
    """What was measured, or the error: one model that fails costs the others nothing."""
    try:
        return measured(model, args)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@torch.no_grad()
def measured(model: Model, args: argparse.Namespace) -> dict[str, Any]:
    """Everything about one model, as plain values."""
    cuda = torch.device(args.device).type == "cuda"
    share = args.share or 1.0
    if cuda and args.size == "full" and args.share is None:
        share = share_that_fits(model, torch.cuda.mem_get_info()[0])
    pipeline = build(model, args.device, args.size, share)
    denoiser = denoiser_of(pipeline)
    settings = model.settings | {"height": args.pixels, "width": args.pixels}
    found: dict[str, Any] = {"parameters": sum(p.numel() for p in denoiser.parameters())}
    found["share_of_depth"] = 1.0 if args.size == "tiny" else round(found["parameters"] / parameters_of(model), 3)
    step_seconds(pipeline, settings, args, watched=False)  # warms up
    with Kernels() as kernels:
        start(pipeline, [PROMPT], [0], steps=TIMED, stop=1, watch=(), **settings)
    found["kernels"] = dict(kernels.chosen)
    found["step"], found["peak_gb"] = step_seconds(pipeline, settings, args, watched=False)
    found["step_watched"], found["peak_gb_watched"] = step_seconds(pipeline, settings, args, watched=True)
    found["blocks"] = len(probed_blocks(pipeline))
    with fast_path() as believed:
        held = start(pipeline, [PROMPT], [0], steps=TIMED, stop=2, **settings)
    found["fast_path"] = sum(believed)
    if sharpened(denoiser, SHARP):
        with fast_path() as believed:
            start(pipeline, [PROMPT], [0], steps=TIMED, stop=2, **settings)
        found["fast_path_sharp"] = sum(believed)
        sharpened(denoiser, 1 / SHARP)
    whole = start(pipeline, [PROMPT], [0], steps=TIMED, stop=TIMED, watch=(), **settings).latents.float()
    resumed = as_paused(finish(pipeline, held, output="latent"), whole)
    found["resumed_differs_by"] = float((resumed - whole).abs().max() / whole.abs().max())
    tiny = tiny_decoder(pipeline).to(args.device, torch.bfloat16)
    for name, decoder in (("full", None), ("tiny", tiny)):
        found[f"decode_{name}"] = decoding_seconds(pipeline, held, decoder, args)
    found |= searches(pipeline, settings, tiny, args)
    return {k: round(v, 5) if isinstance(v, float) else v for k, v in found.items()}


def step_seconds(
    pipeline: Any, settings: dict[str, Any], args: argparse.Namespace, watched: bool
) -> tuple[float, float]:
    """Median seconds of a step but the first, and the peak of memory in GB (0 on a CPU)."""
    cuda = torch.device(args.device).type == "cuda"
    ends: list[float] = []
    if cuda:
        torch.cuda.reset_peak_memory_stats()

    def on_step(step: int) -> None:
        synchronize(args)
        ends.append(time.perf_counter())

    watch = range(1, TIMED + 1) if watched else ()
    start(pipeline, [PROMPT], [0], steps=TIMED, stop=TIMED, watch=watch, on_step=on_step, **settings)
    took = [after - before for before, after in pairwise(ends)]
    return statistics.median(took), torch.cuda.max_memory_allocated() / 1e9 if cuda else 0.0


def decoding_seconds(pipeline: Any, held: Any, decoder: Any, args: argparse.Namespace) -> float:
    """Median seconds of one preview."""
    took = []
    for _ in range(4):
        synchronize(args)
        began = time.perf_counter()
        preview_values(pipeline, held, decoder=decoder)
        took.append(time.perf_counter() - began)
    return statistics.median(took[1:])


def searches(pipeline: Any, settings: dict[str, Any], tiny: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of making all seeds, and of two searches that decode early."""
    reward, seeds = load_reward("colourfulness"), range(args.seeds)
    found: dict[str, Any] = {}
    for name, policy, decoder in (("all", "full", None), ("full", "fixed", None), ("tiny", "fixed", tiny)):
        judge = PreviewJudge(pipeline, reward, decoder=decoder)
        scorer = Scorer(pipeline, judge, args.steps, round(0.4 * args.steps), dict(settings), batch_size=args.seeds)
        synchronize(args)
        began = time.perf_counter()
        selected = select_seed(scorer, PROMPT, seeds, policy=policy, reward=reward)
        synchronize(args)
        found[f"search_{name}"] = time.perf_counter() - began
        found[f"search_{name}_calls"] = float(selected.denoiser_calls)
    return found


def tiny_decoder(pipeline: Any) -> Any:
    """An `AutoencoderTiny` of TAESD's size for the pipeline's latents."""
    from diffusers import AutoencoderTiny

    levels = round(math.log2(pipeline.vae_scale_factor)) + 1
    return AutoencoderTiny(
        latent_channels=channels_of(pipeline.vae), encoder_block_out_channels=(64,) * levels,
        decoder_block_out_channels=(64,) * levels, num_encoder_blocks=(1,) + (3,) * (levels - 1),
        num_decoder_blocks=(3,) * (levels - 1) + (1,),
    )  # fmt: skip


def as_paused(latents: Any, like: torch.Tensor) -> torch.Tensor:
    """Final latents in the shape that they are paused in; some pipelines give them unpacked."""
    return latents.float().reshape(like.shape)


def synchronize(args: argparse.Namespace) -> None:
    if torch.device(args.device).type == "cuda":
        torch.cuda.synchronize()


def table(results: list[dict[str, Any]]) -> str:
    """The results in Markdown."""
    head = ("model", "parameters (depth)", "step, s", "with the tap", "kernels", "kernel's normaliser", "same, sharper",
             "peak GB, with the tap", "resumed differs by", "preview full / tiny, s", "all seeds, s", "search full / tiny, s")  # fmt: skip
    rows: list[tuple[str, ...]] = [head, ("---",) * len(head)]
    for r in results:
        if "error" in r:
            rows.append((r["model"], r["error"]) + ("",) * (len(head) - 2))
            continue
        rows.append(
            (
                r["model"], f"{r['parameters'] / 1e9:.2f} B ({r['share_of_depth']:g})", f"{r['step']:.4f}",
                f"{100 * (r['step_watched'] / r['step'] - 1):+.1f} %",
                ", ".join(f"{k} {n}" for k, n in r["kernels"].items()), f"{r['fast_path']} of {r['blocks']}",
                f"{r['fast_path_sharp']} of {r['blocks']}" if "fast_path_sharp" in r else "-",
                f"{r['peak_gb']:.1f}, {r['peak_gb_watched']:.1f}", f"{r['resumed_differs_by']:.1e}",
                f"{r['decode_full']:.3f} / {r['decode_tiny']:.3f}", f"{r['search_all']:.1f}",
                f"{r['search_full']:.1f} / {r['search_tiny']:.1f}",
            )
        )  # fmt: skip
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    main()
