"""Tiny random pipelines built from diffusers' own classes, and a loopback LLM server that can misbehave."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

os.environ["LANGSMITH_TRACING"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a run without --device computes as on every other machine
for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "DASHSCOPE_API_KEY"):
    os.environ.pop(name, None)

import pytest  # noqa: E402
import torch  # noqa: E402

# How far apart numbers may be that mean the same but were summed in another order (another batch, kernel, thread count
# or processor), relative to the largest of them. One float32 operation is off by 6e-8; the sums here have hundreds of
# terms in tens of layers after each other, and the largest difference seen under other processors' kernels (`check.PLAIN`) was 4e-6.
ROUNDING = 2e-5


def close(got, expected, relative: float = ROUNDING) -> bool:
    """Whether no number differs by more than `relative` times the largest expected one; shapes must agree."""
    got, expected = torch.as_tensor(got).double(), torch.as_tensor(expected).double()
    return got.shape == expected.shape and bool((got - expected).abs().max() <= relative * expected.abs().max())


PROMPTS = ["a red fox in the snow at dawn", "an oil painting", "a small house near the sea"]


def clip_parts(hidden: int = 32, projected: bool = False):
    """A CLIP tokenizer of single bytes and a random text encoder."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {t: i for i, t in enumerate([*letters, *(c + "</w>" for c in letters)])}
    merges = [("f", "o"), ("fo", "x</w>"), ("t", "h"), ("th", "e</w>")]
    for token in ["fo", "fox</w>", "th", "the</w>", "<|startoftext|>", "<|endoftext|>"]:
        vocab[token] = len(vocab)
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, projection_dim=hidden, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return tokenizer, (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def tiny_vae():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


def tiny_sd():
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(0)
    tokenizer, encoder = clip_parts()
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, cross_attention_dim=32,
        attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
    )  # fmt: skip
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)
    pipeline = StableDiffusionPipeline(
        vae=tiny_vae(), text_encoder=encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_sdxl():
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    torch.manual_seed(1)
    (tokenizer, encoder), (tokenizer_2, encoder_2) = clip_parts(), clip_parts(projected=True)
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, cross_attention_dim=64,
        attention_head_dim=(2, 4), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
    )  # fmt: skip
    pipeline = StableDiffusionXLPipeline(
        vae=tiny_vae(), text_encoder=encoder, tokenizer=tokenizer, text_encoder_2=encoder_2, tokenizer_2=tokenizer_2,
        unet=unet, scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1),
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def sd():
    return tiny_sd()


@pytest.fixture(scope="session")
def sdxl():
    return tiny_sdxl()


@pytest.fixture
def one_thread():
    """A forked process has no threads but one: a pool of several, which its parent had, would wait there forever."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class LLMServer:
    """Answers chat completions on loopback. `script` is a list of replies, one a request; the last one repeats."""

    def __init__(self):
        self.script: list = []
        self.requests: list[dict] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.requests.append(body)
                reply = outer.script[min(len(outer.requests), len(outer.script)) - 1]
                status, text, headers = reply if isinstance(reply, tuple) else (200, reply, {})
                if status == "drop":
                    self.connection.close()
                    return
                if status == 200:
                    calls = text["tool_calls"] if isinstance(text, dict) else []
                    message = {"role": "assistant", "content": None if calls else text}
                    if calls:
                        message["tool_calls"] = [
                            {
                                "id": f"call{i}", "type": "function",
                                "function": {"name": name, "arguments": json.dumps(given)},
                            }
                            for i, (name, given) in enumerate(calls)
                        ]  # fmt: skip
                    text = json.dumps(
                        {
                            "id": "1", "object": "chat.completion", "created": 1, "model": "test",
                            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
                        }
                    )  # fmt: skip
                data = text.encode()
                self.send_response(status)
                for key, value in {
                    "content-type": "application/json",
                    "content-length": str(len(data)),
                    **headers,
                }.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def llm():
    server = LLMServer()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture(scope="module")
def service():
    """The built-in world as servers and tools have it; one rewriter, one round."""
    from promptprobe.agents import Service
    from promptprobe.agents.plan import make_plan

    return Service(make_plan(rewriter="offline", rounds=1))
