"""`promptprobe backbones`: which model families can be read."""

from __future__ import annotations

from .made import command


@command()
def backbones() -> None:
    """List the supported model families: denoiser, probed blocks, where the text lies, tested solvers."""
    from ..backbones import BACKBONES
    from ..view import print_backbones

    print_backbones(list(BACKBONES.values()))
