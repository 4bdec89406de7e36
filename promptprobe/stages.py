"""Which trajectory is worth the next steps: decisions of the policy `staged`, as pure functions on numbers.

Comes in: what a judge said of each seed at its looks, and a price of compute. Goes out: which seed goes on, a new one
being one of the choices, or which is taken. A seed's worth is its expected reward plus a margin for what further looks
may show; the seed of the largest worth goes on, and one that is still the first after its last look is taken.
Source: the search with costly looks of Weitzman, Econometrica 1979, in several stages as in Kleinberg, Waggoner and
Weyl, Descending Price Optimally Coordinates Search, 2016.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from functools import cache
from typing import Any

import numpy as np

from .errors import InputError
from .stage_rows import PLAIN, ROWS, Look, Rate, StageRow

FEW_STEPS = 8  # runs of at most so many steps: one late look
NO_LOOK = 3  # of at most so many: none
LATE = 0.75  # where the one look lies, as a share of the run
SEEDS = 10  # to choose from, when none are given
MOST_BEGUN = 2  # for each image of the budget, where that is more; of still more, a few prompts begin too many
MOST_PLAIN = 1000
MOST_SPENT = 2.0  # no new seed is begun when this many times the budget would be spent
PRIOR = 2.0  # a prompt's spread is its row's as much as that of so many looks
POWER = 0.7  # how a prompt's error follows the spread of its first looks: slope of the logarithms
DRAWS = 2000
RATIOS = np.geomspace(0.003, 3, 40)


@dataclass(frozen=True)
class StagePlan:
    """How a search is done. `seeds` may be begun at most; `looks` are the steps at which they are judged.

    With a `row`, seeds are begun and go on by what they are worth at this `price` of an image (in spreads). Without one,
    `left[i]` go on after look i. Without looks, seeds are made in full. `note` says what to expect.
    """

    seeds: int
    looks: tuple[int, ...]
    note: str
    budget: float = 1.0
    left: tuple[int, ...] = ()
    row: StageRow | None = None
    price: float = 0.0


def row_for(pipeline: type, reward: str) -> StageRow | None:
    """The row of a pipeline's class (or one made from it) and a reward; None where nothing was measured."""
    names = {kind.__name__ for kind in pipeline.__mro__}
    return next((row for row in ROWS if names & set(row.pipelines) and reward == row.reward), None)


def plan_stages(budget: float | None, seeds: int | None, steps: int, row: StageRow | None) -> StagePlan:
    """The plan for a mean `budget` in full images; without one, that for which `seeds` (default: `SEEDS`) are not too many.

    No more than `seeds` are begun. Runs of at most `NO_LOOK` steps have no looks, of at most `FEW_STEPS` one.
    Raises `InputError` for a budget below one image.
    """
    if budget is not None and not (math.isfinite(budget) and budget >= 1):
        raise InputError(f"budget is {budget:g}; it must be at least 1, the price of one image made in full")
    if steps <= NO_LOOK or seeds == 1 or (budget is not None and budget < 1.5):
        count = seeds if budget is None else min(seeds or MOST_PLAIN, max(1, math.floor(budget)))
        count = count or 4
        few = "; in so few steps seeds hardly differ, another wording does more" if steps <= NO_LOOK else ""
        return StagePlan(count, (), f"{count} of the seeds made in full, the best kept{few}", budget or count)
    if steps <= FEW_STEPS:
        look = min(steps - 1, round(LATE * steps))
        count = max(2, math.floor(((budget or 3) - 1 + look / steps) * steps / look)) if budget or not seeds else seeds
        count = min(count, seeds or count)
        images = (count * look + steps - look) / steps
        note = f"{count} seeds for the price of {images:.1f} images; in so few steps seeds hardly differ, another wording does more"
        return StagePlan(count, (look,), note, images, (1,))
    if row is None:
        return _plain(budget, seeds, steps, "this model and judge")
    least = row.pools[0].rates[0].images
    budget = max((seeds or SEEDS) / MOST_BEGUN, least) if budget is None else budget
    if budget < least:
        return _plain(budget, seeds, steps, f"less than {least:.2f} images")
    at = tuple(round(look.share * steps) for look in row.looks)
    if len(set(at)) < len(at):
        return _plain(budget, seeds, steps, f"runs of {steps} steps")
    most = seeds or most_seeds(budget)
    rate = rate_for(row, budget, most)
    note = (
        f"about {rate.seeds:.0f} of {most} seeds for the price of {rate.images:.1f} images on average, as good as the best of "
        f"about {rate.as_good_as:.1f}"
    )
    if most < row.pools[0].seeds:
        note = f"at most {most} seeds, each judged up to {len(at)} times"
    return StagePlan(most, at, f"{note}; {row.source}", budget, row=row, price=rate.price)


def most_seeds(budget: float) -> int:
    """How many seeds to choose from are right for a budget in images."""
    return max(SEEDS, math.ceil(MOST_BEGUN * budget))


def rate_for(row: StageRow, budget: float, seeds: int) -> Rate:
    """The price at which a mean `budget` in images is spent where there are `seeds` to choose from, and what it gives;
    between those that were measured, and never beyond them."""
    pools = row.pools
    count = min(max(seeds, pools[0].seeds), pools[-1].seeds)
    above = next(i for i, pool in enumerate(pools) if pool.seeds >= count)
    below = max(above - 1, 0)
    low, high = (_rate_at(pools[i].rates, budget) for i in (below, above))
    if below == above:
        return high
    share = math.log(count / pools[below].seeds) / math.log(pools[above].seeds / pools[below].seeds)
    return Rate(*((1 - share) * a + share * b for a, b in zip(astuple(low), astuple(high), strict=True)))


def _rate_at(rates: tuple[Rate, ...], images: float) -> Rate:
    spent = [r.images for r in rates]
    price = math.exp(float(np.interp(images, spent, [math.log(r.price) for r in rates])))
    seeds, own, good = (
        float(np.interp(images, spent, column)) for column in list(zip(*map(astuple, rates), strict=True))[1:]
    )
    return Rate(price, seeds, own, good)


def _plain(budget: float | None, seeds: int | None, steps: int, unknown: str) -> StagePlan:
    """Fixed stages, for what nothing was measured of; what that is, in words."""
    at = [max(1, round(share * steps)) for share, _ in PLAIN]

    def left(count: int) -> list[int]:
        return [max(1, math.ceil(share * count)) for _, share in PLAIN]

    def images(count: int) -> float:
        going = [count, *left(count)]
        return (sum(n * (k - b) for n, k, b in zip(going, at, [0, *at], strict=False)) + steps - at[-1]) / steps

    count = seeds or SEEDS
    if budget is not None:
        count = max(n for n in range(1, math.ceil(4 * budget) + 2) if n == 1 or images(n) <= budget + 1e-9)
        count = min(count, seeds or count)
    note = f"{count} seeds for the price of {images(count):.1f} images; no figures are known for {unknown}"
    return StagePlan(count, tuple(at), note, images(count), tuple(left(count)))


def spread_of(row: StageRow, first: Any) -> Any:
    """The spread of a prompt's finished rewards, from its first looks `[..., seeds]`, shrunk to the row's."""
    own = np.std(first, axis=-1, ddof=1) / row.looks[0].wide
    count = np.shape(first)[-1] - 1
    return row.spread * np.sqrt((count * (own / row.spread) ** 2 + PRIOR) / (count + PRIOR)) ** POWER


def expected(row: StageRow, look: Look, seen: Any, mean: Any) -> Any:
    """The expected finished reward of a seed, counted from that of a new one: a line in what was `seen` at a look and in
    the `mean` of the prompt's first looks."""
    return look.offset + look.slope * seen + look.mean * mean - (row.offset + row.mean * mean)


def margins(looks: tuple[Look, ...], price: Any) -> np.ndarray:
    """What to add to the expected reward before each look and before finishing, in spreads: `[..., looks + 1]`.

    `price` is that of a full image, in spreads of the prompt. More is to be had from a seed that is less known.
    """
    grid = _grid(looks)
    at = np.log(np.clip(price, RATIOS[0], RATIOS[-1]))
    return np.stack([np.interp(at, np.log(RATIOS), grid[:, s]) for s in range(len(looks) + 1)], -1)


@cache
def _grid(looks: tuple[Look, ...]) -> np.ndarray:
    """Margins for `RATIOS`, backwards from the last look, on fixed draws: `[ratios, looks + 1]`."""
    known = np.maximum.accumulate([0.0, *(look.known for look in looks)])
    steps = np.diff([0.0, *(look.share for look in looks), 1.0])
    draws = np.random.default_rng(0).standard_normal((DRAWS, len(looks))) * np.sqrt(np.diff(known))
    means = np.cumsum(np.hstack([np.zeros((DRAWS, 1)), draws]), 1)
    grid = np.zeros((len(RATIOS), len(looks) + 1))
    for i, price in enumerate(RATIOS):
        grid[i, -1] = -price * steps[-1]
        worth = means[:, -1] + grid[i, -1]
        for s in range(len(looks) - 1, -1, -1):
            grid[i, s] = _bar(worth - means[:, s], price * steps[s])
            worth = np.minimum(worth, means[:, s] + grid[i, s])
    return grid


def _bar(gain: np.ndarray, cost: float) -> float:
    """The bar that `gain` exceeds by `cost` on average."""
    low, high = float(gain.min()) - cost, float(gain.max())
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(gain - middle, 0).mean() > cost else (low, middle)
    return low
