"""The policy: a flow-matching pipeline with a LoRA adapter that learns, and the velocity that it predicts, with gradient.

Comes in: a pipeline. Goes out: trajectories walked with noise, velocities at their places, the adapter as a file that
plain diffusers loads. The pipeline's own call does the denoising, so guidance and packing are each family's own.
"""

from __future__ import annotations

import contextlib
import inspect
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ..backbones import backbone_of, denoiser_of, device_of
from ..calling import call
from ..errors import InputError, ModelError, reason_of
from ..guidance import is_guided
from ..paused import Paused
from .sde import sde_solver

ADAPTER = "default"
ADAPTER_FILE = "pytorch_lora_weights.safetensors"  # what diffusers looks for in a folder
# Attention's projections of image and text, by their names in diffusers: those of SD3, FLUX.1, Qwen-Image and their kin.
_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
TARGETS: dict[str, tuple[str, ...]] = {
    "FluxTransformer2DModel": (*_PROJECTIONS, "proj_mlp", "proj_out", "net.0.proj", "net.2"),
}  # other families: the projections that they have


class Policy:
    """A pipeline whose denoiser has a fresh adapter of `rank`; only the adapter's weights learn.

    `targets` are ends of module names (default: by family). `level` is the noise in the first `noisy` of `steps` steps.
    Raises `ModelError` for a pipeline that is no flow-matching model or takes no adapters, `InputError` for a target
    that isn't there.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        steps: int,
        rank: int = 16,
        targets: Sequence[str] = (),
        level: float = 0.7,
        noisy: int,
        settings: dict[str, Any],
        seed: int = 0,
    ):
        self.pipeline, self.steps, self.settings = pipeline, steps, settings
        self.level, self.noisy = level, noisy
        self.own = pipeline.scheduler
        self.solver = sde_solver(pipeline.scheduler, level, noisy)
        self.denoiser: Any = denoiser_of(pipeline)
        self.guided = is_guided(pipeline, settings)
        name = (
            "true_cfg_scale"
            if "true_cfg_scale" in inspect.signature(pipeline.__call__).parameters
            else "guidance_scale"
        )
        self.unguided = {name: 1.0}
        self.targets = self._add_adapter(rank, targets, seed)
        self.parameters = {n: p for n, p in self.denoiser.named_parameters() if p.requires_grad}
        checkpoint: Any = getattr(self.denoiser, "enable_gradient_checkpointing", None)
        if getattr(self.denoiser, "_supports_gradient_checkpointing", False) and device_of(pipeline).type != "cpu":
            checkpoint()

    def _add_adapter(self, rank: int, targets: Sequence[str], seed: int) -> list[str]:
        name = type(self.denoiser).__name__
        try:
            from peft import LoraConfig
        except ImportError as error:
            raise ModelError("grpo needs the package peft: pip install 'promptprobe[lora]'") from error
        if not hasattr(self.denoiser, "add_adapter") or not hasattr(self.pipeline, "save_lora_weights"):
            raise ModelError(f"{type(self.pipeline).__name__} takes no LoRA adapters; choose another model")
        if getattr(self.denoiser, "_hf_peft_config_loaded", False):
            raise InputError("the model has a LoRA adapter already; merge it (fuse_lora) first, or leave --lora out")
        linear = [n for n, m in self.denoiser.named_modules() if isinstance(m, torch.nn.Linear)]
        for target in targets:
            if not any(n == target or n.endswith("." + target) for n in linear):
                ends = sorted({n.rpartition(".")[2] for n in linear if not n.rpartition(".")[2].isdigit()})
                raise InputError(f"--target {target!r} is no linear layer of {name}; it has {', '.join(ends)}")
        asked = targets or [
            t for t in TARGETS.get(name, _PROJECTIONS) if any(n == t or n.endswith("." + t) for n in linear)
        ]
        if not asked:
            raise InputError(f"no attention projection is known in {name}; name its linear layers with --target")
        for parameter in self.denoiser.parameters():
            parameter.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                self.denoiser.add_adapter(
                    LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(asked)),
                    adapter_name=ADAPTER,
                )
            except ValueError as error:
                raise InputError(f"--target {', '.join(asked)}: {reason_of(error)}") from error
        for name_, parameter in self.denoiser.named_parameters():
            if "lora_" in name_:
                parameter.requires_grad_(True)
                parameter.data = parameter.data.float()  # small steps are lost in 16 bits
        return list(asked)

    @contextlib.contextmanager
    def walking(self) -> Iterator[Any]:
        """While inside, the pipeline walks with noise and keeps its paths."""
        own, self.pipeline.scheduler = self.pipeline.scheduler, self.solver
        try:
            yield self.pipeline
        finally:
            self.pipeline.scheduler = own

    @contextlib.contextmanager
    def base(self) -> Iterator[None]:
        """While inside, the model is as it was before it learned."""
        self.denoiser.disable_adapters()
        try:
            yield
        finally:
            self.denoiser.enable_adapters()

    def velocity(
        self, paused: Paused, rows: Sequence[int], step: int, sample: torch.Tensor, guided: bool = True
    ) -> torch.Tensor:
        """What the denoiser predicts for `sample`, the chosen rows' latents before the step of index `step`, with gradient.

        With `guided` it is what the pipeline makes of its predictions with and without the prompt, else the one with it.
        """
        pipeline = self.pipeline
        solver = sde_solver(self.own, self.level, self.noisy)
        solver.only = step
        own, pipeline.scheduler = pipeline.scheduler, solver
        row = backbone_of(pipeline)
        settings = row.later(pipeline, paused.settings, step, paused.steps, paused.steps)
        settings = settings if guided or not self.guided else {**settings, **self.unguided}
        try:
            with paused.encoded.used_by(pipeline, rows):
                call(
                    pipeline, prompts=[paused.prompts[i] for i in rows],
                    generators=[torch.Generator("cpu") for _ in rows], steps=paused.steps,
                    callback=lambda pipe, index, timestep, tensors: tensors, output="latent", settings=settings,
                    latents=row.unpack(pipeline, sample, paused.settings), gradient=torch.is_grad_enabled(),
                )  # fmt: skip
        finally:
            pipeline.scheduler = own
        assert solver.velocity is not None
        return solver.velocity

    def adapter(self) -> dict[str, torch.Tensor]:
        """The adapter's weights, by their names in the denoiser, on the CPU."""
        return {n: p.detach().cpu().clone() for n, p in self.parameters.items()}

    def adapter_file(self) -> bytes:
        """The adapter as the file that `pipe.load_lora_weights` of plain diffusers reads."""
        from peft import get_peft_model_state_dict

        weights = get_peft_model_state_dict(self.denoiser, adapter_name=ADAPTER)
        with tempfile.TemporaryDirectory() as folder:
            type(self.pipeline).save_lora_weights(folder, transformer_lora_layers=weights, weight_name=ADAPTER_FILE)
            return (Path(folder) / ADAPTER_FILE).read_bytes()
