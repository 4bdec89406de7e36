"""Put the parts of the icon world's FLUX together as a `FluxPipeline` folder in half precision.

    python -m worlds.icons.flux_folder --out checkpoints/icons-flux

Comes in: a checkpoint of `train_flux`, finished or not, and the parts it was trained with. Goes out: `OUT/pipeline/`,
which `DiffusionPipeline.from_pretrained` loads in full precision unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, FluxPipeline
from safetensors import safe_open
from transformers import CLIPTextModel, CLIPTokenizer

from promptprobe import icons
from promptprobe.worlds import CALL_FILE

from .train_flux import SCALE, build

CALL = {"true_cfg_scale": 4.0, "negative_prompt": "", "height": 256, "width": 256, "max_sequence_length": 32}
SHIFT = 3.0  # of the sampling schedule: with it a picture settles as late as FLUX.1-dev's


def averaged_weights(checkpoint: Path):
    """The transformer with the averaged weights of a checkpoint, and the step that it was written at."""
    transformer = build()
    prefix = "average/transformer."
    with safe_open(checkpoint, "pt") as file:
        # A safetensors file is no dictionary: `keys` is the only way to its names.
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
        transformer.load_state_dict({name.removeprefix(prefix): file.get_tensor(name) for name in names})
        return transformer.eval(), int(file.metadata()["step"])


def assemble(out: Path, parts: Path, vae: Path) -> FluxPipeline:
    """Write the folder; the pipeline comes back as it was saved, in half precision."""
    transformer, _ = averaged_weights(out / "denoiser.ckpt.safetensors")
    autoencoder = AutoencoderTiny.from_pretrained(vae)
    autoencoder.register_to_config(scaling_factor=SCALE)
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT), vae=autoencoder, transformer=transformer,
        text_encoder=CLIPTextModel.from_pretrained(out / "pooled"),
        tokenizer=CLIPTokenizer.from_pretrained(parts / "tokenizer"),
        text_encoder_2=CLIPTextModel.from_pretrained(parts / "text_encoder"),
        tokenizer_2=CLIPTokenizer.from_pretrained(parts / "tokenizer"),
    )  # fmt: skip
    pipeline.to(torch.float16)
    folder = out / "pipeline"
    pipeline.save_pretrained(folder)
    (folder / CALL_FILE).write_text(json.dumps({"call": CALL}, indent=2) + "\n", "utf-8")
    for path in folder.glob("*/config.json"):  # no folder of this machine; full precision once loaded
        config = json.loads(path.read_text("utf-8"))
        config.pop("_name_or_path", None)
        if "dtype" in config:
            config["dtype"] = "float32"
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    return pipeline


def main() -> None:
    """Write `OUT/pipeline/` and say how large it is."""
    weights = icons.UNET_PIPELINE
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/icons-flux"))
    parser.add_argument("--parts", type=Path, default=weights, help="folder with tokenizer and text_encoder")
    parser.add_argument("--vae", type=Path, default=icons.LARGE_VAE)
    args = parser.parse_args()
    assemble(args.out, args.parts, args.vae)
    size = sum(path.stat().st_size for path in (args.out / "pipeline").rglob("*") if path.is_file())
    print(f"{args.out / 'pipeline'}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
