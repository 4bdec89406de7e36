"""Weight files of reward models: from a local folder or the hub at a pinned revision, checked, and read safely.

Nothing is unpickled: `.pt` checkpoints go through PyTorch's weights-only reader, everything else is safetensors.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError, reason_of
from ..loading import check_weight_files


@dataclass(frozen=True)
class Repository:
    """A hub repository at a fixed revision. `sha256` has the digests of files that are known beforehand."""

    name: str
    revision: str
    sha256: tuple[tuple[str, str], ...] = ()


IMAGE_REWARD = Repository("zai-org/ImageReward", "5736be03b2652728fb87788c9797b0570450ab72")
BERT = Repository("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594")
CLIP_L = Repository("openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41")
CLIP_H = Repository("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "1c2b8495b28150b8a4922ee1c8edee224c284c0c")
PICKSCORE = Repository("yuvalkirstain/PickScore_v1", "a4e4367c6dfa7288a00c550414478f865b875800")
HPS = Repository(
    "xswu/HPSv2", "697403c78157020a1ae59d23f111aa58ced35b0a",
    (("HPS_v2.1_compressed.pt", "c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837"),),
)  # fmt: skip
AESTHETIC_FILE = "sac+logos+ava1-l14-linearMSE.pth"
AESTHETIC_SHA256 = "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0"
AESTHETIC_URL = "https://github.com/christophschuhmann/improved-aesthetic-predictor"

# By reward, the files that are large: where they are on a machine, the reward has been used there. The surest first.
MAIN_FILES: dict[str, tuple[tuple[str, Repository], ...]] = {
    "image-reward": (("ImageReward.pt", IMAGE_REWARD), ("vocab.txt", BERT)),
    "hpsv2": (("HPS_v2.1_compressed.pt", HPS), ("tokenizer.json", CLIP_H)),
    "pickscore": (("model.safetensors", PICKSCORE), ("tokenizer.json", CLIP_H)),
    "clip": (("model.safetensors", CLIP_L), ("tokenizer.json", CLIP_L)),
}


def is_cached(name: str, repository: Repository) -> bool:
    """Whether a file is in this machine's cache of the hub; nothing is asked of the network."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository.name, name, revision=repository.revision), str)


def find(name: str, repository: Repository, folder: Path | None, reward: str) -> Path:
    """The file `name` in `folder`, or else of the hub's repository, its digest checked.

    Raises `ModelError` that says which file is missing, where it was looked for and how to get it, or that it is
    truncated or another file.
    """
    known = dict(repository.sha256).get(name)
    if folder is not None:
        path = folder / name
        if not path.is_file():
            raise ModelError(
                f"reward {reward!r} needs {name}, which is not in {str(folder)!r}; {_how(repository, name)}"
            )
        check_digest(path, known, reward)
        return path
    try:
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(repository.name, name, revision=repository.revision))
    except Exception as error:  # network, hub and file system have their own classes
        cache = os.environ.get("HF_HOME", "~/.cache/huggingface")
        raise ModelError(
            f"reward {reward!r} needs {name} of {repository.name}: not in {cache}, and the hub did not deliver it "
            f"({reason_of(error)}); {_how(repository, name)} and name it: {reward}=FOLDER"
        ) from error
    blob = path.resolve().name  # the hub's cache names a large file by its SHA-256
    check_digest(path, known or (blob if re.fullmatch(r"[0-9a-f]{64}", blob) else None), reward)
    return path


def find_folder(names: tuple[str, ...], repository: Repository, folder: Path | None, reward: str) -> Path:
    """A folder that has all of `names`, for `from_pretrained`; raises as `find` does."""
    paths = [find(name, repository, folder, reward) for name in names]
    parent = paths[0].parent
    check_weight_files(parent)
    return parent


def read_state(path: Path, reward: str) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint, safetensors or `.pt`, without running any code that is in it.

    Raises `ModelError` for a truncated file or one that holds something else than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # pickle, zip and torch have their own classes
        raise ModelError(
            f"{path} (reward {reward!r}) is truncated or no checkpoint: {reason_of(error)}; get it again"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ModelError(f"{path} (reward {reward!r}) is no state dict of tensors")
    return state


def load_exactly(module: torch.nn.Module, state: dict[str, torch.Tensor], path: Path, reward: str) -> None:
    """Load `state` into `module`; raises `ModelError` that names the first key or shape which doesn't fit."""
    own = module.state_dict()
    for key, value in state.items():
        if key not in own:
            raise ModelError(f"{path} is no checkpoint of {reward!r}: unexpected key {key!r}")
        if own[key].shape != value.shape:
            raise ModelError(
                f"{path} is no checkpoint of {reward!r}: {key!r} is {list(value.shape)}, expected {list(own[key].shape)}"
            )
    missing = [key for key in own if key not in state]
    if missing:
        raise ModelError(f"{path} is no checkpoint of {reward!r}: missing key {missing[0]!r}")
    module.load_state_dict(state, assign=True)


def check_digest(path: Path, expected: str | None, reward: str) -> None:
    """Raise `ModelError` unless the file's SHA-256 is as expected; None expects nothing."""
    if expected is None:
        return
    digest = sha256(path)
    if digest != expected:
        raise ModelError(
            f"{path} (reward {reward!r}) is truncated or another file: its SHA-256 is {digest[:16]}..., expected "
            f"{expected[:16]}...; delete it and get it again"
        )


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _how(repository: Repository, name: str) -> str:
    return f"get it with `hf download {repository.name} {name} --revision {repository.revision} --local-dir FOLDER`"
