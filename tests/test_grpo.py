"""Flow-GRPO: the maths against a float64 reference, one code path for three families, the filter, resuming, bad input."""

from __future__ import annotations

import json
import math
import os
import re
import signal
from pathlib import Path

import numpy as np
import pipelines
import pytest
import torch
from pipelines import SIZE

from promptprobe import PromptProbeError, cli, icons
from promptprobe.grpo import keep, train
from promptprobe.grpo.objective import clipped_loss, group_advantages
from promptprobe.grpo.sde import log_probability, sde_mean

PROMPTS = [
    "a red fox in the snow",
    "an oil painting of a small house",
    "a boat at sea",
    "a fox near a boat",
    "snow at dawn",
]
SMALL = {
    "group_size": 4, "groups": 2, "watch_prompts": 1, "steps": 3, "train_steps": 4, "rank": 2, "height": 64, "width": 48,
    "filter": "random", "rate": 1e-2,
}  # fmt: skip


def brightness(images, prompts):
    return torch.tensor([np.asarray(i, np.float32).mean() for i in images])


@pytest.fixture(scope="module")
def made():
    """Tiny pipelines by family, each made once; a run adds its adapter to a copy of nothing but the denoiser."""
    import copy

    known: dict = {}

    def get(family: str):
        if family not in known:
            torch.manual_seed(0)
            known[family] = getattr(pipelines, family)()
            for part in known[family].components.values():
                if isinstance(part, torch.nn.Module):
                    part.eval()
        whole = known[family]
        parts = {n: copy.deepcopy(c) if n == "transformer" else c for n, c in whole.components.items()}
        return type(whole)(**parts)

    return get


@pytest.mark.parametrize(
    "sigma, following, level", [(1.0, 0.94, 0.7), (0.94, 0.86, 0.7), (0.6, 0.375, 1.2), (0.1, 0.02, 0.3)]
)
def test_log_probabilities_agree_with_a_float64_reference(sigma, following, level):
    torch.manual_seed(1)
    x, v, z = (torch.randn(3, 16, 64) for _ in range(3))
    mean, deviation = sde_mean(x, v, sigma, following, level, 0.94)
    taken = mean + deviation * z
    # Flow-GRPO, eq. 9, written out: drift v + σ²/(2t) (x + (1 - t) v), in double precision throughout.
    t, dt = torch.tensor(sigma, dtype=torch.float64), following - sigma
    spread = level * torch.sqrt(t / (1 - (t if sigma < 1 else torch.tensor(0.94, dtype=torch.float64))))
    own = x.double() + (v.double() + spread**2 / (2 * t) * (x.double() + (1 - t) * v.double())) * dt
    exact = torch.distributions.Normal(own, spread * math.sqrt(-dt)).log_prob(taken.double()).flatten(1).mean(1)
    assert torch.allclose(log_probability(taken, mean, deviation).double(), exact, atol=1e-6, rtol=0)


def test_without_noise_the_step_is_eulers_and_the_marginal_is_kept():
    x, v = torch.randn(2, 8), torch.randn(2, 8)
    assert torch.allclose(sde_mean(x, v, 0.8, 0.6, 0.0, 0.9)[0], x - 0.2 * v)
    # x_t = (1 - t) 0 + t noise has velocity noise: its deviation must become that of the lower level, to first order.
    noise = torch.randn(1, 200_000)
    mean, deviation = sde_mean(0.5 * noise, noise, 0.5, 0.499, 0.7, 0.9)
    walked = mean + deviation * torch.randn_like(mean)
    assert abs(float(walked.std()) - 0.499 * float(noise.std())) < 2e-3


def test_advantages_are_of_the_group_and_the_ratio_is_clipped():
    a = group_advantages(torch.tensor([1.0, 3.0, 10.0, 10.0]), ["p", "p", "q", "q"])
    assert a.tolist() == pytest.approx([-math.sqrt(2), math.sqrt(2), 0, 0])
    now = torch.tensor([0.5, 0.5], requires_grad=True)
    loss = clipped_loss(now, torch.zeros(2), torch.tensor([1.0, -1.0]), 0.2)
    assert loss.tolist() == pytest.approx([-1.2, math.exp(0.5)])  # a gain is bounded, a loss is not
    loss.sum().backward()
    assert now.grad.tolist() == pytest.approx([0, math.exp(0.5)])


@pytest.mark.parametrize("likelihood", ["path", "matching"])
@pytest.mark.parametrize("family", ["flux", "sd3", "qwen_image"])
def test_a_run_learns_and_plain_diffusers_loads_what_it_learned(family, likelihood, made, tmp_path):
    pipeline = made(family)
    done = train(
        PROMPTS, tmp_path, pipeline=pipeline, reward=brightness, iterations=2, likelihood=likelihood, watch="colourfulness",
        **SMALL,
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    assert [r["iteration"] for r in rows] == [1, 2]
    assert (rows[0]["begun"], rows[0]["kept"]) == (8, 4)
    assert (
        rows[0]["clipped"] == 0 and rows[0]["kl"] < 1e-9 < rows[1]["kl"]
    )  # the path is walked again to the same place
    assert rows[0]["gradient"] > 0
    assert set(done.watched[-1]) == {"iteration", "calls", "brightness", "colourfulness", "diversity"}
    assert list((tmp_path / "sheets").glob("held-out-*.png"))
    call = {"height": 64, "width": 48, "num_inference_steps": 2, "output_type": "latent", "prompt": "a red fox"}
    fresh = made(family)
    before = fresh(**call, generator=torch.Generator().manual_seed(0)).images
    fresh.load_lora_weights(str(tmp_path))
    loaded = fresh(**call, generator=torch.Generator().manual_seed(0)).images
    learned = pipeline(**call, generator=torch.Generator().manual_seed(0)).images
    assert torch.allclose(loaded, learned, atol=1e-6) and not torch.allclose(before, loaded, atol=1e-5)


def test_with_a_learning_rate_of_0_nothing_changes(made, tmp_path):
    pipeline = made("sd3")
    train(PROMPTS, tmp_path, pipeline=pipeline, reward=brightness, iterations=2, **(SMALL | {"rate": 0.0}))
    from safetensors.torch import load_file

    assert all(
        not t.any()
        for n, t in load_file(tmp_path / "state.safetensors").items()
        if n.startswith("adapter.") and "lora_B" in n
    )
    first, last = (tmp_path / "sheets" / f"held-out-{n:06d}.png" for n in (0, 2))
    assert first.read_bytes() == last.read_bytes()


def test_after_kill_9_the_next_step_is_the_same(made, one_thread, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = SMALL | {"watch_prompts": 0}
    train(PROMPTS, whole, pipeline=made("flux"), reward=brightness, iterations=3, **options)
    asked = []

    def deadly(images, prompts):
        asked.append(1)
        if len(asked) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return brightness(images, prompts)

    deadly.__name__ = "brightness"
    child = os.fork()
    if child == 0:
        train(PROMPTS, cut, pipeline=made("flux"), reward=deadly, iterations=3, **options)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert len((cut / "curves.jsonl").read_text().splitlines()) == 2
    with (cut / "curves.jsonl").open("a") as file:
        file.write('{"iteration": 3, "reward": 7}\n{"iter')  # of an iteration whose state was not kept
    train(PROMPTS, cut, pipeline=made("flux"), reward=brightness, iterations=3, **options)
    one, other = ((f / "pytorch_lora_weights.safetensors").read_bytes() for f in (whole, cut))
    assert one == other
    strip = lambda f: [{k: v for k, v in json.loads(r).items() if k != "seconds"} for r in (f / "curves.jsonl").open()]  # noqa: E731
    assert strip(whole) == strip(cut)
    with pytest.raises(PromptProbeError, match="rank 2, now it is 4"):
        train(PROMPTS, cut, pipeline=made("flux"), reward=brightness, iterations=3, **(options | {"rank": 4}))


def test_interrupted_it_keeps_the_adapter_so_far(made, tmp_path):
    asked = []

    def stopped(images, prompts):
        asked.append(1)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return brightness(images, prompts)

    options = SMALL | {"watch_prompts": 0, "save_every": 50}
    with pytest.raises(KeyboardInterrupt):
        train(PROMPTS, tmp_path, pipeline=made("sd3"), reward=stopped, iterations=9, **options)
    assert (tmp_path / "pytorch_lora_weights.safetensors").exists()
    from safetensors import safe_open

    with safe_open(tmp_path / "state.safetensors", "pt") as file:
        assert json.loads(file.metadata()["state"])["iteration"] == 2


def test_the_filter_keeps_both_tails_of_each_group():
    scores = [0.1, 0.9, 0.5, 0.4, 7, 7, 7.1, float("nan")]
    groups = ["a"] * 4 + ["b"] * 4
    assert keep(groups, scores) == [0, 1, 4, 6]
    assert keep(groups, scores, most_groups=1) == [0, 1]
    assert keep(groups, scores, least_spread=0.2) == [0, 1]
    assert keep(groups, way="all") == list(range(8))
    assert len(keep(groups, way="random", seed=3)) == 4
    latents = torch.randn(8, 2, 3)
    assert keep(groups, latents=latents, judge=lambda x: x.mean((1, 2))) == keep(groups, latents.mean((1, 2)))


def nan(images, prompts):
    return torch.full((len(images),), math.nan)


def full(images, prompts):
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")


def same(images, prompts):
    return torch.ones(len(images))


@pytest.mark.parametrize(
    "family, more, said",
    [
        ("sd3", {"reward": nan}, "is nan, no number"),
        ("sd3", {"reward": full}, "out of memory with 32 images"),
        ("sd3", {"reward": same}, "is 1 for every image so far"),
        ("sd3", {"group_size": 1}, "group size is 1"),
        ("sd3", {"filter_step": 4}, "filter step is 4, and the training run has 4 steps"),
        ("sd3", {"filter": "preview", "least_spread": 1e9}, "the filter keeps nothing"),
        ("sd3", {"filter": "probe", "probe": icons.PROBE}, "this probe was trained for FluxTransformer2DModel"),
        ("sd3", {"filter": "probe"}, "has none; give --probe"),
        ("sd3", {"target": ("nowhere",)}, "'nowhere' is no linear layer"),
        ("pixart", {}, "is no flow-matching"),
        ("sd3", {"tracker": "wandb"}, "needs the package wandb"),
        ("sd3", {"watch_prompts": 9}, "5 prompts are given, and 9 of them"),
    ],
)
def test_bad_input_is_one_line(family, more, said, made, tmp_path):
    options = {"reward": brightness, "iterations": 3} | SMALL | {"watch_prompts": 0} | more
    with pytest.raises(PromptProbeError, match=said) as caught:
        train(PROMPTS, tmp_path, pipeline=made(family), **options)
    assert "\n" not in str(caught.value)


def test_groups_of_one_and_scores_of_another_length_are_refused():
    with pytest.raises(PromptProbeError, match="has one trajectory"):
        keep(["a", "b", "b"], [1, 2, 3])
    with pytest.raises(PromptProbeError, match="one number for each"):
        keep(["a", "a"], [1, 2, 3])
    with pytest.raises(PromptProbeError, match="probe of another model"):
        keep(["a", "a"], latents=torch.zeros(2, 3), judge=torch.nn.Linear(4, 1))


def test_each_example_of_the_guide_runs(made):
    guide = (Path(__file__).parent.parent / "docs" / "GRPO.md").read_text("utf-8")
    flow_grpo, trl, diffusers = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    pipeline, prompts = made("sd3"), [p for p in PROMPTS[:2] for _ in range(4)]
    latents = torch.randn(8, 4, 2, 2)

    learned = []

    class Stats:
        def update(self, texts, rewards):
            learned.append((texts, rewards))
            return rewards

    walk = {
        "prompts": prompts, "reward_fn": lambda images, texts: torch.as_tensor(images).flatten(1).mean(1), "decode": lambda z: z,
        "sample_first_steps": lambda texts: {"prompts": texts, "latents": latents[:, None], "clean": latents},
        "sample_last_steps": lambda samples: samples, "stat_tracker": Stats(),
    }  # fmt: skip
    exec(flow_grpo, walk)
    assert len(walk["samples"]["latents"]) == len(walk["samples"]["prompts"]) == 4 and len(learned[0][0]) == 4

    class Trainer:
        judge = staticmethod(lambda z: z.flatten(1).mean(1))

        def generate_samples(self, texts, steps, begun=None):
            return begun or [{"prompt": t, "latents": z} for t, z in zip(texts, latents, strict=True)]

    names = {"Trainer": Trainer, "torch": torch}
    exec(trl, names)
    assert [s["prompt"] for s in names["Filtered"]().generate_samples(prompts)] == [PROMPTS[0]] * 2 + [PROMPTS[1]] * 2

    weight = torch.nn.Parameter(torch.ones(()))
    loop = {
        "pipeline": pipeline, "reward_fn": brightness, "dataloader": [{"prompt": PROMPTS[:2]}], "settings": SIZE,
        "optimizer": torch.optim.SGD([weight], lr=0.1), "loss_of": lambda texts, rewards: weight * rewards.mean() + 0 * len(texts),
    }  # fmt: skip
    exec(diffusers, loop)
    assert len(loop["rewards"]) == 4 and float(weight.detach()) != 1


def test_the_command_trains_the_built_in_world_and_goes_on(capsys, tmp_path):
    (tmp_path / "prompts.txt").write_text("two red cars\na blue house\nthree green birds\n")
    command = [
        "grpo", "icons", "--prompts", str(tmp_path / "prompts.txt"), "--out", str(tmp_path / "run"),
        "--groups", "1", "--group-size", "4", "--watch-prompts", "1", "--steps", "2", "--train-steps", "3", "--likelihood", "matching",
        "--filter", "preview",
    ]  # fmt: skip
    done = []
    for iterations in "12":
        with pytest.raises(SystemExit) as ended:
            cli.main([*command, "--iterations", iterations, "--json"])
        done.append((ended.value.code, *capsys.readouterr()))
    assert [code for code, _, _ in done] == [0, 0], done
    assert "add --guidance 1" in done[0][2]  # the built-in world's images are made with guidance
    assert json.loads(done[1][1])["last"]["iteration"] == 2
    assert [json.loads(r)["iteration"] for r in (tmp_path / "run" / "curves.jsonl").open()] == [1, 2]
