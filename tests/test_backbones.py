"""Every family: reading changes nothing, reads the truth, and paused trajectories continue as if they had not stopped."""

import contextlib
from functools import cache

import pytest
import torch
from pipelines import FAMILIES, build

from promptprobe import AttentionTap, CaptureError, InputError, ModelError, finish, start
from promptprobe.backbones import BACKBONES, backbone_of, denoiser_of, probed_blocks
from promptprobe.tokens import tokenize_prompt

PROMPTS = ["a red fox in the snow", "a small house near the sea with a boat at dawn"]
SEEDS = [3, 4]
STEPS = 6
IMAGE = {"qwen-image": (4, 3), "sana": (16, 24)}  # height and width in tokens; elsewhere (16, 12)
ALL = sorted(FAMILIES)


@cache
def made(family):
    return build(family)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # kernels split work by batch size otherwise, and round differently
    yield
    torch.set_num_threads(before)


def settings(family):
    return dict(FAMILIES[family][1])


def uninterrupted(family, prompts=PROMPTS, seeds=SEEDS):
    options = settings(family)
    if family in ("pixart", "sana"):
        options["clean_caption"] = False
    if isinstance(options.get("negative_prompt"), str):
        options["negative_prompt"] = [options["negative_prompt"]] * len(prompts)
    generators = [torch.Generator().manual_seed(s) for s in seeds]
    return made(family)(
        prompt=list(prompts), generator=generators, num_inference_steps=STEPS, output_type="latent", **options
    ).images


@contextlib.contextmanager
def recorded_attention(denoiser, names, calls):
    """q, k and mask of each probed module's attention, by (denoiser call, name): read without the tap."""
    modules = dict(denoiser.named_modules())
    original = torch.nn.functional.scaled_dot_product_attention
    current: list[str] = []
    number = [-1]

    def recording(query, key, value, attn_mask=None, **options):
        if current:
            calls[number[0], current[-1]] = (query.double(), key.double(), attn_mask)
        return original(query, key, value, attn_mask=attn_mask, **options)

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
    if family in ("flux2-klein", "z-image"):
        head, bare = "<|im_start|>user\n", pipeline.tokenizer(prompt).input_ids
        first = len(pipeline.tokenizer(head).input_ids)
    else:
        tokenizer = {"sd3": "tokenizer_3", "flux": "tokenizer_2", "flux-true-cfg": "tokenizer_2"}.get(
            family, "tokenizer"
        )
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
            scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            if mask is not None:
                scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
            full = scores.softmax(-1).mean(1)  # [batch, queries, keys]
            full = full[:2] if family == "z-image" else full[-2:]
            if family in ("sd3", "z-image", "pixart", "sana"):
                rows, first = full[:, :image], image if family in ("sd3", "z-image") else 0
            else:
                rows, first = full[:, -image:], 8 if family == "aura-flow" else 0  # AuraFlow's registers
            for i, prompt in enumerate(PROMPTS):
                columns = [first + c for c in own_columns(family, prompt)]
                expected = rows[i][:, columns].T.unflatten(-1, (height, width))
                got = paused.token_maps[step][i, : len(columns), b]
                assert torch.allclose(got.double(), expected, atol=1e-6) and expected.max() > 0
                assert not paused.token_maps[step][i, len(columns) :, b].any()


@pytest.mark.parametrize("family", ALL)
def test_resumed_equals_uninterrupted(family):
    whole = uninterrupted(family)
    paused = start(made(family), PROMPTS, SEEDS, steps=STEPS, stop=3, watch=(), **settings(family))
    assert torch.equal(finish(made(family), paused, output="latent"), whole)
    one = finish(made(family), paused, [1], output="latent")
    assert (one - whole[1:]).abs().max() <= 1e-5 * whole.abs().max()
    images = finish(made(family), paused, [0])
    assert images[0].size == (settings(family)["width"], settings(family)["height"])


@pytest.mark.parametrize("family", ALL)
def test_words_are_found_in_the_prompt_and_not_in_its_template(family):
    tokens = tokenize_prompt(made(family), PROMPTS[0], settings(family))
    assert [w.text for w in tokens.words] == PROMPTS[0].split()
    assert [PROMPTS[0][w.start : w.end] for w in tokens.words] == PROMPTS[0].split()
    assert sorted(i for w in tokens.words for i in w.tokens) == list(range(len(tokens.columns)))


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
    row = BACKBONES.pop("FluxTransformer2DModel")
    try:
        with pytest.raises(
            ModelError, match=r"FluxTransformer2DModel of FluxPipeline is not supported; supported are: UNet2D"
        ):
            backbone_of(pipeline)
    finally:
        BACKBONES["FluxTransformer2DModel"] = row


def test_a_trajectory_stays_with_its_pipeline_and_its_scheduler():
    paused = start(made("flux"), PROMPTS, SEEDS, steps=STEPS, stop=3, watch=(), **settings("flux"))
    with pytest.raises(ModelError, match="paused in another pipeline than this QwenImagePipeline"):
        finish(made("qwen-image"), paused)
    with pytest.raises(InputError, match="num_images_per_prompt is set by the engine"):
        start(made("flux"), PROMPTS, SEEDS, steps=STEPS, num_images_per_prompt=2)


def test_a_solver_with_two_evaluations_a_step_is_refused():
    from diffusers import FlowMatchHeunDiscreteScheduler

    pipeline = made("sd3")
    before = pipeline.scheduler
    pipeline.scheduler = FlowMatchHeunDiscreteScheduler(shift=3.0)
    try:
        with pytest.raises(ModelError, match="evaluates the denoiser 11 times for 6 steps"):
            start(pipeline, PROMPTS, SEEDS, steps=STEPS, stop=3, watch=(), **settings("sd3"))
    finally:
        pipeline.scheduler = before
