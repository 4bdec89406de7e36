"""Reading attention changes nothing, reads the truth, and a paused trajectory continues as if it had not stopped."""

import numpy as np
import pytest
import torch
from conftest import PROMPTS, close, tiny_sd
from diffusers import (
    CogVideoXDPMScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    SASolverScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)

from promptprobe import AttentionTap, CaptureError, InputError, ModelError, advance, finish, start
from promptprobe.solver import can_be_paused
from promptprobe.tokens import tokenize_prompt
from promptprobe.trajectory import preview

SEEDS = [1, 2, 3]
STEPWISE = 1e-4  # another batch size rounds differently in each of eight steps, and each step adds to the ones before
DOUBLE = (
    1e-5  # in float64 another batch size makes no difference that comes near; a wrong state is off by 0.01 and more
)

pytestmark = pytest.mark.numbers
SIZE = {"height": 32, "width": 24}


def uninterrupted(pipeline, prompts=PROMPTS, seeds=SEEDS, steps=8, **settings):
    generators = [torch.Generator().manual_seed(s) for s in seeds]
    return pipeline(
        prompt=list(prompts), generator=generators, num_inference_steps=steps, output_type="latent", **SIZE | settings
    ).images


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_watching_leaves_the_image_bit_identical(family, guidance, request):
    pipeline = request.getfixturevalue(family)
    plain = uninterrupted(pipeline, guidance_scale=guidance)
    watched = start(pipeline, PROMPTS, SEEDS, steps=8, stop=8, watch=range(1, 9), guidance_scale=guidance, **SIZE)
    assert torch.equal(plain, watched.latents)
    assert sorted(watched.token_maps) == list(range(1, 9))


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_maps_equal_a_full_softmax_in_float64(family, request):
    pipeline = request.getfixturevalue(family)
    names = AttentionTap(pipeline).blocks
    modules = dict(pipeline.unet.named_modules())
    inputs: dict[str, list] = {n: [] for n in names}
    handles = [
        modules[n].register_forward_pre_hook(
            lambda m, args, kwargs, n=n: inputs[n].append((args[0], kwargs["encoder_hidden_states"])), with_kwargs=True
        )
        for n in names
    ]
    paused = start(pipeline, PROMPTS, SEEDS, steps=8, stop=5, watch=(2, 5), guidance_scale=5.0, **SIZE)
    for handle in handles:
        handle.remove()
    for step in (2, 5):
        maps = paused.token_maps[step]
        for b, name in enumerate(names):
            attention = modules[name].double()
            image, text = (x.double() for x in inputs[name][step - 1])
            q, k = attention.to_q(image), attention.to_k(text)
            attention.float()
            q, k = (x.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for x in (q, k))
            full = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1).mean(1)[3:]  # the prompts' half
            side = (maps.shape[-2] * maps.shape[-1] // full.shape[1]) ** 0.5
            own = maps[:, :, b, :: int(side), :: int(side)]
            for i, tokens in enumerate(paused.tokens):
                expected = full[i][:, list(tokens.columns)].T
                assert close(own[i, : len(tokens.columns)].flatten(1), expected)
                assert not own[i, len(tokens.columns) :].any()


@pytest.mark.parametrize("solver", [DDIMScheduler, HeunDiscreteScheduler, EulerAncestralDiscreteScheduler])
def test_a_step_that_is_cut_off_shows_its_maps_and_costs_no_more_than_its_blocks(sd, solver, monkeypatch):
    monkeypatch.setattr(sd, "scheduler", solver.from_config(sd.scheduler.config))
    reached = []
    handle = sd.unet.conv_out.register_forward_hook(lambda *_: reached.append(1))
    try:
        told: list[int] = []
        whole = start(sd, PROMPTS, SEEDS, steps=8, stop=5, guidance_scale=5.0, **SIZE)
        until = len(reached)
        cut = start(sd, PROMPTS, SEEDS, steps=8, stop=5, cut=True, on_step=told.append, guidance_scale=5.0, **SIZE)
        assert len(reached) == 2 * until - 1 and cut.step == 4 and told == [1, 2, 3, 4, 5]
        middle = start(sd, PROMPTS, SEEDS, steps=8, stop=4, guidance_scale=5.0, **SIZE)
        short = advance(sd, middle, [0, 2], stop=5, cut=True)
        further = advance(sd, start(sd, PROMPTS, SEEDS, steps=8, stop=2, guidance_scale=5.0, **SIZE), stop=5, cut=True)
    finally:
        handle.remove()
    for other, rows in ((cut, [0, 1, 2]), (short, [0, 2]), (further, [0, 1, 2])):
        assert other.step == 4 and other.timesteps == {5: whole.timesteps[5]} and not other.clean_latents
        maps = other.token_maps[5]
        assert close(maps, whole.token_maps[5][rows, : maps.shape[1]])
        assert close(other.token_embeddings, whole.token_embeddings[rows, : maps.shape[1]])
        plain = uninterrupted(sd, guidance_scale=5.0)[rows]
        assert close(finish(sd, other, output="latent"), plain, STEPWISE)
    assert start(sd, PROMPTS, SEEDS, steps=8, stop=1, cut=True, **SIZE).step == 1  # there is nothing to pause before


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize(
    "solver",
    [
        DDIMScheduler, EulerDiscreteScheduler, EulerAncestralDiscreteScheduler, DPMSolverMultistepScheduler,
        UniPCMultistepScheduler, HeunDiscreteScheduler, LCMScheduler, "DPM++ 2M SDE",
    ],
)  # fmt: skip
def test_resumed_equals_uninterrupted(family, solver, request):
    pipeline = request.getfixturevalue(family)
    before = pipeline.scheduler
    if solver == "DPM++ 2M SDE":
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(before.config, algorithm_type="sde-dpmsolver++")
    else:
        pipeline.scheduler = solver.from_config(before.config)
    paused = start(pipeline, PROMPTS, SEEDS, steps=8, stop=3, **SIZE)
    single = uninterrupted(pipeline)
    assert close(finish(pipeline, paused, output="latent"), single)
    # In float64, where another batch size (other kernels) makes no difference, a subset must agree as well.
    pipeline.to(torch.float64)
    try:
        whole = uninterrupted(pipeline)
        paused = start(pipeline, PROMPTS, SEEDS, steps=8, stop=3, **SIZE)
        everything = finish(pipeline, paused, output="latent")
        some = finish(pipeline, paused, [2, 0], output="latent")
        again = finish(pipeline, paused, [2, 0], output="latent")
    finally:
        pipeline.to(torch.float32)
        pipeline.scheduler = before
    assert close(everything, whole, DOUBLE)
    assert close(some, whole[[2, 0]], DOUBLE)
    assert torch.equal(some, again)


def test_a_text_is_encoded_once_for_all_its_seeds(sd, monkeypatch):
    seen = []
    original = type(sd).encode_prompt
    monkeypatch.setattr(
        type(sd), "encode_prompt", lambda self, prompt, *a, **k: seen.append(prompt) or original(self, prompt, *a, **k)
    )
    paused = start(sd, [PROMPTS[0]] * 3 + [PROMPTS[1]], [1, 2, 3, 4], steps=4, stop=2, **SIZE)
    finish(sd, paused, [1, 3], output="latent")
    assert seen == [[PROMPTS[0], PROMPTS[1]]]


def test_words_are_merged_from_pieces_and_a_long_prompt_says_what_was_cut(sd):
    tokens = tokenize_prompt(sd, "the fox's snow")
    assert [w.text for w in tokens.words] == ["the", "fox's", "snow"]
    assert len(tokens.words[0].tokens) == 1 and len(tokens.words[2].tokens) == 4
    assert tokens.columns[0] == 1  # the begin mark is left out
    long = tokenize_prompt(sd, "x " * 100)
    assert (len(long.columns), long.cut, long.limit) == (75, 25, 75)


def test_encodings_are_kept_for_those_that_go_on(sd):
    paused = start(sd, PROMPTS, SEEDS, steps=4, stop=2, **SIZE)
    some = advance(sd, paused, [2, 2, 0], stop=3)
    assert some.encoded.texts == [PROMPTS[0], PROMPTS[2]] and some.encoded.rows == [1, 1, 0]
    kept, before = (list(p.encoded.outputs.values()) for p in (some, paused))
    for some_values, values in zip(kept[0], before[0], strict=True):
        assert torch.equal(some_values, values[[0, 2]]) and len(values) == 3
    # Threads divide a batch between its rows, so that equal rows are equal but for rounding.
    first, same, other = (finish(sd, some, [i], output="latent") for i in range(3))
    assert close(same, first) and not close(other, first)


def test_a_learned_word_of_several_vectors_is_one_word_of_several_tokens():
    pipeline = tiny_sd()
    generator = torch.Generator().manual_seed(0)
    for name, vectors in (("<toy>", 3), ("<hat>", 1)):
        pipeline.load_textual_inversion({name: torch.randn(vectors, 32, generator=generator)})
    prompt = "a <toy> and a <hat>, <toy>!"
    tokens = tokenize_prompt(pipeline, prompt)
    encoded = pipeline.tokenizer(pipeline.maybe_convert_prompt(prompt, pipeline.tokenizer)).input_ids
    pieces = pipeline.tokenizer.convert_ids_to_tokens(encoded)
    assert list(tokens.columns) == list(range(1, len(encoded) - 1))
    assert [w.text for w in tokens.words] == ["a", "toy", "and", "a", "hat", "toy"]
    told = [[pieces[tokens.columns[n]] for n in tokens.words[w].tokens] for w in (1, 2, 4, 5)]
    toy = ["<toy>", "<toy>_1", "<toy>_2"]
    assert told[0] == toy and "".join(told[1]).startswith("and") and told[2] == ["<hat>"] and told[3] == toy
    paused = start(pipeline, [prompt, "a"], [1, 2], steps=2, stop=1, **SIZE)
    assert paused.token_maps[1][0].flatten(1).sum(1).min() > 0  # a map for each of them


def test_an_error_in_mid_step_leaves_the_pipeline_as_it_was(sd):
    def fail(step):
        raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        start(sd, PROMPTS, SEEDS, steps=4, stop=2, on_step=fail, **SIZE)
    assert "encode_prompt" not in vars(sd)
    assert not sd.unet._forward_pre_hooks and not any(m._forward_hooks for m in sd.unet.modules())
    with AttentionTap(sd), pytest.raises(CaptureError, match="being watched already"), AttentionTap(sd):
        pass


def test_bad_input_names_the_value(sd):
    with pytest.raises(InputError, match="prompt is empty"):
        start(sd, ["  "], [0])
    with pytest.raises(InputError, match="probe step is 9; it must be between 1 and 4"):
        start(sd, ["x"], [0], steps=4, stop=9)
    with pytest.raises(InputError, match="1 prompts and 2 seeds"):
        start(sd, ["x"], [0, 1])
    paused = start(sd, ["x"], [0], steps=4, stop=2, **SIZE)
    with pytest.raises(InputError, match=r"chosen trajectories \[3\]"):
        finish(sd, paused, [3])
    before, sd.scheduler = sd.scheduler, EulerDiscreteScheduler.from_config(sd.scheduler.config)
    with pytest.raises(ModelError, match="paused with DDIMScheduler"):
        finish(sd, paused)
    sd.scheduler = before


@pytest.mark.parametrize(
    "solver",
    [DDIMScheduler, EulerAncestralDiscreteScheduler, DPMSolverMultistepScheduler, EDMDPMSolverMultistepScheduler],
)
def test_advancing_in_stages_equals_one_run(sd, solver):
    before = sd.scheduler
    sd.scheduler = solver.from_config(before.config)
    try:
        straight = start(sd, PROMPTS, SEEDS, steps=8, stop=6, watch=(2, 4, 6), **SIZE)
        staged = start(sd, PROMPTS, SEEDS, steps=8, stop=2, **SIZE)
        staged = advance(sd, staged, stop=4)
        assert torch.equal(staged.token_maps[4], straight.token_maps[4]) and staged.step == 4
        assert torch.equal(staged.clean_latents[4], straight.clean_latents[4])
        last = advance(sd, staged, stop=6)
        assert torch.equal(last.latents, straight.latents) and type(last.scheduler) is solver
        assert torch.equal(finish(sd, last, output="latent"), finish(sd, straight, output="latent"))
        some = advance(sd, staged, [2, 0], stop=6)
        assert some.seeds == [SEEDS[2], SEEDS[0]] and some.prompts == [PROMPTS[2], PROMPTS[0]]
        assert close(some.latents, straight.latents[[2, 0]], STEPWISE)
        with pytest.raises(InputError, match="step 4 can't be reached from step 4 of 8"):
            advance(sd, staged, stop=4)
    finally:
        sd.scheduler = before


def noise_level(scheduler, t):
    """Noise over signal at a timestep, from the training schedule (Song et al., arXiv:2010.02502)."""
    levels = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5
    return float(np.exp(np.interp(float(t), np.arange(len(levels)), np.log(levels.numpy()))))


@pytest.mark.parametrize(
    "solver",
    [
        DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, EulerAncestralDiscreteScheduler, HeunDiscreteScheduler,
        KDPM2AncestralDiscreteScheduler, LMSDiscreteScheduler, DPMSolverMultistepScheduler, "sde-dpmsolver++",
        DPMSolverSinglestepScheduler, DEISMultistepScheduler, UniPCMultistepScheduler, SASolverScheduler, LCMScheduler,
        TCDScheduler,
    ],
)  # fmt: skip
def test_what_a_step_predicts_is_the_truth_when_the_denoiser_knows_it(sd, solver, monkeypatch):
    config, more = sd.scheduler.config, {}
    if isinstance(solver, str):
        solver, more = DPMSolverMultistepScheduler, {"algorithm_type": solver}
    monkeypatch.setattr(sd, "scheduler", solver.from_config(config, **more))
    truth = torch.randn(3, 4, 16, 12, generator=torch.Generator().manual_seed(0))

    def knows(module, args, out):
        level = noise_level(sd.scheduler, args[1])  # the input has variance 1: signal and noise over sqrt(1 + level^2)
        return ((args[0] * (1 + level**2) ** 0.5 - truth[: len(args[0])]) / level,)

    handle = sd.unet.register_forward_hook(knows)
    try:
        paused = start(sd, PROMPTS, SEEDS, steps=8, stop=5, watch=(1, 2, 4, 5), guidance_scale=1.0, **SIZE)
        further = advance(sd, paused, [0, 1], stop=7, watch=(6, 7))
    finally:
        handle.remove()
    for step, clean in (paused.clean_latents | further.clean_latents).items():
        assert close(clean, truth[: len(clean)], 1e-3), step  # sample - level x noise, with levels up to 14


def assert_the_truth_is_seen(sd, truth, knows):
    """With an oracle for a denoiser, each watched step predicts the true clean latents."""
    handle = sd.unet.register_forward_hook(knows)
    try:
        paused = start(sd, PROMPTS, SEEDS, steps=8, stop=5, watch=(1, 3, 5), guidance_scale=1.0, **SIZE)
    finally:
        handle.remove()
    for step, clean in paused.clean_latents.items():
        assert close(clean, truth, 1e-3), step


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
@pytest.mark.parametrize("solver", [DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler])
def test_what_a_step_predicts_is_the_truth_whatever_the_denoiser_is_asked_for(sd, solver, kind, monkeypatch):
    monkeypatch.setattr(sd, "scheduler", solver.from_config(sd.scheduler.config, prediction_type=kind))
    truth = torch.randn(3, 4, 16, 12, generator=torch.Generator().manual_seed(0))

    def knows(module, args, out):
        if kind == "sample":
            return (truth,)
        level = noise_level(sd.scheduler, args[1])
        signal = (
            1 + level**2
        ) ** -0.5  # v = signal x noise - level x signal x clean (Salimans and Ho, arXiv:2202.00512)
        return ((args[0] - signal * truth) / level - level * signal * truth,)

    assert_the_truth_is_seen(sd, truth, knows)


@pytest.mark.parametrize("solver", [EDMEulerScheduler, EDMDPMSolverMultistepScheduler])
def test_what_a_step_predicts_is_the_truth_where_the_solver_scales_what_the_denoiser_says(sd, solver, monkeypatch):
    monkeypatch.setattr(sd, "scheduler", solver())  # as Playground v2.5 has it
    truth = torch.randn(3, 4, 16, 12, generator=torch.Generator().manual_seed(0))

    def knows(module, args, out):
        solver, data = sd.scheduler, sd.scheduler.config.sigma_data
        sigma = solver.sigmas[solver.step_index or 0]
        both = (sigma**2 + data**2) ** 0.5  # Karras et al., arXiv:2206.00364, table 1
        return ((truth - data**2 / both**2 * args[0] * both) * both / (sigma * data),)

    assert_the_truth_is_seen(sd, truth, knows)


def test_a_preview_leaves_the_trajectory_alone_and_needs_a_solver_that_says_what_it_predicts(sd, monkeypatch):
    class Silent(DDIMScheduler):
        def step(self, *args, **kwargs):
            return super().step(*args, **kwargs)

    paused = start(sd, PROMPTS, SEEDS, steps=8, stop=3, **SIZE)
    ends = finish(sd, paused, output="latent")
    images = preview(sd, paused, [1])
    assert len(images) == 1 and images[0].size == (24, 32)
    assert torch.equal(finish(sd, paused, output="latent"), ends)
    monkeypatch.setattr(sd, "scheduler", Silent.from_config(sd.scheduler.config))
    with pytest.raises(InputError, match="Silent doesn't say what it predicts"):
        preview(sd, start(sd, PROMPTS, SEEDS, steps=8, stop=3, **SIZE))

    class Shared(DDIMScheduler):  # as DPMSolverSDEScheduler, which needs another package
        noise_sampler = None

    assert not can_be_paused(CogVideoXDPMScheduler())
    monkeypatch.setattr(sd, "scheduler", CogVideoXDPMScheduler())
    with pytest.raises(ModelError, match=r"remember its last step, .* such as CogVideoXDDIMScheduler"):
        start(sd, PROMPTS, SEEDS, steps=8, stop=3, **SIZE)
    monkeypatch.setattr(sd, "scheduler", Shared.from_config(DDIMScheduler().config))
    with pytest.raises(ModelError, match="Shared draws one noise for a whole batch"):
        start(sd, PROMPTS, SEEDS, steps=8, stop=3, **SIZE)


def test_one_negative_prompt_is_for_every_prompt_and_what_is_the_engine_s_is_refused(sd, sdxl):
    for pipeline in (sd, sdxl):
        plain = uninterrupted(pipeline, steps=4, guidance_scale=5.0, negative_prompt=["blur"] * 3)
        paused = start(pipeline, PROMPTS, SEEDS, steps=4, stop=2, guidance_scale=5.0, negative_prompt="blur", **SIZE)
        assert torch.equal(finish(pipeline, paused, output="latent"), plain)
    with pytest.raises(InputError, match="prompt_2 is set by the engine; every text encoder is told the prompt"):
        start(sdxl, PROMPTS, SEEDS, prompt_2="a boat")
    with pytest.raises(InputError, match="callback_on_step_end is set by the engine; give on_step"):
        start(sd, PROMPTS, SEEDS, callback_on_step_end=print)
    with pytest.raises(InputError, match="timesteps is set by the engine; give steps"):
        start(sd, PROMPTS, SEEDS, timesteps=[900, 500])
    with pytest.raises(InputError, match="negative_prompt_embeds is set by the engine"):
        start(sd, PROMPTS, SEEDS, negative_prompt_embeds=torch.zeros(1, 77, 32))
    with pytest.raises(InputError, match=r"negative_prompt is \['a', 'b', 'c'\]; give one text"):
        start(sd, PROMPTS, SEEDS, negative_prompt=["a", "b", "c"])


def test_a_solver_with_two_evaluations_a_step_counts_steps(sd):
    before = sd.scheduler
    sd.scheduler = HeunDiscreteScheduler.from_config(before.config)
    told = []
    try:
        straight = start(sd, PROMPTS, SEEDS, steps=8, stop=8, watch=(2, 5, 8), on_step=told.append, **SIZE)
        assert told == list(range(1, 9)) and sorted(straight.token_maps) == [2, 5, 8]
        staged = advance(sd, start(sd, PROMPTS, SEEDS, steps=8, stop=2, **SIZE), stop=5)
        assert torch.equal(staged.token_maps[5], straight.token_maps[5])
        rest = []
        assert torch.equal(finish(sd, staged, output="latent", on_step=rest.append), straight.latents)
        assert rest == [6, 7, 8]
        assert preview(sd, staged, [0])[0].size == (24, 32)
    finally:
        sd.scheduler = before


def test_a_kernel_s_normaliser_is_used_where_it_fits_and_not_believed_otherwise():
    from promptprobe.attention import _with_normaliser, attention_to

    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 16, generator=generator) for n in (50, 70, 70))
    places = torch.tensor([[0, 3, 9], [1, 1, 69]])
    out, normaliser = _with_normaliser({"query": q, "key": k, "value": v})
    assert torch.equal(out, torch.nn.functional.scaled_dot_product_attention(q, k, v))
    plain = attention_to(q, k, places, None, None)
    assert close(attention_to(q, k, places, None, None, 0, normaliser), plain)
    assert torch.equal(attention_to(q, k, places, None, None, 0, normaliser + 1), plain)
    mask = torch.zeros(2, 1, 50, 70)
    assert _with_normaliser({"query": q, "key": k, "value": v, "attn_mask": mask}) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_those_of_the_same_numbers_in_float32(dtype):
    from promptprobe.attention import _with_normaliser, attention_to

    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        (torch.randn(1, 2, n, 64, generator=generator) * size).to(dtype) for n, size in ((50, 4), (70, 4), (70, 1))
    )
    places = torch.tensor([[0, 3, 9]])
    expected = attention_to(q.float(), k.float(), places, None, None)
    assert (q.float() @ k.float().transpose(-1, -2) / 8).max() > 20  # scores at which bfloat16 counts by 0.125
    _, normaliser = _with_normaliser({"query": q, "key": k, "value": v})
    with_it = attention_to(q, k, places, None, None, 0, normaliser)
    assert close(with_it, expected, 1e-3) and close(attention_to(q, k, places, None, None), expected)
    # It was believed: one that is off by what half precision may be off by shows.
    assert not torch.equal(attention_to(q, k, places, None, None, 0, normaliser + 0.01), with_it)
    # Scores that float16 can't hold before they are scaled.
    large = attention_to(q * 40, k * 40, places, 1e-3 / 8, None)
    assert torch.isfinite(large).all() and close(
        large, attention_to((q * 40).float(), (k * 40).float(), places, 1e-3 / 8, None)
    )


def test_devices_that_can_t_be_asked_for_their_kernel_are_not_asked(monkeypatch):
    from promptprobe.attention import _with_normaliser

    def fail(*_, **__):  # as on MPS
        raise NotImplementedError("Could not run 'aten::_fused_sdp_choice'")

    monkeypatch.setattr(torch, "_fused_sdp_choice", fail)
    q = torch.empty(1, 2, 5, 8, device="meta")
    assert _with_normaliser({"query": q, "key": q, "value": q}) is None
