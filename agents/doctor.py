"""What is at hand on this machine and what is missing: packages, device, memory, models, rewards, probes, an LLM.

Comes in: the environment and what is installed. Goes out: `Finding`s; nothing is loaded or downloaded, nothing asked of the
network, and no key is shown.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from ..decoders import DECODERS, decoder_on_disk
from ..errors import PromptProbeError, reason_of
from ..loading import check_weight_files, settle_device
from ..rewards import REWARDS
from ..rewards.weights import MAIN_FILES, is_cached
from ..version import __version__
from ..worlds import WORLDS
from .providers import find_place

OK, MISSING, WRONG = "ok", "missing", "wrong"
NAME = "promptprobe"
LEAST_MEMORY = 2.0  # GB for the built-in worlds
LEAST_DISK = 1.0  # GB


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `state` is ok, missing (something optional) or wrong; `remedy` says what to do then."""

    part: str
    name: str
    state: str
    what: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Everything, part by part; a look that fails is a finding, too."""
    for part, look in LOOKS:
        try:
            yield from (Finding(part, *found) for found in look())
        except Exception as error:  # a broken package raises whatever it likes
            yield Finding(part, "", WRONG, reason_of(error), "reinstall promptprobe in a new virtual environment")


def _packages() -> Iterator[tuple[str, ...]]:
    from packaging.requirements import Requirement

    yield "python", OK, f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield NAME, OK, f"{__version__} in {Path(__file__).parents[1]}"
    for text in metadata.requires(NAME) or ():
        need = Requirement(text)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        found = _version(need.name)
        if found is None or not need.specifier.contains(found, prereleases=True):
            want = f"pip install '{need.name}{need.specifier}'"
            yield need.name, WRONG, found or "not installed", want
        else:
            yield need.name, OK, found


def _extras() -> Iterator[tuple[str, ...]]:
    from packaging.requirements import Requirement

    needs = [Requirement(text) for text in metadata.requires(NAME) or ()]
    for extra in metadata.metadata(NAME).get_all("Provides-Extra") or ():
        own = [
            n
            for n in needs
            if n.marker and n.marker.evaluate({"extra": extra}) and not n.marker.evaluate({"extra": ""})
        ]
        lacking = [n.name for n in own if n.name != NAME and _version(n.name) is None]
        if lacking:
            yield extra, MISSING, f"without {', '.join(lacking)}", f"pip install '{NAME}[{extra}]'"
        else:
            yield extra, OK, ", ".join(f"{n.name} {_version(n.name)}" for n in own)


def _device() -> Iterator[tuple[str, ...]]:
    import torch

    device, why = settle_device()
    remedy = "" if device != "cpu" else "for a GPU: https://pytorch.org/get-started/locally"
    yield "device", OK if device != "cpu" else MISSING, f"{device}: {why}", remedy
    for n in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(n)
        yield f"cuda:{n}", OK, f"{torch.cuda.get_device_name(n)}, {free / 2**30:.1f} of {total / 2**30:.1f} GB free"
    yield "threads", OK, f"{torch.get_num_threads()} of {os.cpu_count()} cores"
    memory = _memory()
    low = memory < LEAST_MEMORY
    yield "memory", WRONG if low else OK, f"{memory:.1f} GB free", "close other programs" if low else ""
    cache = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    there = next(p for p in (cache, *cache.absolute().parents) if p.exists())
    disk = shutil.disk_usage(there).free / 2**30
    yield (
        "disk",
        OK if disk > LEAST_DISK else WRONG,
        f"{disk:.0f} GB free for {cache}",
        "" if disk > LEAST_DISK else "set HF_HOME",
    )


def _worlds() -> Iterator[tuple[str, ...]]:
    for world in WORLDS:
        for what, folder in (("pipeline", world.pipeline), ("probe", world.probe)):
            if folder is None:
                continue
            try:
                if not any(folder.glob("**/*.safetensors")):
                    raise PromptProbeError(f"{folder} has no weights")
                check_weight_files(folder)
                yield f"{world.name}, {what}", OK, str(folder)
            except PromptProbeError as error:
                yield f"{world.name}, {what}", WRONG, str(error), "reinstall promptprobe"


def _rewards() -> Iterator[tuple[str, ...]]:
    for name, row in REWARDS.items():
        files = MAIN_FILES.get(name, ())
        lacking = [(file, repository) for file, repository in files if not is_cached(file, repository)]
        if row.source in ("built in", "a formula"):
            yield name, OK, f"{row.source}: {row.what}"
        elif not files:
            yield name, MISSING, row.what, f"give the folder of its weights: --reward {name}=FOLDER"
        elif lacking:
            file, repository = lacking[0]
            get = f"hf download {repository.name} {file} --revision {repository.revision}"
            yield name, MISSING, f"{row.what}; {file} is not in the cache", f"{get} (or it is fetched when first used)"
        else:
            yield name, OK, f"{row.what}; in the cache"


def _decoders() -> Iterator[tuple[str, ...]]:
    for row in DECODERS:
        if decoder_on_disk(row):
            yield row.source, OK, row.latents
        else:
            yield row.source, MISSING, row.latents, "fetched with --preview-decoder tiny"


def _llm() -> Iterator[tuple[str, ...]]:
    place = find_place()
    if place is None:
        yield "language model", MISSING, "none is named", "set OPENAI_API_KEY or OPENAI_BASE_URL (docs/LLM.md)"
    else:
        key = "a key is set" if place.key else "without a key"
        yield "language model", OK, f"{place.model or 'the first that is listed'} at {_without_user(place.url)}, {key}"


LOOKS: tuple[tuple[str, Callable[[], Iterator[tuple[str, ...]]]], ...] = (
    ("packages", _packages), ("device", _device), ("built-in worlds", _worlds), ("rewards", _rewards), ("tiny decoders", _decoders), ("language model", _llm),
    ("extras", _extras),
)  # fmt: skip


def _without_user(url: str) -> str:
    """The address without a user's name and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _memory() -> float:
    """GB of memory that programs can still get, what the system keeps of files included."""
    import psutil

    return psutil.virtual_memory().available / 2**30
