"""Looks at previews of FLUX.1-dev and SDXL: what `staged` gives for its compute, against plain best of n.

    python benchmarks/real_models.py --data FILE.npz [--draws 20] [--looks 0.3,0.4,0.5,0.6,0.7,0.8]

FILE has rewards of previews as float arrays `[prompts, seeds, steps]`, the last step being the finished image, by keys
`flux|sdxl / image-reward|pickscore|hpsv2 / plain|tuned`; the project ships none (the authors of TTSnap,
arXiv:2511.22242, published some). All that is fitted, prices included, is fitted on other prompts than it is tried on
(five folds). `--rows` prints the rows of `promptprobe/stage_rows.py`, fitted on all prompts.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from promptprobe.evaluation import best_of_n, equal_images
from promptprobe.stage_rows import PLAIN, Look, Pool, Rate, StageRow
from promptprobe.stages import MOST_SPENT, expected, margins, most_seeds, rate_for, spread_of

LOOKS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # shares of the run
PRICES = (2.5, 1.8, 1.3, 0.95, 0.7, 0.5, 0.36, 0.26, 0.19, 0.13, 0.09, 0.06, 0.04, 0.02, 0.01)
POOLS = (5, 10, 14, 20)  # seeds to choose from
TEN = {"70": 3.45, "100": 4.95}  # of ten seeds: steps of 200, in images
BUDGETS = (1.5, 2, 3, 4, 5, 6)
MOST = 40  # images of plain best of n


def fit_row(data: np.ndarray, name: str, shares: tuple[float, ...] = LOOKS, begin: int = 4) -> StageRow:
    """A row without rates from `[prompts, seeds, steps]`."""
    steps, centred = data.shape[-1], data - data.mean(1, keepdims=True)
    final = centred[..., -1]
    spread = float(np.sqrt((final**2).mean()))
    at = [max(1, round(share * steps)) for share in shares]
    drawn = draw(data, begin + 8, 20, np.random.default_rng(0))
    mean = np.repeat(drawn[:, :begin, at[0] - 1].mean(1), 8)
    rewards = drawn[:, begin:, -1].ravel()
    looks = []
    for k in at:
        seen = centred[..., k - 1]
        a, b, c = line(rewards, drawn[:, begin:, k - 1].ravel(), mean)
        within = float((seen * final).sum() / (seen**2).sum())
        wide = float(np.sqrt((seen**2).mean())) / spread
        looks.append(Look(k / steps, a, b, c, round((within * wide) ** 2, 3), round(wide, 3)))
    offset, slope = line(rewards, mean)
    return StageRow(name, (), "", "", round(spread, 4), begin, offset, slope, tuple(looks))


def line(rewards: np.ndarray, *by: np.ndarray) -> list[float]:
    """Offset and slopes of a least-squares line."""
    table = np.stack([np.ones(len(rewards)), *by], 1)
    return [round(float(v), 4) for v in np.linalg.lstsq(table, rewards, rcond=None)[0]]


def staged(row: StageRow, drawn: np.ndarray, price: float, budget: float | None) -> tuple[np.ndarray, ...]:
    """The policy on draws `[draws, seeds, steps]`: reward of the taken, images spent, seeds begun; each `[draws]`."""
    each, steps = np.arange(len(drawn)), drawn.shape[-1]
    at = np.array([round(look.share * steps) for look in row.looks])
    first = drawn[:, : row.begin, at[0] - 1]
    mean, spread = first.mean(1), spread_of(row, first)
    worth = margins(row.looks, price * row.spread / spread) * spread[:, None]
    stage = np.zeros(drawn.shape[:2], int)
    stage[:, : row.begin] = 1
    index = np.repeat(worth[:, :1], drawn.shape[1], 1)
    index[:, : row.begin] = expected(row, row.looks[0], first, mean[:, None]) + worth[:, 1:2]
    spent = np.full(len(drawn), row.begin * at[0] / steps)
    taken, on = np.full(len(drawn), -1), each
    while len(on):
        if budget is not None:
            over = on[spent[on] + 1 > MOST_SPENT * budget]
            index[over] = np.where(stage[over] == 0, -np.inf, index[over])
        best = index[on].argmax(1)
        now = stage[on, best]
        taken[on[now == len(at)]] = best[now == len(at)]
        on, best, now = (v[now < len(at)] for v in (on, best, now))
        for s in range(len(at)):
            rows, own = on[now == s], best[now == s]
            told = expected(row, row.looks[s], drawn[rows, own, at[s] - 1], mean[rows])
            index[rows, own] = told + worth[rows, s + 1]
            spent[rows] += (at[s] - (at[s - 1] if s else 0)) / steps
            stage[rows, own] += 1
    return drawn[each, taken, -1], spent + (steps - at[-1]) / steps, (stage > 0).sum(1)


def draw(data: np.ndarray, seeds: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Seeds drawn for each prompt, several times: `[prompts * draws, seeds, steps]`.

    One draw begins where the one before ends, so that every seed is drawn about as often.
    """
    rounds = data.shape[1] // seeds  # draws without a seed in common
    each = [
        rng.permutation(data.shape[1])[: rounds * seeds].reshape(rounds, seeds)
        for _ in range(len(data) * -(-draws // rounds))
    ]
    which = np.concatenate(each).reshape(len(data), -1, seeds)[:, :draws]
    return np.take_along_axis(data[:, None], which[..., None], 2).reshape(-1, seeds, data.shape[-1])


def pools(row: StageRow, data: np.ndarray, draws: int, rng: np.random.Generator, sizes: tuple[int, ...]) -> StageRow:
    """The row with what each price gives on `data` for several numbers of seeds to choose from, as far as that is better
    than plain best of n; the cap on what is spent follows from the mean without it."""
    drawn = draw(data, max(sizes), draws, rng)
    curve, one = best_of_n(data[..., -1], MOST).mean(1), data[..., -1].mean()
    made = []
    for size in sizes:
        found: list[Rate] = []
        for price in PRICES:
            _, free, _ = staged(row, drawn[::2, :size], price, None)
            value, spent, begun = staged(row, drawn[:, :size], price, float(free.mean()))
            images, good = round(float(spent.mean()), 2), round(equal_images(value.mean() - one, curve), 2)
            if not found or images > found[-1].images:
                found.append(Rate(price, round(float(begun.mean()), 1), images, good))
        worth = [i for i, rate in enumerate(found) if rate.as_good_as >= rate.images]
        made.append(Pool(size, tuple(found[: max(worth, default=0) + 1])))
    return replace(row, pools=tuple(made))


def three_stages(drawn: np.ndarray) -> tuple[np.ndarray, float]:
    """Three fixed stages: reward of the taken, and the steps that they take."""
    seeds, steps = drawn.shape[1:]
    alive, spent, before = np.tile(np.arange(seeds), (len(drawn), 1)), 0, 0
    for part, share in PLAIN:
        k = round(part * steps)
        spent += alive.shape[1] * (k - before)
        order = np.take_along_axis(drawn[..., k - 1], alive, 1).argsort(1)[:, ::-1]
        alive, before = np.take_along_axis(alive, order[:, : max(1, round(share * seeds))], 1), k
    return drawn[np.arange(len(drawn)), alive[:, 0], -1], spent + steps - before


def main() -> None:
    """Print the table by budget, and that of the best of ten, for every model and reward in the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--only", default="", help="keys that contain this text")
    parser.add_argument("--rows", action="store_true", help="print rows for the package, fitted on all prompts")
    parser.add_argument(
        "--looks", default=",".join(map(str, LOOKS)), help="shares of the run at which seeds are judged"
    )
    args = parser.parse_args()
    shares = tuple(float(x) for x in args.looks.split(","))
    console, rng = Console(width=150), np.random.default_rng(0)
    by_budget = Table(
        "rewards", "budget", "equal compute [95 %]", "as the best of", "images spent", "seeds", "better: plain"
    )
    ten = Table("rewards", "way", "steps", "share of the gain of the best of ten [95 %]")
    with np.load(args.data) as file:
        for key in [k for k in file if args.only in k]:
            data = file[key].astype(float)
            data[..., -1] = file[f"{key.rpartition('/')[0]}/plain"][..., -1]
            for k in range(data.shape[-1] - 1, 0, -1):  # a step without figures: those of the next
                data[..., k - 1] = np.where(np.isnan(data[..., k - 1]), data[..., k], data[..., k - 1])
            if args.rows:
                console.print(pools(fit_row(data, key, shares), data, args.draws, rng, POOLS))
                continue
            report(key, data, args.draws, rng, by_budget, ten, shares)
    if not args.rows:
        console.print(by_budget, ten)


def report(
    key: str,
    data: np.ndarray,
    draws: int,
    rng: np.random.Generator,
    by_budget: Table,
    ten: Table,
    shares: tuple[float, ...],
) -> None:
    """Add a file's rows to both tables."""
    folds, count = np.arange(len(data)) % 5, len(data)
    searches: dict[str, tuple[float, int]] = {f"{b:g}": (b, most_seeds(b)) for b in BUDGETS}
    searches |= {name: (images, 10) for name, images in TEN.items()}
    wanted = {name: np.zeros((3, count)) for name in searches}
    for fold in range(5):
        row = pools(fit_row(data[folds != fold], key, shares), data[folds != fold], max(draws // 2, 4), rng, POOLS[1:3])
        drawn = draw(data[folds == fold], POOLS[2], draws, rng)
        for name, (images, most) in searches.items():
            out = staged(row, drawn[:, :most], rate_for(row, images, most).price, images)
            wanted[name][:, folds == fold] = [v.reshape(-1, draws).mean(1) for v in out]
    curves, one = best_of_n(data[..., -1], MOST), data[..., -1].mean(1)
    again = [np.arange(count), *(rng.integers(0, count, count) for _ in range(1000))]
    for b in BUDGETS:
        value, spent, begun = wanted[f"{b:g}"]
        good = np.array([equal_images((value - one)[i].mean(), curves[:, i].mean(1)) for i in again])
        equal = good / np.array([spent[i].mean() for i in again])
        low, high = np.percentile(equal, [2.5, 97.5])
        by_budget.add_row(
            key, f"{b:g}", f"{equal[0]:.2f}x [{low:.2f}, {high:.2f}]", f"{good[0]:.1f}", f"{spent.mean():.2f}",
            f"{begun.mean():.1f}", "yes" if equal[0] < 1 else "",
        )  # fmt: skip
    mixed = draw(data, 10, draws, rng)
    steps = data.shape[-1]
    fixed = mixed[np.arange(len(mixed)), mixed[..., steps // 5 - 1].argmax(1), -1]
    three, cost = three_stages(mixed)
    ways = [("random", steps, one)]
    ways += [("fixed", 10 * steps // 5 + steps - steps // 5, fixed.reshape(count, -1).mean(1))]
    ways += [("three stages", cost, three.reshape(count, -1).mean(1))]
    ways += [(f"staged, {b} steps", wanted[b][1].mean() * steps, wanted[b][0]) for b in TEN]
    for name, spent, value in ways:
        kept = [(value - one)[i].mean() / curves[9, i].mean() for i in again]
        low, high = np.percentile(kept, [2.5, 97.5])
        ten.add_row(key, name, f"{spent:.0f} of {10 * steps}", f"{kept[0]:.2f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
