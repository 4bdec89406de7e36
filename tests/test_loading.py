"""Any checkpoint loads with no options: one device, one type, a solver that can be paused, weights where they fit."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import close, tiny_sd
from pipelines import FAMILIES
from safetensors.torch import save_file

import promptprobe
from promptprobe import InputError, ModelError, finish, icons, load_pipeline, start
from promptprobe.loading import settle_device, settle_dtype, settle_offload, stored_bytes, weight_files
from promptprobe.options import OPTIONS, LoadingOptions, names_of
from promptprobe.pipelines import loaded_of, loading_here
from promptprobe.placing import place, quantised_parts
from promptprobe.pnginfo import png_bytes, read_record
from promptprobe.schedulers import SOLVERS, names_for
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
    paused = start(pipeline, PROMPTS, SEEDS, steps=2, stop=1, **settings)
    assert paused.token_maps[1].isfinite().all() and finish(pipeline, paused, [1], output="latent").isfinite().all()
    (note,) = loaded_of(pipeline).notes
    assert (
        note.startswith("computing on cpu in float32, though stored as bfloat16 (--dtype bfloat16")
        and "PyTorch" in note
    )


def test_the_type_is_the_best_that_a_device_has(monkeypatch):
    from promptprobe import loading

    assert settle_dtype("auto", "cpu", {"F32"}) == ("float32", "") and settle_dtype("float16", "cuda") == (
        "float16",
        "",
    )
    for has, wanted in ((("bfloat16", "float16"), "bfloat16"), (("float16",), "float16"), ((), "float32")):
        monkeypatch.setattr(loading, "has_type", lambda device, name, has=has: name in has)
        assert settle_dtype("auto", "cuda:0", {"F32"})[0] == settle_dtype("auto", "mps", {"F16"})[0] == wanted


def test_the_device_is_cuda_else_mps_else_the_cpu(monkeypatch):
    assert settle_device()[0] in ("cpu", "mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert settle_device()[0] == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    assert settle_device() == ("cuda", "NVIDIA H100")


def test_a_build_for_cpus_says_what_to_install(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(InputError, match=r"built for CPUs only; install a build for your GPU .https://pytorch\.org"):
        load_pipeline(device="cuda")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(InputError, match="PyTorch finds no GPU; see whether nvidia-smi"):
        load_pipeline(device="cuda:1")


def test_weights_are_offloaded_as_far_as_the_memory_asks_for_it():
    gb = 10**9
    assert settle_offload(8 * gb, 5 * gb, 12 * gb)[0] == "none"
    way, why = settle_offload(12 * gb, 5 * gb, 12 * gb)
    assert way == "model" and why.startswith("12.0 GB of weights, 12.0 GB of GPU memory free: ")
    assert settle_offload(12 * gb, 11 * gb, 12 * gb)[0] == "sequential"
    assert settle_offload(12 * gb, 11 * gb, 12 * gb, layers=False)[0] == "model"


class Moved:
    """A pipeline that is too large for its device, and remembers where it was sent."""

    def __init__(self, sizes=(8, 4)):
        self.components = {str(n): torch.nn.Linear(1, n * 250, bias=False) for n in sizes}  # n kB
        self.sent = []

    def to(self, device):
        self.sent.append(device)
        if device != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")

    def enable_model_cpu_offload(self, device):
        self.sent.append(f"model on {device}")

    def enable_sequential_cpu_offload(self, device):
        self.sent.append(f"sequential on {device}")


def test_out_of_memory_while_loading_goes_on_layer_by_layer(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100_000, 100_000))
    pipeline = Moved()
    way, why = place(pipeline, "cuda:0")
    assert way == "sequential" and pipeline.sent == ["cuda:0", "cpu", "sequential on cuda:0"] and "out of memory" in why
    with pytest.raises(InputError, match="out of memory with --offload none; use --offload sequential"):
        place(Moved(), "cuda:0", "none")
    for free, wanted in ((12_000, "model"), (8_000, "sequential")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        pipeline = Moved()
        way, why = place(pipeline, "cuda:0")
        assert (
            way == wanted and pipeline.sent == [f"{wanted} on cuda:0"] and why.startswith(f"offload {wanted}: 0.0 GB")
        )
    assert place(Moved(), "cuda:0", "model")[0] == place(Moved(), "cuda:0", quantized=True)[0] == "model"


@pytest.fixture(scope="module")
def flux_folder(tmp_path_factory):
    torch.manual_seed(0)
    return saved(FAMILIES["flux"][0](), tmp_path_factory.mktemp("flux") / "pipeline", None)


def test_stored_types_and_large_parts_are_read_from_headers(flux_folder):
    found = stored_bytes(weight_files(flux_folder))
    assert set(found) == {"BF16"} and found["BF16"] > 10_000
    assert quantised_parts(flux_folder) == ["transformer"]
    assert quantised_parts(flux_folder, large=1000) == ["transformer", "text_encoder", "text_encoder_2"]
    with pytest.raises(ModelError, match=r"--quantize 4bit needs a CUDA GPU .*promptprobe\[quantize\]"):
        load_pipeline(flux_folder, quantize="4bit")


def test_variant_files_are_told_apart(tmp_path):
    for name, dtype in (("model.safetensors", torch.float32), ("model.fp16.safetensors", torch.float16)):
        save_file({"x": torch.zeros(4, dtype=dtype)}, tmp_path / name)
    assert stored_bytes(weight_files(tmp_path)) == {"F32": 16}
    assert stored_bytes(weight_files(tmp_path, "fp16")) == {"F16": 8}


def with_pndm(folder):
    from diffusers import PNDMScheduler

    copy = shutil.copytree(icons.UNET_PIPELINE, folder)
    index = (copy / "model_index.json").read_text()
    (copy / "model_index.json").write_text(index.replace("DDIMScheduler", "PNDMScheduler"))
    own = json.loads((copy / "scheduler" / "scheduler_config.json").read_text())
    PNDMScheduler.from_config(own, skip_prk_steps=True).save_pretrained(copy / "scheduler")
    return copy


def test_a_solver_that_can_not_be_paused_is_replaced_and_said(tmp_path):
    pipeline = load_pipeline(with_pndm(tmp_path / "pipeline"))
    assert type(pipeline.scheduler).__name__ == "DPMSolverMultistepScheduler"
    assert loaded_of(pipeline).options["scheduler"] == "dpm++2m"
    assert any(n.startswith("PNDMScheduler can't be paused; dpm++2m") for n in loaded_of(pipeline).notes)
    assert loaded_of(load_pipeline()).options["scheduler"] == "auto"


def test_every_solver_of_the_table_is_made_and_goes_on_where_it_was(sd):
    own = sd.scheduler
    try:
        for name in names_for(flow=False):
            sd.scheduler = own
            assert choose_scheduler(sd, name) == (name, None) and can_be_paused(sd.scheduler)
            assert type(sd.scheduler).__name__ == SOLVERS[name].scheduler
            if name not in ("dpm++2m-karras", "ddpm"):  # the others are gone through in test_engine
                continue
            whole = start(sd, PROMPTS, SEEDS, steps=3, stop=3, watch=())
            paused = start(sd, PROMPTS, SEEDS, steps=3, stop=2, watch=())
            assert close(finish(sd, paused, [1], output="latent"), whole.latents[1:])
    finally:
        sd.scheduler = own


def test_solvers_that_can_not_be_paused_are_known(sd):
    import diffusers

    for name, can in (("PNDMScheduler", False), ("DPMSolverSDEScheduler", False), ("DEISMultistepScheduler", True)):
        kind = getattr(diffusers, name)
        made = object.__new__(kind) if name == "DPMSolverSDEScheduler" else kind()  # that one needs torchsde
        assert can_be_paused(made) is can, name
    own, sd.scheduler = sd.scheduler, diffusers.PNDMScheduler.from_config(sd.scheduler.config, skip_prk_steps=True)
    try:
        with pytest.raises(ModelError, match="choose another scheduler, such as euler, euler-a, "):
            start(sd, PROMPTS, SEEDS, steps=4, stop=2)
    finally:
        sd.scheduler = own


def test_a_solver_of_another_kind_of_model_is_refused_by_name(flux_folder):
    for name, why in (("ddim", "is a flow-matching model"), ("flow-heun", "sets noise levels of its own")):
        with pytest.raises(
            InputError, match=f"--scheduler '{name}' does not fit: FluxPipeline {why}; choose auto, flow-euler$"
        ):
            load_pipeline(flux_folder, scheduler=name)
    assert (
        type(load_pipeline(flux_folder, scheduler="flow-euler").scheduler).__name__ == SOLVERS["flow-euler"].scheduler
    )


def test_a_flow_keeps_its_shift_with_another_solver():
    from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

    class Painter:  # a pipeline that leaves the noise levels to its scheduler
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)

        def __call__(self, callback_on_step_end=None):
            return retrieve_timesteps(self.scheduler)  # noqa: F821

    pipeline = Painter()
    for name, kind in (("flow-dpm++2m", DPMSolverMultistepScheduler), ("flow-euler", FlowMatchEulerDiscreteScheduler)):
        choose_scheduler(pipeline, name)
        assert type(pipeline.scheduler) is kind
        assert pipeline.scheduler.config.get("flow_shift", pipeline.scheduler.config.get("shift")) == 3.0


def test_records_say_what_was_chosen_and_replay_honours_it(tmp_path):
    model = with_pndm(tmp_path / "pipeline")
    told = []
    promptprobe.generate(
        "a red car",
        out=tmp_path / "a.png",
        model=model,
        steps=2,
        on_event=lambda event, values: event == "note" and told.append(values["text"]),
    )
    record = read_record(tmp_path / "a.png")
    chosen = {"device": "cpu", "dtype": "float32", "offload": "none", "scheduler": "dpm++2m"}
    assert record["loading"] == chosen and record["settings"]["scheduler"] == "DPMSolverMultistepScheduler"
    assert len(told) == 2 and "can't be paused" in told[1]
    assert promptprobe.replay(tmp_path / "a.png", model=model)[1] == 0


def test_a_picture_of_another_machine_is_made_again_here_and_that_is_said(tmp_path):
    promptprobe.generate("a red car", out=tmp_path / "a.png", steps=2)
    record = read_record(tmp_path / "a.png")
    record["loading"] |= {"device": "cuda:7", "offload": "model", "quantize": "8bit"}
    import PIL.Image

    (tmp_path / "b.png").write_bytes(png_bytes(PIL.Image.open(tmp_path / "a.png"), record))
    told = []
    _, difference = promptprobe.replay(
        tmp_path / "b.png", on_event=lambda event, values: event == "note" and told.append(values["text"])
    )
    assert difference == 0 and told[0].startswith(
        "made on cuda:7, made again on cpu, without --offload model and --quantize 8bit"
    )


def test_records_from_before_these_options_mean_what_they_meant():
    assert loading_here({"device": "cpu"}) == ({"device": "cpu", "dtype": "float32", "offload": "none"}, [])
    assert loading_here({"device": "cpu", "dtype": "bfloat16"})[0]["dtype"] == "bfloat16"


def test_loading_a_pipeline_has_the_options_and_defaults_of_the_table():
    import inspect

    parameters = inspect.signature(load_pipeline).parameters
    assert {n: parameters[n].default for n in names_of(LoadingOptions)} == {
        n: OPTIONS[n].option.default for n in names_of(LoadingOptions)
    }
    assert load_pipeline("icons", "cpu", None).transformer.dtype == torch.float32
