"""What is known of looks at unfinished images, a row for each family of models: the table behind `stages`.

The figures are ours, derived by `benchmarks/real_models.py --rows` from what reward models said of decoded previews
(published with TTSnap, arXiv:2511.22242).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """At `share` (0..1) of the run a finished reward is expected to be `offset + slope * seen + mean * m`, m being the mean
    of the prompt's first looks. `known` is the share of the finished images' variance in a prompt that it tells, `wide`
    how wide previews spread, in spreads: standard deviations of finished images of one prompt."""

    share: float
    offset: float
    slope: float
    mean: float
    known: float
    wide: float


@dataclass(frozen=True)
class Rate:
    """With a `price` of an image (in spreads): seeds begun, images' worth spent, and the n whose best of n is as good."""

    price: float
    seeds: float
    images: float
    as_good_as: float


@dataclass(frozen=True)
class Pool:
    """What each price gives where there are `seeds` to choose from, from the dearest image to the cheapest."""

    seeds: int
    rates: tuple[Rate, ...]


@dataclass(frozen=True)
class StageRow:
    """Of `pipelines` (classes of diffusers) and a `reward`. `begin` seeds are looked at first. `spread` is in the reward's
    units. A new seed's reward is expected to be `offset + mean * m`. `pools` are by rising number of seeds."""

    name: str
    pipelines: tuple[str, ...]
    reward: str
    source: str
    spread: float
    begin: int
    offset: float
    mean: float
    looks: tuple[Look, ...]
    pools: tuple[Pool, ...] = ()


ROWS = (
    StageRow(
        "FLUX.1-dev", ("FluxPipeline",), "image-reward",
        "measured on FLUX.1-dev with ImageReward", 0.5291, 4, 1.0733, 0.4262,
        (
            Look(0.3, 1.0766, 0.4696, 0.0119, 0.308, 1.203),
            Look(0.4, 0.6869, 0.7281, -0.1241, 0.523, 1.119),
            Look(0.5, 0.3505, 0.8817, -0.1177, 0.704, 1.049),
            Look(0.6, 0.1645, 0.9473, -0.0719, 0.821, 1.014),
            Look(0.7, 0.0664, 0.9782, -0.0397, 0.898, 0.999),
            Look(0.8, 0.0191, 0.9909, -0.0196, 0.946, 0.996),
        ),
        (
            Rate(1.8, 4.1, 2.01, 2.69),
            Rate(1.3, 4.2, 2.09, 2.89),
            Rate(0.95, 4.5, 2.27, 3.21),
            Rate(0.7, 5.0, 2.52, 3.68),
            Rate(0.5, 5.7, 2.88, 4.27),
            Rate(0.36, 6.9, 3.46, 5.17),
            Rate(0.26, 9.1, 4.55, 6.68),
            Rate(0.19, 13.3, 6.6, 8.64),
            Rate(0.13, 19.3, 9.57, 11.27),
        ),
    ),
    StageRow(
        "SDXL", ("StableDiffusionXLPipeline",), "image-reward",
        "measured on SDXL with ImageReward", 0.5113, 4, 1.1285, 0.5792,
        (
            Look(0.3, 1.1436, 0.4621, 0.1826, 0.242, 1.239),
            Look(0.4, 0.8052, 0.7327, -0.015, 0.445, 1.144),
            Look(0.5, 0.5024, 0.864, -0.0652, 0.609, 1.083),
            Look(0.6, 0.2702, 0.9364, -0.0594, 0.746, 1.038),
            Look(0.7, 0.1346, 0.9643, -0.0299, 0.838, 1.02),
            Look(0.8, 0.0417, 0.986, -0.0066, 0.914, 0.998),
        ),
        (
            Rate(1.8, 4.1, 2.07, 2.55),
            Rate(1.3, 4.3, 2.22, 2.81),
            Rate(0.95, 4.7, 2.44, 3.13),
            Rate(0.7, 5.5, 2.85, 3.56),
            Rate(0.5, 6.7, 3.45, 4.11),
            Rate(0.36, 9.0, 4.58, 5.19),
            Rate(0.26, 12.6, 6.41, 6.6),
        ),
    ),
)  # fmt: skip
# For any other model or reward: at this share of the run, this share of the seeds goes on; nothing is known of it there.
PLAIN = ((0.3, 0.6), (0.5, 0.3), (0.6, 0.0))
