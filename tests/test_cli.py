"""The command line as a user meets it."""

import json
import shutil
from pathlib import Path

import pytest

from promptprobe import cli, icons
from promptprobe.cli.made import show_file
from promptprobe.worlds import WORLDS

ROOT = Path(__file__).parent.parent
SIDE = WORLDS[0].size


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(arguments))
    output = capsys.readouterr()
    return stopped.value.code, output.out, output.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimize", "  "], "the prompt is empty"),
        (["score", "\n"], "the prompt is empty"),
        (["score", "a cat", "--height", "0"], "height is 0; it must be between 1 and 16384"),
        (
            ["score", "a cat", "--offload", "model"],
            "--offload model moves weights from memory to a GPU; --device is 'cpu'",
        ),
        (["score", "a cat", "--offload", "disk"], "offload is 'disk'; it must be one of auto, none, model, sequential"),
        (
            ["score", "a cat", "--scheduler", "pndm"],
            "scheduler is 'pndm'; it must be one of auto, euler, euler-a, dpm++2m",
        ),
        (
            ["score", "a cat", "--model", "icons-unet", "--scheduler", "flow-euler"],
            "StableDiffusionPipeline predicts noise, not a flow; choose auto, euler",
        ),
        (["score", "a cat", "--quantize", "8bit"], "pip install 'promptprobe[quantize]'"),
        (["score", "a cat", "--config", "x"], "--config is for a checkpoint file"),
        (["generate", "a cat", "--model", "x.ckpt"], "--model 'x.ckpt' is a pickle, which can run code"),
        (["generate", "a cat", "--model", "x.gguf"], "is GGUF, which is not read; give the .safetensors file"),
        (["generate", "a cat", "--model", "x.safetensors"], "--model 'x.safetensors' is no file"),
        (["generate", "a cat", "--model", str(ROOT / "LICENSE")], "LICENSE' is no checkpoint"),
        (["generate", "a cat", "--model", str(icons.PROBE / "probe.safetensors")], "is no checkpoint of a known"),
        (["score", "a cat", "--pipe-arg", "eta"], "pipe arg is 'eta'; give name=value"),
        (["score", "a cat", "--pipe-arg", "latents=1"], "pipe arg latents is set by promptprobe itself"),
        (["score", "a cat", "--pipe-arg", "magic=1"], "FluxPipeline takes no 'magic'"),
        (["score", "a cat", "--lora", "x=strong"], "--lora 'x=strong': the strength must be a number"),
        (["score", "a cat", "--lora", "/nowhere.safetensors"], "--lora '/nowhere.safetensors' "),
        (["optimize", "a cat", "--probe-step", "0"], "probe step is 0; it must be between 1 and 1000"),
        (["optimize", "a cat", "--probe-step", "26"], "probe step is 26; it must be between 1 and 25"),
        (["optimize", "a cat", "--probe-step", "17"], "not step 17 of 25; use --probe-step 5 --steps 25"),
        (["optimize", "a cat", "--tau", "high"], "tau is 'high'; give a number, balanced, a quantile"),
        (["optimize", "a cat", "--tau", "nan"], "tau is 'nan'"),
        (["optimize", "a cat", "--candidates", "0"], "candidates is 0; it must be between 1 and 16"),
        (["optimize", "a cat", "--rounds", "-1"], "rounds is -1; it must be between 0 and 10"),
        (["batch", "x.txt", "--out", "x", "--rounds", "11"], "rounds is 11; it must be between 0 and 10"),
        (["optimize", "a cat", "--steps", "many"], "steps is 'many'; it must be a whole number between 1 and 1000"),
        (["optimize", "a cat", "--stepz", "3"], "No such option: --stepz"),
        (["optimize"], "Missing argument 'prompt'"),
        (["mcp", "--port", "9000"], "port is 9000, which does nothing beside transport stdio"),
        (["batch", "x.txt", "--out", "x", "--workers", "2"], "workers is 2, which does nothing beside engine local"),
        (["seeds", "a cat", "--policy", "best"], "policy is 'best'; it must be one of auto, racing"),
        (["seeds", "a cat", "--seeds", "3000000000"], "the number of seeds is 3000000000; it must be between 1 and"),
        (["optimize", "a cat", "--llm-base-url", "ftp://x"], "must start with http"),
        (["score", "a cat", "--model", "./nowhere"], "--model './nowhere' is no folder"),
        (
            ["score", "a cat", "--model", "no-such/model", "--probe", str(icons.PROBE)],
            "'no-such/model' is no local folder",
        ),
        (["score", "a cat", "--model", str(ROOT / "tests"), "--probe", str(icons.PROBE)], "it has no model_index.json"),
        (["score", "a cat", "--model", "no-such/model"], "the hub did not deliver it"),
        (["score", "a cat", "--probe", "nowhere"], "no probe in 'nowhere'"),
        (["generate", "a cat", "--out", "/proc/nothing/x.png"], "can't write to '/proc/nothing'"),
        (["generate", "a cat", "--out", "x.gif"], "must end in .png"),
        (["collect", "nowhere.txt", "--out", "x"], "can't read prompts from 'nowhere.txt'"),
        (
            ["collect", "some.txt", "--out", "x", "--texts", "--seed", "3"],
            "seed is 3, which does nothing beside texts",
        ),
        (["score", "a cat", "--dtype", "int3"], "dtype is 'int3'"),
        (["score", "a cat", "--device", "cuda:99"], "--device 'cuda:99' can't be used here"),
        (["evaluate", "nowhere"], "'nowhere' is no data set"),
        (["score", "a cat", "--height", str(SIDE // 2)], f"height is {SIDE // 2}; the built-in world"),
        (["optimize", "a cat", "--width", "100"], f"draws {SIDE} by {SIDE} pixels only"),
        (["generate", "a cat", "--pipe-arg", "height=100"], "height is 100; the built-in world"),
        (["score", "a cat", "--guidance", "2", "--pipe-arg", "true_cfg_scale=3"], "true_cfg_scale is given twice"),
        (["score", "a cat", "--revision", "x"], "--revision is for a hub model"),
        (
            ["score", "a cat", "--device", "banana"],
            "'banana' can't be used here: it is no device of PyTorch's; give auto",
        ),
        (["seeds", "a cat", "--rounds", "2"], "--rounds is an option of batch, optimize, ui, serve, mcp, not of seeds"),
        (["replay", "x.png", "--out", "rp"], "out is 'rp'; it must end in .png"),
        (["replay", "x.png", "--out", "/proc/nothing/rp.png"], "can't write to '/proc/nothing'"),
        (["optimize", "a cat", "--out", "file/x"], "can't write to 'file/x': Not a directory"),
        (["optimize", "a cat", "--llm-price", "x,1"], "LLM price is 'x,1'; give two numbers"),
        (["session", "--list", "--steps", "3"], "steps is 3, which does nothing beside list"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    code, out, err = run(capsys, *arguments)
    assert code == 2 and message in err and out == ""
    assert [f.name for f in tmp_path.iterdir()] == ["file"]  # no folder is left of what was refused
    assert (
        len([line for line in err.splitlines() if line.startswith("promptprobe:")]) == 1
        and len(err.splitlines()) == 1
        and "Traceback" not in err
    )


def test_truncated_weights_name_the_file(capsys, tmp_path):
    shutil.copytree(icons.PIPELINE, tmp_path / "pipe")
    weights = tmp_path / "pipe" / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    code, _, err = run(capsys, "score", "a cat", "--model", str(tmp_path / "pipe"), "--probe", str(icons.PROBE))
    assert code == 2 and str(weights) in err and "corrupt or truncated" in err


def test_optimize_prints_its_record_and_writes_the_files_it_names(capsys, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("typer.launch", opened.append)
    code, out, _ = run(
        capsys, "optimize", "a pair of crimson automobiles", "--seed", "3", "--rounds", "1", "--tau", "99",
        "--out", str(tmp_path), "--json", "--open", "--report", str(tmp_path / "report.html"),
    )  # fmt: skip
    record = json.loads(out)
    assert code == 0 and Path(record["image"]).is_file() and Path(record["heat_maps"]).is_file()
    assert "no language model" in record["rewriter"] and record["candidates"][1]["prompt"] == "two red cars"
    assert not [f for f in tmp_path.iterdir() if f.suffix == ".part"]
    assert "data:image/jpeg" in (tmp_path / "report.html").read_text("utf-8")
    assert opened == [record["image"]] and 0 <= record["grade"] <= 100


def test_a_machine_that_can_open_no_picture_says_so(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    show_file("runs/a.png")
    assert capsys.readouterr().err == "note: nothing on this machine could open runs/a.png\n"


def test_score_marks_what_did_not_fit(capsys):
    code, out, _ = run(capsys, "score", "a red car " * 20, "--json")
    scored = json.loads(out)[0]
    assert code == 0 and scored["cut_tokens"] == 30 and len(scored["words"]) == 30


def test_backbones_lists_every_family(capsys):
    code, out, _ = run(capsys, "backbones")
    assert code == 0
    for word in ("Flux", "QwenImage", "SD3", "UNet2D", "AuraFlow"):
        assert word in out


def test_the_documented_table_of_backbones_is_the_one_in_the_code(capsys):
    code, out, _ = run(capsys, "backbones", "--markdown")
    documented = (
        (ROOT / "docs" / "BACKBONES.md").read_text("utf-8").split("--markdown` -->\n")[1].split("\n<!-- end -->")[0]
    )
    assert code == 0 and documented == out.strip()


def test_generate_gives_the_same_image_for_the_same_seed(capsys, tmp_path):
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, seed in zip(files, ("1", "1", "2"), strict=True):
        assert run(capsys, "generate", "a red car", "--seed", seed, "--out", str(file))[0] == 0
    a, b, c = (f.read_bytes() for f in files)
    assert a == b != c
