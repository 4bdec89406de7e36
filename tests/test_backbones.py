"""Every family: reading changes nothing, reads the truth, and paused trajectories continue as if they had not stopped."""

import contextlib
from functools import cache

import pytest
import torch
from conftest import close
from pipelines import FAMILIES, build

from promptprobe import AttentionTap, CaptureError, InputError, ModelError, advance, finish, start
from promptprobe.backbones import BACKBONES, backbone_of, denoiser_of, probed_blocks, share_until
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


def uninterrupted(family, prompts=PROMPTS, seeds=SEEDS):
    options = settings(family)
    if family in ("pixart", "sana", "lumina-next"):
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
