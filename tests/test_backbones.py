"""Every family: reading changes nothing, reads the truth, and paused trajectories continue as if they had not stopped."""

import contextlib
import inspect
from functools import cache

import numpy as np
import pytest
import torch
from conftest import close
from pipelines import FAMILIES, SIZE, build

from promptprobe import AttentionTap, CaptureError, InputError, ModelError, advance, finish, start
from promptprobe.backbones import BACKBONES, backbone_of, denoiser_of, device_of, probed_blocks, share_until
from promptprobe.tokens import tokenize_prompt
from promptprobe.trajectory import preview

PROMPTS = ["a red fox in the snow", "a small house near the sea with a boat at dawn"]
SEEDS = [3, 4]
STEPS = 6
IMAGE = {f: (4, 3) for f in ("qwen-image", "lumina2", "krea2", "hunyuan-dit", "lumina-next")} | {"sana": (16, 24)}
# height and width in tokens; elsewhere (16, 12)
ALL = sorted(FAMILIES)

pytestmark = pytest.mark.numbers


@cache
def made(family):
    return build(family)


def lumina_head():
    """Tokens before the prompt: the begin mark and the system prompt."""
    return len(made("lumina2").tokenizer("You paint <Prompt Start>").input_ids)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # kernels split work by batch size otherwise, and round differently
    yield
    torch.set_num_threads(before)


def settings(family):
    return dict(FAMILIES[family][1])


def uninterrupted(family, prompts=PROMPTS, seeds=SEEDS, **more):
    options = settings(family) | more
    if family in ("pixart", "sana", "lumina-next"):
        options["clean_caption"] = False
    if isinstance(options.get("negative_prompt"), str):
        options["negative_prompt"] = [options["negative_prompt"]] * len(prompts)
    generators = [torch.Generator().manual_seed(s) for s in seeds]
    return made(family)(
        prompt=list(prompts), generator=generators, num_inference_steps=STEPS, **{"output_type": "latent"} | options
    ).images


@contextlib.contextmanager
def recorded_attention(denoiser, names, calls):
    """q, k and mask of each probed module's attention, by (denoiser call, name): read without the tap."""
    modules = dict(denoiser.named_modules())
    original = torch.nn.functional.scaled_dot_product_attention
    current: list[str] = []
    number = [-1]

    def recording(query, key, value, attn_mask=None, *more, **options):
        if current:
            scale = options.get("scale") or query.shape[-1] ** -0.5
            calls[number[0], current[-1]] = (query.double() * scale, key.double(), attn_mask)
        return original(query, key, value, attn_mask, *more, **options)

    handles = [denoiser.register_forward_pre_hook(lambda *_: number.__setitem__(0, number[0] + 1))]
    for name in names:
        handles.append(modules[name].register_forward_pre_hook(lambda *_, name=name: current.append(name)))
        handles.append(modules[name].register_forward_hook(lambda *_: current.pop() and None))
    torch.nn.functional.scaled_dot_product_attention = recording
    try:
        yield
    finally:
        torch.nn.functional.scaled_dot_product_attention = original
        for handle in handles:
            handle.remove()


def own_columns(family, prompt):
    """Where the prompt's tokens stand among the text, worked out from the template and the bare prompt."""
    pipeline = made(family)
    if family == "lumina2":
        bare = pipeline.tokenizer(prompt, add_special_tokens=False).input_ids
        return list(range(lumina_head(), lumina_head() + len(bare)))
    if family == "cogview4":  # padded on the left, to a multiple of 16
        lengths = [len(pipeline.tokenizer(p).input_ids) for p in PROMPTS]
        width = -(-max(lengths) // 16) * 16
        return list(range(width - len(pipeline.tokenizer(prompt).input_ids), width))
    if family == "lumina-next":  # padded on the left, to a multiple of 8
        lengths = [len(pipeline.tokenizer(p).input_ids) for p in PROMPTS]
        width = -(-max(lengths) // 8) * 8
        return list(range(width - len(pipeline.tokenizer(prompt).input_ids), width))
    if family == "ovis":
        head = len(pipeline.tokenizer(f"<|im_start|>user\n{pipeline.system_prompt}").input_ids) - 28
        return list(range(head, head + len(pipeline.tokenizer(prompt).input_ids)))
    if family in ("flux2-klein", "z-image"):
        head, bare = "<|im_start|>user\n", pipeline.tokenizer(prompt).input_ids
        first = len(pipeline.tokenizer(head).input_ids)
    else:
        tokenizer = {"sd3": "tokenizer_3", "flux": "tokenizer_2", "flux-true-cfg": "tokenizer_2",
                     "hunyuan-dit": "tokenizer_2"}.get(family, "tokenizer")  # fmt: skip
        bare = getattr(pipeline, tokenizer)(prompt, add_special_tokens=False).input_ids
        # Sana keeps the begin mark and what follows the last two tokens of its instruction, whose last blank joins the
        # first word.
        first = {"sd3": 77, "sana": 1}.get(family, 0)
    return list(range(first, first + len(bare)))


@pytest.mark.parametrize("family", ALL)
def test_watching_leaves_the_image_bit_identical(family):
    watched = start(
        made(family), PROMPTS, SEEDS, steps=STEPS, stop=STEPS, watch=range(1, STEPS + 1), **settings(family)
    )
    assert torch.equal(uninterrupted(family), finish(made(family), watched, output="latent"))
    assert sorted(watched.token_maps) == list(range(1, STEPS + 1))


@pytest.mark.parametrize("family", ALL)
def test_maps_equal_a_full_softmax_in_float64(family):
    pipeline = made(family)
    names, calls = probed_blocks(pipeline, "all"), {}
    with recorded_attention(denoiser_of(pipeline), names, calls):
        uninterrupted(family)
    per_step = len({n for n, _ in calls}) // STEPS  # 2 with a separate call for guidance
    paused = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=5, watch=(2, 5), blocks=names, **settings(family))
    height, width = IMAGE.get(family, (16, 12))
    image = height * width
    for step in (2, 5):
        for b, name in enumerate(names):
            q, k, mask = calls[(step - 1) * per_step, name]
            scores = q @ k.transpose(-1, -2)
            if mask is not None:
                scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
            full = scores.softmax(-1).mean(1)  # [batch, queries, keys]
            full = full[:2] if family in ("z-image", "lumina-next") else full[-2:]
            if family == "lumina2":  # each image follows its own caption
                heads = [len(tokenize_prompt(pipeline, p, settings(family)).columns) + lumina_head() for p in PROMPTS]
                rows, first = torch.stack([r[h : h + image] for r, h in zip(full, heads, strict=True)]), 0
            elif family in ("sd3", "z-image", "pixart", "sana", "hunyuan-dit", "lumina-next"):
                rows, first = full[:, :image], image if family in ("sd3", "z-image") else 0
                first = 77 if family == "hunyuan-dit" else first  # BERT's tokens stand before T5's
            else:
                rows, first = full[:, -image:], 8 if family == "aura-flow" else 0  # AuraFlow's registers
            for i, prompt in enumerate(PROMPTS):
                columns = [first + c for c in own_columns(family, prompt)]
                expected = rows[i][:, columns].T.unflatten(-1, (height, width))
                got = paused.token_maps[step][i, : len(columns), b]
                assert close(got, expected) and expected.max() > 0
                assert not paused.token_maps[step][i, len(columns) :, b].any()


@pytest.mark.parametrize("family", ALL)
def test_resumed_equals_uninterrupted(family):
    whole = uninterrupted(family)
    paused = start(made(family), PROMPTS, SEEDS, steps=STEPS, stop=3, watch=(), **settings(family))
    assert torch.equal(finish(made(family), paused, output="latent"), whole)
    one = finish(made(family), paused, [1], output="latent")
    assert close(one, whole[1:])
    images = finish(made(family), paused, [0])
    assert images[0].size == (settings(family)["width"], settings(family)["height"])


@pytest.mark.parametrize("family", ALL)
def test_a_call_that_is_cut_off_shows_the_same_maps_and_is_made_anew(family):
    pipeline = made(family)
    blocks = probed_blocks(pipeline, "all")[:1]
    finished: list[int] = []
    handle = denoiser_of(pipeline).register_forward_hook(lambda *_: finished.append(1))
    try:
        whole = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=3, blocks=blocks, **settings(family))
        until = len(finished)
        cut = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=3, blocks=blocks, cut=True, **settings(family))
        assert len(finished) == until + 2 * until // 3  # none at step 3, with a call for guidance or without
    finally:
        handle.remove()
    assert cut.step == 2 and torch.equal(cut.token_maps[3], whole.token_maps[3])
    assert 0 < share_until(pipeline, blocks) < 1 == share_until(pipeline, probed_blocks(pipeline, "all"))
    assert torch.equal(finish(pipeline, cut, output="latent"), uninterrupted(family))


@pytest.mark.parametrize("family", ALL)
def test_words_are_found_in_the_prompt_and_not_in_its_template(family):
    tokens = tokenize_prompt(made(family), PROMPTS[0], settings(family))
    assert [w.text for w in tokens.words] == PROMPTS[0].split()
    assert [PROMPTS[0][w.start : w.end] for w in tokens.words] == PROMPTS[0].split()
    assert sorted(i for w in tokens.words for i in w.tokens) == list(range(len(tokens.columns)))


@pytest.mark.parametrize("family", ["qwen-image", "z-image", "flux2-klein"])
@pytest.mark.parametrize("prompt", ["star", "art", "ant", "user"])  # they also stand in <|im_start|>, assistant, user
def test_a_prompt_that_also_stands_in_the_template_is_found_in_its_own_place(family, prompt):
    assert list(tokenize_prompt(made(family), prompt, settings(family)).columns) == own_columns(family, prompt)


def test_token_limits_are_those_of_the_pipeline_s_own_call():
    from diffusers import LCMScheduler, PixArtAlphaPipeline

    sigma = made("pixart")
    alpha = PixArtAlphaPipeline(**sigma.components)
    qwen = made("qwen-image")
    long = "a red fox " * 400
    assert [tokenize_prompt(p, long).limit for p in (alpha, sigma, qwen)] == [119, 299, 512]  # T5 has an end mark
    assert tokenize_prompt(qwen, long, {"max_sequence_length": 1024}).limit == 1024
    alpha.scheduler = LCMScheduler()  # with one step this pipeline takes what the solver predicts, not where it went
    options = {**SIZE, "use_resolution_binning": False}
    paused = start(alpha, [long, "a fox"], SEEDS, steps=1, stop=1, **options)
    assert paused.token_maps[1].shape[1] == 119
    generators = [torch.Generator().manual_seed(s) for s in SEEDS]
    whole = alpha([long, "a fox"], generator=generators, num_inference_steps=1, output_type="latent", **options).images
    assert torch.equal(paused.latents, whole)


def test_flux2_dev_is_not_taken_for_klein():
    from diffusers import Flux2Pipeline

    dev = Flux2Pipeline(**{k: v for k, v in made("flux2-klein").components.items()})
    with pytest.raises(ModelError, match="denoiser Flux2Transformer2DModel of Flux2Pipeline is not supported"):
        backbone_of(dev)


def test_an_offloaded_pipeline_computes_on_its_execution_device():
    from types import SimpleNamespace

    pipeline = build("flux")
    assert str(device_of(pipeline)) == "cpu"
    for module in (pipeline.text_encoder, pipeline.text_encoder_2, pipeline.transformer, pipeline.vae):
        module._hf_hook = SimpleNamespace(execution_device="cuda:1")  # as accelerate leaves it; the weights stay
    assert str(pipeline.device) == "cpu" and str(device_of(pipeline)) == "cuda:1"
    assert str(device_of(SimpleNamespace(device="cuda"))) == "cuda:0"


@pytest.mark.parametrize("family", ["flux", "qwen-image", "sd3"])
def test_an_error_inside_a_step_leaves_the_pipeline_as_it_was(family):
    pipeline = made(family)
    before = uninterrupted(family)
    hooks = {n: len(m._forward_pre_hooks) for n, m in denoiser_of(pipeline).named_modules()}

    def stumble(step):
        raise RuntimeError("in mid-step")

    with pytest.raises(RuntimeError, match="in mid-step"):
        start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=3, on_step=stumble, **settings(family))
    assert hooks == {n: len(m._forward_pre_hooks) for n, m in denoiser_of(pipeline).named_modules()}
    assert "cache_context" not in vars(denoiser_of(pipeline)) and "encode_prompt" not in vars(pipeline)
    assert torch.equal(uninterrupted(family), before)


def test_what_hides_attention_is_refused():
    pipeline = made("flux")
    with AttentionTap(pipeline), pytest.raises(CaptureError, match="watched already"):
        AttentionTap(pipeline).__enter__()
    block = pipeline.transformer.transformer_blocks[0].attn
    block.processor._attention_backend = "flash"
    try:
        with pytest.raises(CaptureError, match=r"backend 'flash'.*set_attention_backend\('native'\)"):
            AttentionTap(pipeline).__enter__()
    finally:
        block.processor._attention_backend = None
    from diffusers.models.attention_dispatch import attention_backend

    with attention_backend("flex"), pytest.raises(CaptureError, match="backend 'flex'"):  # for all that name none
        AttentionTap(pipeline).__enter__()
    before = dict(BACKBONES)
    del BACKBONES["FluxTransformer2DModel"]
    try:
        with pytest.raises(
            ModelError, match=r"FluxTransformer2DModel of FluxPipeline is not supported; supported are: UNet2D"
        ):
            backbone_of(pipeline)
    finally:
        BACKBONES.clear()  # in the order in which they were
        BACKBONES.update(before)


def test_native_backends_are_watched_by_name():
    pipeline = made("flux")
    plain = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=2, **settings("flux")).token_maps[2]
    pipeline.transformer.set_attention_backend("_native_math")
    try:
        whole = uninterrupted("flux")
        paused = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=2, **settings("flux"))
        assert close(paused.token_maps[2], plain) and torch.equal(finish(pipeline, paused, output="latent"), whole)
    finally:
        pipeline.transformer.set_attention_backend("native")
        pipeline.transformer.reset_attention_backend()


def test_a_trajectory_stays_with_its_pipeline_and_its_scheduler():
    paused = start(made("flux"), PROMPTS, SEEDS, steps=STEPS, stop=3, watch=(), **settings("flux"))
    with pytest.raises(ModelError, match="paused in another pipeline than this QwenImagePipeline"):
        finish(made("qwen-image"), paused)
    with pytest.raises(InputError, match="num_images_per_prompt is set by the engine"):
        start(made("flux"), PROMPTS, SEEDS, steps=STEPS, num_images_per_prompt=2)
    with pytest.raises(InputError, match="3 sigmas are given for 6 steps"):
        start(made("flux"), PROMPTS, SEEDS, steps=STEPS, sigmas=[1.0, 0.7, 0.3])


def test_packed_latents_have_a_grid_when_no_attention_is_read():
    watched, bare = (
        start(made("flux"), PROMPTS, SEEDS, steps=STEPS, stop=3, blocks=b, **settings("flux")) for b in (None, ())
    )
    assert torch.equal(bare.clean_latents[3], watched.clean_latents[3]) and not bare.token_maps[3].numel()


def test_what_the_pipeline_s_own_check_refuses_is_told_in_a_line():
    with pytest.raises(InputError, match="Flux2KleinPipeline takes no 'negative_prompt'"):
        start(made("flux2-klein"), PROMPTS, SEEDS, steps=STEPS, negative_prompt="blur")
    with pytest.raises(InputError, match="FluxPipeline: `max_sequence_length` cannot be greater than 512 but is 1000"):
        start(made("flux"), PROMPTS, SEEDS, steps=STEPS, **settings("flux") | {"max_sequence_length": 1000})


@pytest.mark.parametrize("family", ["sd3", "flux", "qwen-image", "aura-flow"])
def test_flow_matching_heun_resumes_exactly(family):
    from diffusers import FlowMatchHeunDiscreteScheduler

    class Heun(FlowMatchHeunDiscreteScheduler):
        """As shipped, for pipelines that hand over sigmas or a shift of their own."""

        def set_timesteps(self, num_inference_steps=None, device=None, sigmas=None, mu=None):
            super().set_timesteps(num_inference_steps or len(sigmas), device)

    pipeline = made(family)
    before = pipeline.scheduler
    pipeline.scheduler = Heun(shift=3.0)
    try:
        whole = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=STEPS, watch=(2,), **settings(family))
        paused = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=3, watch=(2,), **settings(family))
        assert torch.equal(paused.token_maps[2], whole.token_maps[2])
        assert torch.equal(finish(pipeline, paused, output="latent"), finish(pipeline, whole, output="latent"))
        one = finish(pipeline, paused, [1], output="latent")
        assert close(one, finish(pipeline, whole, [1], output="latent"), 1e-4)  # two evaluations a step
    finally:
        pipeline.scheduler = before


FLOW_SOLVERS = {
    "Euler": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    "Euler, stochastic": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0, "stochastic_sampling": True}),
    "Heun": ("FlowMatchHeunDiscreteScheduler", {"shift": 3.0}),
    "LCM": ("FlowMatchLCMScheduler", {"shift": 3.0}),
    "DPM++ 2M SDE": (
        "DPMSolverMultistepScheduler",
        {
            "use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0,
            "algorithm_type": "sde-dpmsolver++",
        },
    ),
    "UniPC": ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}),
}  # fmt: skip


@pytest.mark.parametrize("solver", sorted(FLOW_SOLVERS))
def test_flow_solvers_resume_with_their_own_noise_and_predict_the_truth_of_a_denoiser_that_knows_it(
    solver, monkeypatch
):
    import diffusers

    pipeline, options = made("sd3"), settings("sd3") | {"guidance_scale": 1.0}
    name, more = FLOW_SOLVERS[solver]
    monkeypatch.setattr(pipeline, "scheduler", getattr(diffusers, name)(**more))
    paused = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=3, watch=(), **options)
    one = finish(pipeline, advance(pipeline, paused, [1], stop=4, watch=()), output="latent")
    whole = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=STEPS, watch=(), **options)
    assert close(one, finish(pipeline, whole, [1], output="latent"), 1e-4)  # another noise is off by 0.1 and more
    truth = torch.randn(2, 8, 32, 24, generator=torch.Generator().manual_seed(0))

    def knows(module, args, kwargs, out):
        sigma = pipeline.scheduler.sigmas[pipeline.scheduler.step_index or 0]
        return (
            (kwargs["hidden_states"] - truth) / sigma,
        )  # noise - clean, where sample = (1 - sigma) clean + sigma noise

    handle = pipeline.transformer.register_forward_hook(knows, with_kwargs=True)
    try:
        paused = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=5, watch=(1, 3, 5), **options)
    finally:
        handle.remove()
    for step in (1, 3, 5):
        assert close(paused.clean_latents[step], truth, 1e-4), step


def test_a_solver_with_another_rhythm_is_refused():
    from diffusers import FlowMatchEulerDiscreteScheduler

    class Thrice(FlowMatchEulerDiscreteScheduler):
        def set_timesteps(self, num_inference_steps=None, device=None, **_):
            super().set_timesteps(3 * num_inference_steps, device)

    pipeline = made("sd3")
    before = pipeline.scheduler
    pipeline.scheduler = Thrice(shift=3.0)
    try:
        with pytest.raises(ModelError, match="evaluates the denoiser 18 times for 6 steps"):
            start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=3, watch=(), **settings("sd3"))
    finally:
        pipeline.scheduler = before


@pytest.mark.parametrize("family", ALL)
def test_advancing_and_previews_work_in_every_family(family):
    pipeline = made(family)
    straight = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=4, watch=(2, 4), **settings(family))
    staged = advance(
        pipeline, start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=2, watch=(2,), **settings(family)), stop=4
    )
    assert torch.equal(staged.latents, straight.latents) and torch.equal(staged.token_maps[4], straight.token_maps[4])
    assert torch.equal(staged.clean_latents[4], straight.clean_latents[4])
    image = preview(pipeline, staged, [1])[0]
    assert image.size == (settings(family)["width"], settings(family)["height"])


@pytest.mark.parametrize("family", ALL)
def test_a_preview_is_what_the_pipeline_makes_of_the_solver_s_own_prediction(family, monkeypatch):
    pipeline, at = made(family), 3
    paused = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=at, **settings(family))
    got = preview(pipeline, paused)
    kind, counted = type(pipeline.scheduler), []
    original = kind.step

    def step(self, model_output, timestep, sample, **kwargs):
        """Goes on to step `at`, then to what is predicted there, and stays."""
        counted.append(1)
        if len(counted) < at:
            return original(self, model_output, timestep, sample, **kwargs)
        if len(counted) > at:
            return (sample,)
        if hasattr(self, "alphas_cumprod") and not hasattr(self, "step_index"):  # DDPM, CogVideoX DDIM
            kept = self.alphas_cumprod[int(timestep)]
            if self.config.prediction_type == "v_prediction":
                return (kept**0.5 * sample - (1 - kept) ** 0.5 * model_output,)
            return ((sample - (1 - kept) ** 0.5 * model_output) / kept**0.5,)
        index = self.step_index
        if kind.__name__.startswith("FlowMatch"):
            return (sample - self.sigmas[index] * model_output,)
        return (
            self.convert_model_output(model_output, sample=sample),
        )  # DPM++, as PixArt has it, predicts clean latents

    step.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]  # some look there whether it takes a generator
    monkeypatch.setattr(kind, "step", step)
    expected = uninterrupted(family, output_type="np")
    assert len(counted) == STEPS
    for image, wanted in zip(got, expected, strict=True):
        assert abs(np.asarray(image) / 255 - wanted).max() < 0.5 / 255 + 1e-3  # rounded to whole values of 255


GUIDED = {
    "sd3": {"guidance_scale": 4.0}, "z-image": {}, "pixart": {}, "sana": {}, "aura-flow": {}, "lumina2": {},
    "flux": {"true_cfg_scale": 3.0}, "qwen-image": {"true_cfg_scale": 4.0}, "chroma": {"guidance_scale": 4.0},
    "cogview4": {"guidance_scale": 4.0},
}  # fmt: skip


@pytest.mark.parametrize("family", sorted(GUIDED))
def test_one_negative_prompt_is_for_every_prompt(family):
    options = settings(family) | GUIDED[family] | {"negative_prompt": "a boat"}
    paused = start(made(family), PROMPTS, SEEDS, steps=STEPS, stop=3, watch=(), **options)
    ends = finish(made(family), paused, output="latent")
    assert torch.equal(ends, uninterrupted(family, **GUIDED[family], negative_prompt="a boat"))
    assert not torch.equal(ends, uninterrupted(family, **GUIDED[family], negative_prompt="snow"))


BY_STEP = [
    ("sd3", {"guidance_scale": 4.0, "skip_guidance_layers": [1], "skip_layer_guidance_stop": 0.5}),  # steps 1 and 2
    ("sd3", {"guidance_scale": 4.0, "skip_guidance_layers": [1], "sigmas": [1.0, 0.9, 0.7, 0.5, 0.3, 0.1],
             "skip_layer_guidance_start": 1 / 6, "skip_layer_guidance_stop": 5 / 6}),
    ("lumina2", {"cfg_trunc_ratio": 0.5}),  # guidance in steps 0, 1, 2
]  # fmt: skip


@pytest.mark.parametrize("family, guidance", BY_STEP)
def test_guidance_that_goes_by_the_step_goes_on_after_a_pause(family, guidance):
    pipeline, calls = made(family), []
    handle = denoiser_of(pipeline).register_forward_hook(lambda *_: calls.append(1))
    options = settings(family) | guidance
    try:
        whole, in_all = uninterrupted(family, **guidance), len(calls)
        for at in (1, 3):
            calls.clear()
            paused = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=at, **options)
            assert torch.equal(finish(pipeline, paused, output="latent"), whole), at
            assert len(calls) == in_all
        staged = advance(pipeline, start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=1, **options), stop=2)
        assert torch.equal(finish(pipeline, staged, output="latent"), whole)
    finally:
        handle.remove()
    assert STEPS < in_all < 2 * STEPS  # some steps have a second call, some don't


@pytest.mark.parametrize("family", ["flux", "sd3", "qwen-image"])
def test_half_precision_is_watched_too(family):
    pipeline = made(family)
    pipeline.to(torch.bfloat16)
    try:
        whole = uninterrupted(family)
        paused = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=3, **settings(family))
        assert paused.token_maps[3].dtype == torch.float32 and torch.isfinite(paused.token_maps[3]).all()
        assert torch.equal(finish(pipeline, paused, output="latent"), whole)
    finally:
        pipeline.to(torch.float32)
        made.cache_clear()


@pytest.mark.parametrize("family", ["flux", "qwen-image"])
def test_fused_projections_give_the_same_maps(family):
    pipeline = made(family)
    plain = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=2, **settings(family)).token_maps[2]
    pipeline.transformer.fuse_qkv_projections()
    try:
        fused = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=2, **settings(family)).token_maps[2]
    finally:
        pipeline.transformer.unfuse_qkv_projections()
    assert close(plain, fused)


def test_a_lora_changes_the_maps_and_is_loaded_from_a_file(tmp_path):
    pytest.importorskip("peft")
    from peft import LoraConfig, get_peft_model_state_dict

    from promptprobe import load_pipeline

    torch.manual_seed(0)
    plain = FAMILIES["flux"][0]()
    plain.save_pretrained(tmp_path / "pipeline")
    plain.transformer.add_adapter(
        LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k"], init_lora_weights=False)
    )
    plain.save_lora_weights(
        tmp_path / "lora", transformer_lora_layers=get_peft_model_state_dict(plain.transformer), safe_serialization=True
    )
    maps = {}
    for name, lora in (("off", ()), ("on", (str(tmp_path / "lora"),)), ("none", (f"{tmp_path / 'lora'}=0",))):
        pipeline = load_pipeline(tmp_path / "pipeline", lora=lora)
        paused = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=2, **settings("flux"))
        maps[name] = paused.token_maps[2]
    assert not close(maps["off"], maps["on"], 1e-3)
    assert close(maps["off"], maps["none"])
    with pytest.raises(ModelError, match="nothing-here"):
        load_pipeline(tmp_path / "pipeline", lora=(str(tmp_path / "nothing-here"),))


def test_vae_slicing_and_tiling_leave_the_trajectory_alone():
    pipeline = made("sd3")
    paused = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=3, watch=(), **settings("sd3"))
    whole = finish(pipeline, paused)
    pipeline.vae.enable_slicing()
    pipeline.vae.enable_tiling()
    try:
        assert torch.equal(finish(pipeline, paused, output="latent"), uninterrupted("sd3"))
        assert finish(pipeline, paused)[0].size == whole[0].size
    finally:
        pipeline.vae.disable_slicing()
        pipeline.vae.disable_tiling()


@pytest.mark.parametrize("kind", ["model", "layers"])
def test_offloaded_weights_are_watched_too(kind):
    from accelerate import cpu_offload
    from accelerate.hooks import remove_hook_from_submodules

    pipeline = made("flux")
    plain = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=3, **settings("flux"))
    if kind == "model":
        pipeline.transformer.enable_group_offload(
            onload_device=torch.device("cpu"), offload_device=torch.device("cpu"), offload_type="leaf_level"
        )
    else:
        cpu_offload(pipeline.transformer, execution_device=torch.device("cpu"))
    try:
        moved = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=3, **settings("flux"))
        cut = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=3, cut=True, **settings("flux"))
        end = finish(pipeline, cut, output="latent")
    finally:
        remove_hook_from_submodules(pipeline.transformer)
        made.cache_clear()
    assert torch.equal(plain.token_maps[3], moved.token_maps[3]) and torch.equal(plain.latents, moved.latents)
    assert torch.equal(cut.token_maps[3], moved.token_maps[3]) and torch.equal(end, uninterrupted("flux"))


def test_a_step_cache_is_refused():
    from diffusers import FirstBlockCacheConfig

    pipeline = made("flux")
    own = pipeline.transformer
    own.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    try:
        with pytest.raises(CaptureError, match="step cache is enabled"):
            start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=2, **settings("flux"))
    finally:
        own.disable_cache()


@pytest.mark.parametrize("way", ["module.compile()", "torch.compile", "blocks"])
def test_a_compiled_denoiser_runs_the_probed_call_uncompiled_and_the_others_compiled(way):
    pipeline = made("flux")
    own = pipeline.transformer
    calls: list[int] = []
    graphs: list[int] = []

    def backend(graph, inputs):
        graphs.append(1)

        def run(*given):
            calls.append(1)
            return graph(*given)

        return run

    def three_steps_and_the_rest():
        paused = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=3, **settings("flux"))
        return paused, len(calls), finish(pipeline, paused, output="latent")

    plain, _, plain_end = three_steps_and_the_rest()
    options = {"backend": backend, "dynamic": False}
    try:
        if way == "torch.compile":
            pipeline.transformer = torch.compile(own, **options)
        else:
            own.compile(**options) if way == "module.compile()" else own.compile_repeated_blocks(**options)
        compiled, _, end = three_steps_and_the_rest()
        made_once, _ = len(graphs), calls.clear()
        _, early, _ = three_steps_and_the_rest()
    finally:
        pipeline.transformer = own
        for module in own.modules():
            module._compiled_call_impl = None
        torch._dynamo.reset()
    assert made_once == len(graphs) > 0  # reading makes nothing compile again
    assert len(calls) % (STEPS - 1) == 0 and early == len(calls) // (STEPS - 1) * 2 > 0  # all but step 3
    assert close(compiled.token_maps[3], plain.token_maps[3])
    assert close(end, plain_end, 1e-4)  # compiled graphs may fuse what is rounded apart elsewhere, in each step


def test_adapters_parallel_attention_and_reference_images_are_refused():
    pipeline = made("flux")
    block = pipeline.transformer.transformer_blocks[0].attn
    block.processor._parallel_config = object()
    try:
        with pytest.raises(CaptureError, match="runs in parallel over devices"):
            AttentionTap(pipeline).__enter__()
    finally:
        block.processor._parallel_config = None

    class FluxIPAdapterAttnProcessor(type(block.processor)):
        pass

    own, block.processor = block.processor, FluxIPAdapterAttnProcessor()
    try:
        with pytest.raises(CaptureError, match="an IP-Adapter is loaded; unload it"):
            AttentionTap(pipeline).__enter__()
    finally:
        block.processor = own
    places = torch.zeros(20, 3)
    places[10:, 0] = 1  # tokens of a second picture
    row = BACKBONES["FluxTransformer2DModel"]
    with pytest.raises(CaptureError, match="include a reference image's"):
        row.layout(pipeline.transformer, {"img_ids": places, "encoder_hidden_states": torch.zeros(1, 4, 8)})
    with pytest.raises(CaptureError, match="include a reference image's"):
        BACKBONES["QwenImageTransformer2DModel"].layout(
            made("qwen-image").transformer,
            {"img_shapes": [[(1, 4, 3), (1, 4, 3)]], "encoder_hidden_states": torch.zeros(1, 4, 8)},
        )


def test_a_quantised_layer_is_watched_since_only_attention_is_read():
    pipeline = build("flux")
    plain = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=2, **settings("flux")).token_maps[2]
    torch.ao.quantization.quantize_dynamic(pipeline.transformer, {torch.nn.Linear}, torch.qint8, inplace=True)
    quantised = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=2, **settings("flux")).token_maps[2]
    assert torch.isfinite(quantised).all() and not torch.equal(plain, quantised)
    assert close(quantised, plain, 0.5)  # 8 bits a weight, through every layer before: the same picture, no more


def test_prompts_and_seeds_must_be_as_many():
    with pytest.raises(InputError, match="2 prompts and 1 seeds"):
        start(made("flux"), PROMPTS, [1], steps=STEPS, **settings("flux"))


def test_what_is_no_text_to_image_pipeline_is_refused():
    from diffusers import StableDiffusion3Img2ImgPipeline, StableDiffusion3InpaintPipeline

    sd3 = made("sd3")
    for kind in (StableDiffusion3InpaintPipeline, StableDiffusion3Img2ImgPipeline):
        with pytest.raises(ModelError, match=f"{kind.__name__} starts from an image"):
            backbone_of(kind(**sd3.components))

    class Video:
        transformer = torch.nn.Linear(1, 1)

    with pytest.raises(ModelError, match="denoiser Linear of Video is not supported; supported are"):
        backbone_of(Video())


def test_padding_on_either_side_is_counted():
    pipeline = made("lumina-next")
    left = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=2, **settings("lumina-next"))
    pipeline.tokenizer.padding_side = "right"
    try:
        right = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=2, **settings("lumina-next"))
        assert left.tokens[1].columns == tuple(range(-11, 0)) and right.tokens[1].columns == tuple(range(11))
        alone = start(pipeline, PROMPTS[:1], SEEDS[:1], steps=STEPS, stop=2, **settings("lumina-next"))
        assert close(alone.token_maps[2], right.token_maps[2][:1, : alone.token_maps[2].shape[1]])
    finally:
        pipeline.tokenizer.padding_side = "left"


def test_kolors_is_not_taken_for_sdxl():
    class KolorsPipeline:
        unet = torch.nn.Linear(1, 1)

    with pytest.raises(ModelError, match="KolorsPipeline is not supported: its tokenizer doesn't tell where"):
        backbone_of(KolorsPipeline())


def test_a_row_of_one_s_own_is_used():
    from promptprobe.backbones import Backbone, Layout, blocks_named, register

    row = BACKBONES["SD3Transformer2DModel"]
    pipeline = made("sd3")
    before = start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=2, **settings("sd3")).token_maps[2]

    def layout(denoiser, call):
        text = call["encoder_hidden_states"].shape[1]
        height, width = (n // denoiser.config.patch_size for n in call["hidden_states"].shape[-2:])
        return Layout((height, width), text=height * width, keys=text + height * width)

    own = Backbone(
        "mine", "SD3Transformer2DModel", *blocks_named(r"transformer_blocks\.\d+\.attn"), layout, "after the image",
        tokenizer=row.tokenizer, length=row.length, before=row.before,
    )  # fmt: skip
    register(own)
    try:
        assert torch.equal(
            start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=2, **settings("sd3")).token_maps[2], before
        )
    finally:
        register(row)
