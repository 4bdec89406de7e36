"""Any checkpoint loads with no options: one device, one type, a solver that can be paused, weights where they fit."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import close, tiny_sd
from pipelines import FAMILIES
from safetensors.torch import load_file, save_file

import promptprobe
from promptprobe import InputError, ModelError, finish, icons, load_pipeline, start
from promptprobe.loading import settle_device, settle_dtype, settle_offload, stored_bytes, weight_files
from promptprobe.options import LoadingOptions, OPTIONS, names_of
from promptprobe.pipelines import loaded_of, loading_here
from promptprobe.placing import place, quantised_parts
from promptprobe.pnginfo import png_bytes, read_record
from promptprobe.schedulers import SOLVERS, names_for
from promptprobe.single_file import kind_of
from promptprobe.solver import can_be_paused, choose_scheduler

PROMPTS, SEEDS = ["a red fox", "a small house"], [3, 4]


def modules(pipeline):
    return {n: m for n, m in pipeline.components.items() if isinstance(m, torch.nn.Module)}


def saved(pipeline, folder, half):
    """A pipeline's folder, with the parts named in `half` (default: all) stored as bfloat16."""
    for name, module in modules(pipeline).items():
        if half is None or name in half:
            module.to(torch.bfloat16)
    pipeline.save_pretrained(folder)
    return folder


ONCE = [f for i, f in enumerate(FAMILIES) if FAMILIES[f][0] not in [FAMILIES[g][0] for g in list(FAMILIES)[:i]]]


@pytest.mark.parametrize("family", ["sd", *ONCE])
def test_a_half_precision_checkpoint_of_every_family_runs_with_no_options(family, tmp_path):
    torch.manual_seed(0)
    build, settings = (tiny_sd, {}) if family == "sd" else FAMILIES[family]
    mixed = ["text_encoder", "vae"] if family in ONCE[::2] else None
    pipeline = load_pipeline(saved(build(), tmp_path / "pipeline", mixed))
    assert {p.dtype for m in modules(pipeline).values() for p in m.parameters()} == {torch.float32}
    paused = start(pipeline, PROMPTS, SEEDS, steps=3, stop=2, **settings)
    assert paused.token_maps[2].isfinite().all() and finish(pipeline, paused, [1], output="latent").isfinite().all()
    (note,) = loaded_of(pipeline).notes
    assert note.startswith("computing on cpu in float32, though stored as bfloat16 (--dtype bfloat16") and "PyTorch" in note
