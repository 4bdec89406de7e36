"""The reference package image-reward 1.5, made importable beside today's transformers, and what it is compared on.

    pip install --no-deps image-reward==1.5
    python tests/reference_image_reward.py --record   # writes tests/data/image_reward.json anew

The shim supplies what the package imports from timm, fairscale and torchvision, and the names that transformers no
longer has. Weights are random but spread: its own initialisation makes all outputs alike.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import string
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

FIXTURE = Path(__file__).parent / "data" / "image_reward.json"
SMALL = {"depth": 2, "width": 64, "heads": 4}  # of the vision tower in the recorded outputs
PROMPTS = [
    "a red car left of two blue fish",
    "an owl",
    "the quick brown fox jumps over the lazy dog, " * 6,
    'three keys on a grey table; "sale"',
]


def tokenizer(folder: Path):
    """A BERT tokenizer over letters and a few words, with the published vocabulary's size, saved in `folder`."""
    from transformers import BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += list(string.ascii_lowercase + string.digits + string.punctuation)
    words += ["##" + c for c in string.ascii_lowercase + string.digits]
    words += ["red", "blue", "car", "fish", "two", "three", "left", "of", "the", "quick", "brown", "fox"]
    words += [f"[unused{i}]" for i in range(30522 - len(words))]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    return BertTokenizer.from_pretrained(folder, local_files_only=True)


def images() -> list[Image.Image]:
    """Four pictures of various shapes: wide, tall, tiny, exact."""
    rng = np.random.default_rng(5)
    result = []
    for width, height in ((320, 240), (180, 300), (40, 40), (224, 224)):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8))
        result.append(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return result


def spread(state: dict[str, torch.Tensor], seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights under the names and shapes of `state`, drawn so that outputs differ; the same in every run."""
    result = {}
    for name in sorted(state):
        shape = state[name].shape
        if not state[name].is_floating_point():
            result[name] = state[name]
            continue
        number = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(number))
        if "norm" in name.lower():
            result[name] = drawn * 0.1 + float(name.endswith("weight"))
        elif name.endswith("bias"):
            result[name] = drawn * 0.1
        elif ("embed" in name and "proj" not in name) or "token" in name:
            result[name] = drawn * 0.5
        else:
            result[name] = drawn * (1.5 / max(shape[1:].numel(), 1) ** 0.5)
    return result


def installed() -> bool:
    """Whether the reference package is there."""
    return importlib.util.find_spec("ImageReward") is not None


def reference(folder: Path, small: bool = False) -> nn.Module:
    """The reference's own `ImageReward` with spread weights; `small` shrinks its towers."""
    _install_shim()
    from ImageReward.models.BLIP import blip, blip_pretrain, med, vit

    local = tokenizer(folder)
    blip.init_tokenizer = blip_pretrain.init_tokenizer = lambda: local
    if small:

        def create_vit(*_, **__):
            tower = vit.VisionTransformer(
                img_size=224, patch_size=16, embed_dim=SMALL["width"], depth=SMALL["depth"], num_heads=SMALL["heads"]
            )
            return tower, SMALL["width"]

        blip_pretrain.create_vit = create_vit
    else:
        blip_pretrain.create_vit = blip.create_vit
    med.BertModel.all_tied_weights_keys = {}
    med.BertModel.init_weights = lambda self: self.apply(self._init_weights)
    med.BertModel.get_head_mask = lambda self, mask, n, *_: [None] * n
    med.BertModel.invert_attention_mask = lambda self, mask: (
        (1.0 - mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
    )
    config = {
        "architectures": ["BertModel"], "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072,
        "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert", "num_attention_heads": 12,
        "num_hidden_layers": SMALL["depth"] if small else 12, "pad_token_id": 0, "type_vocab_size": 2,
        "vocab_size": 30524, "encoder_width": 768, "add_cross_attention": True,
    }  # fmt: skip
    path = folder / "med_config.json"
    path.write_text(json.dumps(config))
    module = importlib.import_module("ImageReward.ImageReward")
    model = module.ImageReward(med_config=str(path))
    model.load_state_dict(spread(model.state_dict()))
    return model.eval()


def _install_shim() -> None:
    import transformers.modeling_utils as modeling
    import transformers.pytorch_utils as pytorch_utils

    for name in ("apply_chunking_to_forward", "prune_linear_layer", "find_pruneable_heads_and_indices"):
        if not hasattr(modeling, name):
            setattr(modeling, name, getattr(pytorch_utils, name, None))
    if "ImageReward" not in sys.modules:
        root = Path(importlib.util.find_spec("ImageReward").origin).parent  # type: ignore[union-attr,arg-type]
        for name in ("ImageReward", "ImageReward.models", "ImageReward.models.BLIP"):
            package = types.ModuleType(name)
            package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
            sys.modules[name] = package
    for name in ("timm", "timm.models", "fairscale", "fairscale.nn", "fairscale.nn.checkpoint"):
        _module(name)
    _module("timm.models.vision_transformer", _cfg=dict, PatchEmbed=_PatchEmbed)
    _module("timm.models.registry", register_model=lambda f: f)
    _module("timm.models.layers", trunc_normal_=nn.init.trunc_normal_, DropPath=lambda p: nn.Identity())
    _module("timm.models.helpers", named_apply=None, adapt_input_conv=None)
    _module("timm.models.hub", download_cached_file=None)
    _module("fairscale.nn.checkpoint.checkpoint_activations", checkpoint_wrapper=lambda m: m)
    _module("torchvision")
    _module(
        "torchvision.transforms", Compose=_Compose, Resize=_Resize, CenterCrop=_CenterCrop, ToTensor=_ToTensor,
        Normalize=_Normalize,
    )  # fmt: skip


def _module(name: str, **contents) -> None:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)  # the real one is better, where it is installed
        return
    module = types.ModuleType(name)
    module.__path__ = []
    vars(module).update(contents)
    sys.modules[name] = module


class _PatchEmbed(nn.Module):
    def __init__(self, img_size=224, patch_size=16, in_chans=3, embed_dim=768):
        super().__init__()
        self.num_patches = (img_size // patch_size) ** 2
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class _Compose:
    def __init__(self, parts):
        self.parts = parts

    def __call__(self, x):
        for part in self.parts:
            x = part(x)
        return x


class _Resize:
    """The shorter side to n, the longer cut to a whole number, as torchvision documents."""

    def __init__(self, n, interpolation):
        self.n = n

    def __call__(self, image):
        short, long = sorted(image.size)
        other = int(self.n * long / short)
        size = (self.n, other) if image.width <= image.height else (other, self.n)
        return image.resize(size, Image.Resampling.BICUBIC)


class _CenterCrop:
    def __init__(self, n):
        self.n = n

    def __call__(self, image):
        left, top = round((image.width - self.n) / 2), round((image.height - self.n) / 2)
        return image.crop((left, top, left + self.n, top + self.n))


class _ToTensor:
    def __call__(self, image):
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


class _Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

    def __call__(self, x):
        return (x - self.mean) / self.std


def main() -> None:
    """Record the small reference's outputs."""
    if "--record" not in sys.argv:
        sys.exit("give --record")
    import tempfile

    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        model: Any = reference(Path(folder), small=True)
        scores = [model.score(p, i) for p, i in zip(PROMPTS, images(), strict=True)]
    FIXTURE.parent.mkdir(exist_ok=True)
    FIXTURE.write_text(json.dumps({"scores": scores, "keys": len(model.state_dict())}, indent=1) + "\n")
    print(scores)


if __name__ == "__main__":
    main()
