"""`python -m promptprobe`."""

from .cli import main

main()
