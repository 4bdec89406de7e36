"""Turn the weights of folders into float16 files, in place: half the size, loaded to float32 again by the package.

    python -m worlds.icons.half promptprobe/icons/weights

Prints, for each file, how far the largest and the typical weight moved. Refuses a weight that float16 can't hold.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from promptprobe.files import write_together


def halve(file: Path) -> tuple[int, int, float]:
    """Write the float32 tensors of a safetensors file as float16; return its bytes before and after, and the relative
    error (root of summed squares over the root of the weights' own).

    Raises `SystemExit` that names a tensor which would overflow; the file is then left as it was.
    """
    before = file.stat().st_size
    tensors: dict[str, torch.Tensor] = {}
    moved = whole = 0.0
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
        for name in opened.keys():  # noqa: SIM118 - a safetensors file is no dict
            tensor = opened.get_tensor(name)
            if tensor.dtype == torch.float32:
                half = tensor.half()
                if not torch.isfinite(half).all():
                    raise SystemExit(f"{file}: {name} reaches {tensor.abs().max():.3g}, float16 ends at 65504")
                moved += float((half.double() - tensor.double()).square().sum())
                whole += float(tensor.double().square().sum())
                tensor = half
            tensors[name] = tensor
    write_together({file: save(tensors, metadata)})
    return before, file.stat().st_size, (moved / whole) ** 0.5 if whole else 0.0


def main() -> None:
    """Halve every safetensors file under the folders given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    for folder in parser.parse_args().folders:
        for file in sorted(folder.rglob("*.safetensors")):
            before, after, error = halve(file)
            print(f"{file}: {before / 1e6:.2f} -> {after / 1e6:.2f} MB, weights moved by {error:.1e} of their size")


if __name__ == "__main__":
    main()
