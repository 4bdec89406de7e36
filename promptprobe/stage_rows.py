"""What is known of looks at unfinished images, a row for each family of models: the table behind `stages`.

The figures are ours, derived by `benchmarks/real_models.py --rows` from what reward models said of decoded previews: of
FLUX.1-dev and SDXL as published with TTSnap (arXiv:2511.22242), of the icon world by `benchmarks/settling.py`.
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
            Pool(5, (
                Rate(2.5, 4.0, 1.96, 2.45), Rate(1.8, 4.0, 1.99, 2.6), Rate(1.3, 4.1, 2.04, 2.73), Rate(0.95, 4.1, 2.11, 2.9),
                Rate(0.7, 4.2, 2.18, 3.08), Rate(0.5, 4.2, 2.27, 3.31), Rate(0.36, 4.3, 2.37, 3.51), Rate(0.26, 4.5, 2.5, 3.68),
                Rate(0.19, 4.6, 2.62, 3.77), Rate(0.13, 4.7, 2.75, 3.93), Rate(0.09, 4.8, 2.87, 4.05), Rate(0.06, 4.9, 2.97, 4.17),
                Rate(0.04, 4.9, 3.06, 4.28), Rate(0.02, 4.9, 3.19, 4.4), Rate(0.01, 5.0, 3.3, 4.49),
            )),
            Pool(10, (
                Rate(2.5, 4.0, 1.96, 2.46), Rate(1.8, 4.1, 2.0, 2.63), Rate(1.3, 4.1, 2.08, 2.81), Rate(0.95, 4.4, 2.22, 3.05),
                Rate(0.7, 4.7, 2.4, 3.49), Rate(0.5, 5.0, 2.62, 3.96), Rate(0.36, 5.5, 2.89, 4.52), Rate(0.26, 6.1, 3.27, 5.11),
                Rate(0.19, 6.9, 3.7, 5.64), Rate(0.13, 7.6, 4.15, 6.08), Rate(0.09, 8.3, 4.55, 6.63), Rate(0.06, 8.8, 4.9, 7.0),
                Rate(0.04, 9.1, 5.17, 7.28), Rate(0.02, 9.4, 5.55, 7.68), Rate(0.01, 9.7, 5.86, 7.86),
            )),
            Pool(14, (
                Rate(2.5, 4.0, 1.96, 2.46), Rate(1.8, 4.1, 2.0, 2.63), Rate(1.3, 4.1, 2.08, 2.81), Rate(0.95, 4.4, 2.23, 3.05),
                Rate(0.7, 4.7, 2.43, 3.51), Rate(0.5, 5.3, 2.73, 4.07), Rate(0.36, 6.1, 3.15, 4.8), Rate(0.26, 7.1, 3.69, 5.69),
                Rate(0.19, 8.3, 4.39, 6.44), Rate(0.13, 9.6, 5.11, 7.24), Rate(0.09, 10.7, 5.72, 8.01), Rate(0.06, 11.6, 6.29, 8.63),
                Rate(0.04, 12.1, 6.71, 9.06), Rate(0.02, 12.8, 7.32, 9.8), Rate(0.01, 13.3, 7.82, 10.12),
            )),
            Pool(20, (
                Rate(2.5, 4.0, 1.97, 2.47), Rate(1.8, 4.1, 2.01, 2.64), Rate(1.3, 4.2, 2.08, 2.81), Rate(0.95, 4.4, 2.24, 3.06),
                Rate(0.7, 4.8, 2.46, 3.52), Rate(0.5, 5.4, 2.79, 4.14), Rate(0.36, 6.5, 3.34, 4.97), Rate(0.26, 8.1, 4.14, 6.2),
                Rate(0.19, 10.1, 5.2, 7.4), Rate(0.13, 12.3, 6.37, 8.76), Rate(0.09, 14.1, 7.31, 9.97), Rate(0.06, 15.6, 8.2, 10.99),
                Rate(0.04, 16.5, 8.88, 11.76), Rate(0.02, 17.7, 9.83, 12.91), Rate(0.01, 18.6, 10.65, 13.54),
            )),
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
            Pool(5, (
                Rate(2.5, 4.0, 1.99, 2.32), Rate(1.8, 4.0, 2.04, 2.46), Rate(1.3, 4.1, 2.1, 2.59), Rate(0.95, 4.1, 2.18, 2.76),
                Rate(0.7, 4.2, 2.28, 2.89), Rate(0.5, 4.3, 2.38, 3.01), Rate(0.36, 4.4, 2.49, 3.2), Rate(0.26, 4.5, 2.6, 3.35),
                Rate(0.19, 4.6, 2.71, 3.49), Rate(0.13, 4.7, 2.82, 3.6), Rate(0.09, 4.8, 2.91, 3.72), Rate(0.06, 4.8, 3.0, 3.78),
                Rate(0.04, 4.9, 3.08, 3.84), Rate(0.02, 4.9, 3.21, 3.9), Rate(0.01, 4.9, 3.31, 3.98),
            )),
            Pool(10, (
                Rate(2.5, 4.0, 2.0, 2.33), Rate(1.8, 4.1, 2.07, 2.49), Rate(1.3, 4.3, 2.19, 2.72), Rate(0.95, 4.6, 2.37, 3.01),
                Rate(0.7, 4.9, 2.6, 3.42), Rate(0.5, 5.4, 2.86, 3.83), Rate(0.36, 6.0, 3.22, 4.28), Rate(0.26, 6.6, 3.6, 4.79),
                Rate(0.19, 7.1, 3.94, 5.12), Rate(0.13, 7.6, 4.31, 5.5), Rate(0.09, 8.1, 4.62, 5.86), Rate(0.06, 8.4, 4.89, 6.2),
                Rate(0.04, 8.7, 5.14, 6.5), Rate(0.02, 9.1, 5.51, 6.89), Rate(0.01, 9.4, 5.82, 7.3),
            )),
            Pool(14, (
                Rate(2.5, 4.0, 2.0, 2.33), Rate(1.8, 4.1, 2.07, 2.49), Rate(1.3, 4.3, 2.2, 2.73), Rate(0.95, 4.6, 2.39, 3.04),
                Rate(0.7, 5.1, 2.69, 3.46), Rate(0.5, 5.9, 3.1, 3.97), Rate(0.36, 6.9, 3.66, 4.63), Rate(0.26, 7.9, 4.23, 5.37),
                Rate(0.19, 8.7, 4.76, 5.89), Rate(0.13, 9.7, 5.35, 6.5), Rate(0.09, 10.5, 5.84, 6.97), Rate(0.06, 11.1, 6.25, 7.55),
                Rate(0.04, 11.6, 6.65, 8.01), Rate(0.02, 12.3, 7.23, 8.69), Rate(0.01, 12.9, 7.74, 9.41),
            )),
            Pool(20, (
                Rate(2.5, 4.0, 2.0, 2.33), Rate(1.8, 4.1, 2.07, 2.49), Rate(1.3, 4.3, 2.21, 2.74), Rate(0.95, 4.7, 2.42, 3.07),
                Rate(0.7, 5.3, 2.76, 3.5), Rate(0.5, 6.2, 3.26, 4.07), Rate(0.36, 7.9, 4.11, 4.8), Rate(0.26, 9.6, 5.03, 5.72),
                Rate(0.19, 10.9, 5.84, 6.47), Rate(0.13, 12.6, 6.79, 7.28), Rate(0.09, 13.9, 7.55, 8.16), Rate(0.06, 14.8, 8.19, 8.97),
                Rate(0.04, 15.7, 8.81, 9.78), Rate(0.02, 17.0, 9.74, 10.83), Rate(0.01, 18.0, 10.53, 11.87),
            )),
        ),
    ),
    StageRow(
        "icons", ("FluxPipeline",), "icons",
        "measured on the icon world with its own reward", 0.2938, 4, 0.3278, 0.8799,
        (
            Look(0.32, 0.324, 0.411, 0.513, 0.188, 1.532),
            Look(0.4, 0.2356, 0.6514, 0.2937, 0.386, 1.305),
            Look(0.48, 0.1436, 0.8, 0.1818, 0.522, 1.143),
            Look(0.6, 0.1041, 0.8755, 0.122, 0.712, 1.087),
            Look(0.72, 0.0747, 0.9444, 0.0614, 0.87, 1.039),
            Look(0.8, 0.0754, 0.9563, 0.0358, 0.889, 1.045),
        ),
        (
            Pool(5, (
                Rate(2.5, 4.0, 2.04, 2.28), Rate(1.8, 4.0, 2.07, 2.34), Rate(1.3, 4.1, 2.12, 2.47), Rate(0.95, 4.1, 2.19, 2.56),
                Rate(0.7, 4.2, 2.3, 2.67), Rate(0.5, 4.3, 2.45, 2.83), Rate(0.36, 4.4, 2.6, 2.97), Rate(0.26, 4.5, 2.74, 3.1),
                Rate(0.19, 4.6, 2.87, 3.24), Rate(0.13, 4.7, 3.01, 3.43), Rate(0.09, 4.8, 3.11, 3.52), Rate(0.06, 4.9, 3.21, 3.63),
                Rate(0.04, 4.9, 3.29, 3.67), Rate(0.02, 4.9, 3.4, 3.76), Rate(0.01, 5.0, 3.48, 3.83),
            )),
            Pool(10, (
                Rate(2.5, 4.1, 2.06, 2.29), Rate(1.8, 4.2, 2.12, 2.37), Rate(1.3, 4.3, 2.21, 2.55), Rate(0.95, 4.5, 2.34, 2.67),
                Rate(0.7, 4.8, 2.58, 2.85), Rate(0.5, 5.2, 2.91, 3.21), Rate(0.36, 5.9, 3.36, 3.68), Rate(0.26, 6.6, 3.81, 3.93),
                Rate(0.19, 7.2, 4.26, 4.33), Rate(0.13, 8.0, 4.78, 4.88), Rate(0.09, 8.4, 5.13, 5.16), Rate(0.06, 8.9, 5.49, 5.58),
                Rate(0.04, 9.1, 5.75, 5.78), Rate(0.02, 9.5, 6.08, 6.12), Rate(0.01, 9.6, 6.31, 6.41),
            )),
            Pool(14, (
                Rate(2.5, 4.1, 2.06, 2.29), Rate(1.8, 4.2, 2.12, 2.37), Rate(1.3, 4.3, 2.21, 2.55), Rate(0.95, 4.5, 2.36, 2.66),
                Rate(0.7, 4.9, 2.64, 2.87), Rate(0.5, 5.7, 3.14, 3.38), Rate(0.36, 6.9, 3.82, 3.89),
            )),
            Pool(20, (
                Rate(2.5, 4.1, 2.06, 2.29), Rate(1.8, 4.2, 2.12, 2.37), Rate(1.3, 4.3, 2.22, 2.56), Rate(0.95, 4.5, 2.38, 2.67),
                Rate(0.7, 5.0, 2.68, 2.89), Rate(0.5, 6.0, 3.26, 3.4),
            )),
        ),
    ),
)  # fmt: skip
# For any other model or reward: at this share of the run, this share of the seeds goes on; nothing is known of it there.
PLAIN = ((0.3, 0.6), (0.5, 0.3), (0.6, 0.0))
