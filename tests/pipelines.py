"""Tiny random text-to-image pipelines, one a family, from diffusers' own classes, with tokenizers built here."""

from __future__ import annotations

import json
import tempfile

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

QWEN_TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
WORDS = "a red fox in the snow at dawn an oil painting of small house near sea with boat user assistant think"
CHAT = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}{% endif %}"
)
SIZE = {"height": 64, "width": 48}  # not square


def t5_tokenizer():
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -100.0), ("▁", -8.0)]
    pieces += [(f"▁{w}", -5.0) for w in sorted(set(WORDS.split()))] + [(chr(c), -10.0) for c in range(33, 127)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)


def qwen_tokenizer():
    """Byte-level BPE learned on the template, so that its head has the 34 tokens which QwenImagePipeline counts on."""
    from transformers import Qwen2Tokenizer

    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=2000, min_frequency=1, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator([QWEN_TEMPLATE, WORDS] * 3, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    made = Qwen2Tokenizer(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]], model_max_length=4096)
    made.add_special_tokens({"extra_special_tokens": special[1:]})
    made.chat_template = CHAT
    return made


def t5_encoder(tokenizer, width: int = 32):
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    )


def qwen3(tokenizer, kind, layers: int):
    from transformers import Qwen3Config

    return kind(
        Qwen3Config(
            hidden_size=32, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8, vocab_size=len(tokenizer) + 8, max_position_embeddings=4096,
        )
    )  # fmt: skip


def vae(latent: int, levels: int = 2):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8,) * levels, latent_channels=latent, norm_num_groups=4, sample_size=64, shift_factor=0.1,
        scaling_factor=0.36, down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def flow(**options):
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**options)


def sd3():
    from conftest import clip_parts
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    (t1, e1), (t2, e2), t3 = clip_parts(projected=True), clip_parts(projected=True), t5_tokenizer()
    denoiser = SD3Transformer2DModel(
        sample_size=32, patch_size=2, in_channels=8, num_layers=3, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=64, caption_projection_dim=32, pooled_projection_dim=64, out_channels=8,
        qk_norm="rms_norm", dual_attention_layers=(0,),
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=denoiser, scheduler=flow(shift=3.0), vae=vae(8), text_encoder=e1, tokenizer=t1, text_encoder_2=e2,
        tokenizer_2=t2, text_encoder_3=t5_encoder(t3, 64), tokenizer_3=t3,
    )  # fmt: skip


def flux():
    from conftest import clip_parts
    from diffusers import FluxPipeline, FluxTransformer2DModel

    (t1, e1), t2 = clip_parts(), t5_tokenizer()
    denoiser = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, guidance_embeds=True, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return FluxPipeline(
        scheduler=flow(use_dynamic_shifting=True, shift=3.0), vae=vae(4), text_encoder=e1, tokenizer=t1,
        text_encoder_2=t5_encoder(t2), tokenizer_2=t2, transformer=denoiser,
    )  # fmt: skip


def chroma():
    from diffusers import ChromaPipeline, ChromaTransformer2DModel

    tokenizer = t5_tokenizer()
    denoiser = ChromaTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 4, 8), approximator_hidden_dim=32, approximator_layers=1,
        approximator_num_channels=16,
    )  # fmt: skip
    return ChromaPipeline(
        scheduler=flow(use_dynamic_shifting=True), vae=vae(4), text_encoder=t5_encoder(tokenizer), tokenizer=tokenizer,
        transformer=denoiser,
    )  # fmt: skip


def flux2_klein():
    from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel
    from transformers import Qwen3ForCausalLM

    tokenizer = qwen_tokenizer()
    denoiser = Flux2Transformer2DModel(
        in_channels=32, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=96, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
    )  # fmt: skip
    decoder = AutoencoderKLFlux2(
        block_out_channels=(16, 16), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=8, norm_num_groups=8, sample_size=64,
    )  # fmt: skip
    # The pipeline concatenates the hidden states of layers 9, 18 and 27.
    return Flux2KleinPipeline(
        scheduler=flow(use_dynamic_shifting=True), vae=decoder, tokenizer=tokenizer, transformer=denoiser,
        text_encoder=qwen3(tokenizer, Qwen3ForCausalLM, 28),
    )  # fmt: skip


def qwen_vl(tokenizer, width: int = 32, heads: int = 4):
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    names = {
        "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>",
        "vision_token_id": "<|vision_pad|>", "image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
    }  # fmt: skip
    quarter = width // heads // 8
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": width, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": heads,
            "num_key_value_heads": heads // 2, "vocab_size": len(tokenizer) + 8, "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default", "mrope_section": [quarter, quarter, 2 * quarter], "rope_theta": 10000.0
            },
        },
        vision_config={
            "depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": width,
            "fullatt_block_indexes": [0],
        },
        **{k: tokenizer.convert_tokens_to_ids(v) for k, v in names.items()},
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config)


def qwen_image():
    from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel

    tokenizer = qwen_tokenizer()
    assert len(tokenizer(QWEN_TEMPLATE.split("{}")[0]).input_ids) == 34
    denoiser = QwenImageTransformer2DModel(
        patch_size=2, in_channels=64, out_channels=16, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    return QwenImagePipeline(
        scheduler=flow(use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, shift_terminal=0.02),
        vae=AutoencoderKLQwenImage(base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        text_encoder=qwen_vl(tokenizer), tokenizer=tokenizer, transformer=denoiser,
    )  # fmt: skip


def z_image():
    from diffusers import ZImagePipeline, ZImageTransformer2DModel
    from transformers import Qwen3Model

    tokenizer = qwen_tokenizer()
    denoiser = ZImageTransformer2DModel(
        in_channels=16, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=32,
        axes_dims=[8, 4, 4], axes_lens=[256, 64, 64],
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            if "pad_token" in name:  # uninitialised memory otherwise
                parameter.normal_(std=0.02)
    return ZImagePipeline(
        scheduler=flow(shift=3.0), vae=vae(16), text_encoder=qwen3(tokenizer, Qwen3Model, 3), tokenizer=tokenizer,
        transformer=denoiser,
    )  # fmt: skip


def pixart():
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    tokenizer = t5_tokenizer()
    denoiser = PixArtTransformer2DModel(
        sample_size=32, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=4, caption_channels=32,
        in_channels=4, cross_attention_dim=32, out_channels=8, attention_bias=True, num_embeds_ada_norm=1000,
        activation_fn="gelu-approximate", norm_type="ada_norm_single",
    )  # fmt: skip
    return PixArtSigmaPipeline(
        tokenizer=tokenizer, text_encoder=t5_encoder(tokenizer), vae=vae(4), transformer=denoiser,
        scheduler=DPMSolverMultistepScheduler(),
    )  # fmt: skip


def sana():
    from diffusers import AutoencoderDC, SanaPipeline, SanaTransformer2DModel

    tokenizer = gemma_tokenizer(300)
    encoder = gemma_encoder(tokenizer)
    denoiser = SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=2, num_attention_heads=2, attention_head_dim=8,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=16,
        sample_size=32,
    )  # fmt: skip
    decoder = AutoencoderDC(
        in_channels=3, latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock",) * 3,
        decoder_block_types=("ResBlock",) * 3, encoder_block_out_channels=(8, 8, 8), encoder_qkv_multiscales=((),) * 3,
        decoder_block_out_channels=(8, 8, 8), decoder_qkv_multiscales=((),) * 3, encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=[1, 1, 1], downsample_block_type="conv", upsample_block_type="interpolate",
        decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.4,
    )  # fmt: skip
    return SanaPipeline(
        tokenizer=tokenizer, text_encoder=encoder, vae=decoder, transformer=denoiser, scheduler=flow(shift=3.0)
    )


def aura_flow():
    from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel

    tokenizer = t5_tokenizer()
    denoiser = AuraFlowTransformer2DModel(
        sample_size=32, patch_size=2, in_channels=4, num_mmdit_layers=2, num_single_dit_layers=2, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=32, caption_projection_dim=32, out_channels=4, pos_embed_max_size=256,
    )  # fmt: skip
    return AuraFlowPipeline(
        tokenizer=tokenizer, text_encoder=t5_encoder(tokenizer), vae=vae(4), transformer=denoiser,
        scheduler=flow(shift=1.73),
    )  # fmt: skip


def gemma_tokenizer(length: int):
    from transformers import GemmaTokenizer

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    alphabet = [chr(c) for c in range(33, 127)] + ["▁"]
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator([WORDS] * 3, trainer)
    model = json.loads(trained.to_str())["model"]
    return GemmaTokenizer(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]], model_max_length=length)


def gemma_encoder(tokenizer):
    from transformers import Gemma2Config, Gemma2Model

    return Gemma2Model(
        Gemma2Config(
            hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            head_dim=8, vocab_size=len(tokenizer) + 8,
        )
    )  # fmt: skip


def cogview4():
    from diffusers import CogView4Pipeline, CogView4Transformer2DModel
    from transformers import GlmConfig, GlmModel

    tokenizer = qwen_tokenizer()
    tokenizer.padding_side = "left"
    encoder = GlmModel(
        GlmConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            head_dim=8, vocab_size=len(tokenizer) + 8, pad_token_id=0,
        )
    )  # fmt: skip
    denoiser = CogView4Transformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        text_embed_dim=32, time_embed_dim=8, condition_dim=4, sample_size=32, rope_axes_dim=(16, 16),
    )  # fmt: skip
    return CogView4Pipeline(
        tokenizer=tokenizer, text_encoder=encoder, vae=vae(4), transformer=denoiser,
        scheduler=flow(base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True,
                       time_shift_type="linear"),
    )  # fmt: skip


def lumina2():
    from diffusers import Lumina2Pipeline, Lumina2Transformer2DModel

    tokenizer = gemma_tokenizer(256)
    tokenizer.padding_side = "right"
    denoiser = Lumina2Transformer2DModel(
        sample_size=32, patch_size=2, in_channels=4, hidden_size=24, num_layers=2, num_refiner_layers=1,
        num_attention_heads=3, num_kv_heads=1, multiple_of=16, axes_dim_rope=(4, 2, 2), axes_lens=(256, 64, 64),
        cap_feat_dim=16,
    )  # fmt: skip
    return Lumina2Pipeline(
        transformer=denoiser, scheduler=flow(shift=6.0), vae=vae(4, 4), text_encoder=gemma_encoder(tokenizer),
        tokenizer=tokenizer,
    )  # fmt: skip


def ovis():
    from diffusers import OvisImagePipeline, OvisImageTransformer2DModel
    from transformers import Qwen3Model

    tokenizer = qwen_tokenizer()
    denoiser = OvisImageTransformer2DModel(
        patch_size=1, in_channels=16, out_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return OvisImagePipeline(
        scheduler=flow(use_dynamic_shifting=True, shift=3.0), vae=vae(4), tokenizer=tokenizer, transformer=denoiser,
        text_encoder=qwen3(tokenizer, Qwen3Model, 2),
    )  # fmt: skip


def bria():
    from diffusers import BriaPipeline, BriaTransformer2DModel

    tokenizer = t5_tokenizer()
    denoiser = BriaTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    return BriaPipeline(
        scheduler=flow(use_dynamic_shifting=True), vae=vae(4), text_encoder=t5_encoder(tokenizer), tokenizer=tokenizer,
        transformer=denoiser,
    )  # fmt: skip


def qwen3_vl(tokenizer):
    from transformers import Qwen3VLConfig, Qwen3VLModel

    config = Qwen3VLConfig(
        text_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 8, "vocab_size": len(tokenizer) + 8, "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 16,
            "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
        },
    )  # fmt: skip
    return Qwen3VLModel(config)


def krea2():
    from diffusers import AutoencoderKLQwenImage, Krea2Pipeline, Krea2Transformer2DModel

    tokenizer = qwen_tokenizer()
    denoiser = Krea2Transformer2DModel(
        in_channels=64, num_layers=2, attention_head_dim=16, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=32, timestep_embed_dim=16, text_hidden_dim=16, num_text_layers=2, text_num_attention_heads=2,
        text_num_key_value_heads=1, text_intermediate_size=32, num_layerwise_text_blocks=1, num_refiner_text_blocks=1,
        axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    return Krea2Pipeline(
        scheduler=flow(use_dynamic_shifting=True), text_encoder=qwen3_vl(tokenizer), tokenizer=tokenizer,
        vae=AutoencoderKLQwenImage(base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        transformer=denoiser, text_encoder_select_layers=(1, 3),
    )  # fmt: skip


def cogview3():
    from diffusers import CogVideoXDDIMScheduler, CogView3PlusPipeline, CogView3PlusTransformer2DModel

    tokenizer = t5_tokenizer()
    denoiser = CogView3PlusTransformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        text_embed_dim=32, time_embed_dim=8, condition_dim=2, pos_embed_max_size=16, sample_size=16,
    )  # fmt: skip
    return CogView3PlusPipeline(
        tokenizer=tokenizer, text_encoder=t5_encoder(tokenizer), vae=vae(4), transformer=denoiser,
        scheduler=CogVideoXDDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing"),
    )  # fmt: skip


def hunyuan_dit():
    from diffusers import DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set(WORDS.split()))]
    bert, t5 = BertTokenizer(vocab={w: i for i, w in enumerate(words)}), t5_tokenizer()
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    denoiser = HunyuanDiT2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, patch_size=2, activation_fn="gelu-approximate",
        sample_size=8, hidden_size=16, num_layers=4, mlp_ratio=2.0, cross_attention_dim=16, cross_attention_dim_t5=32,
        pooled_projection_dim=16,
    )  # fmt: skip
    return HunyuanDiTPipeline(
        vae=vae(4, 4), text_encoder=BertModel(config), tokenizer=bert, transformer=denoiser, scheduler=DDPMScheduler(clip_sample=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False, text_encoder_2=t5_encoder(t5),
        tokenizer_2=t5,
    )  # fmt: skip


def lumina_next():
    from diffusers import LuminaNextDiT2DModel, LuminaPipeline
    from transformers import GemmaConfig, GemmaModel

    tokenizer = gemma_tokenizer(256)
    tokenizer.padding_side = "left"
    config = GemmaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, vocab_size=len(tokenizer) + 8,
    )  # fmt: skip
    denoiser = LuminaNextDiT2DModel(
        sample_size=8, patch_size=2, in_channels=4, hidden_size=24, num_layers=2, num_attention_heads=3, num_kv_heads=1,
        multiple_of=16, cross_attention_dim=16,
    )  # fmt: skip
    with torch.no_grad():
        denoiser.pad_token.normal_(std=0.02)  # uninitialised memory otherwise
        for layer in denoiser.layers:
            layer.gate.fill_(0.5)  # the text plays no part otherwise
    return LuminaPipeline(
        transformer=denoiser, scheduler=flow(shift=6.0), vae=vae(4, 4), text_encoder=GemmaModel(config),
        tokenizer=tokenizer,
    )  # fmt: skip


# family -> (builder, settings of a call)
FAMILIES = {
    "sd3": (sd3, SIZE | {"max_sequence_length": 32}),
    "flux": (flux, SIZE | {"max_sequence_length": 48}),
    "flux-true-cfg": (flux, SIZE | {"max_sequence_length": 48, "true_cfg_scale": 3.0, "negative_prompt": "blur"}),
    "chroma": (chroma, SIZE | {"max_sequence_length": 48, "guidance_scale": 3.0}),
    "flux2-klein": (flux2_klein, SIZE | {"max_sequence_length": 48, "guidance_scale": 2.0}),
    "qwen-image": (qwen_image, SIZE | {"negative_prompt": " ", "true_cfg_scale": 3.0}),
    "z-image": (z_image, SIZE | {"max_sequence_length": 48, "guidance_scale": 2.0}),
    "pixart": (
        pixart,
        SIZE | {"max_sequence_length": 32, "use_resolution_binning": False},
    ),
    "sana": (sana, {"height": 64, "width": 96} | {"max_sequence_length": 40, "use_resolution_binning": False}),
    "aura-flow": (aura_flow, SIZE | {"max_sequence_length": 48}),
    "cogview4": (cogview4, SIZE | {"guidance_scale": 3.0, "negative_prompt": "blur"}),
    "ovis": (ovis, SIZE | {"guidance_scale": 3.0, "max_sequence_length": 48}),
    "bria": (bria, SIZE | {"guidance_scale": 3.0, "max_sequence_length": 48}),
    "krea2": (krea2, SIZE | {"guidance_scale": 3.0, "max_sequence_length": 48}),
    "cogview3": (cogview3, SIZE | {"max_sequence_length": 48}),
    "hunyuan-dit": (hunyuan_dit, SIZE | {"use_resolution_binning": False}),
    "lumina-next": (lumina_next, SIZE | {"guidance_scale": 3.0, "negative_prompt": "blur"}),
    "lumina2": (lumina2, SIZE | {"guidance_scale": 3.0, "system_prompt": "You paint", "max_sequence_length": 128}),
}


def build(family: str):
    """A pipeline of random weights, the same each time, saved and loaded as a user's would be."""
    from promptprobe import load_pipeline

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        FAMILIES[family][0]().save_pretrained(folder)
        return load_pipeline(folder)
