"""The icon world's tokenizer: a CLIP tokenizer whose merges were learned on the world's own captions.

    python -m worlds.icons.make_tokenizer --out checkpoints/icons

Every word of the captions is one token; any other text is still encodable, in small pieces.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from promptprobe.icons.captions import OBJECT_WORDS, any_caption, plural
from promptprobe.icons.scenes import random_scene

MAX_TOKENS = 40  # with begin and end marks
_SPLIT = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def build(seed: int = 0) -> CLIPTokenizer:
    """Learn byte-pair merges on 20,000 captions until every word of them is a single token."""
    rng = np.random.default_rng(seed)
    texts = [any_caption(random_scene(rng), rng) for _ in range(20_000)]
    nouns = [w for name, (met, never) in OBJECT_WORDS.items() for w in (name, *met, *never)]
    texts += [f"{n} {plural(n)}" for n in nouns] * 50
    split = pre_tokenizers.Split(Regex(_SPLIT), "removed", invert=True)
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, min_frequency=2, show_progress=False, initial_alphabet=alphabet, end_of_word_suffix="</w>"
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab = dict(model["vocab"])
    for token in [c + "</w>" for c in sorted(alphabet)] + ["<|startoftext|>", "<|endoftext|>"]:
        vocab.setdefault(token, len(vocab))
    return CLIPTokenizer(vocab=vocab, merges=[tuple(m) for m in model["merges"]], model_max_length=MAX_TOKENS)


def main() -> None:
    """Write `OUT/tokenizer/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/icons"))
    build().save_pretrained(parser.parse_args().out / "tokenizer")


if __name__ == "__main__":
    main()
