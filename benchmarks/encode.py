"""How fast titles become vectors: first run, second run, and plain PyTorch with the same weights.

    python benchmarks/encode.py [--texts 28000] [--peer-texts 1000] [--out FILE.json]

Distinct real titles from ../shared/data where they are, else generated ones of like length. The
first run starts with an empty cache, so it contains hashing the weights and exporting the graph;
the second is a new process that finds every vector on disk. The peers encode a sample in the
order of the files, in batches of 32, as their users run them. `isthmus_bf16` is with
`language.precision = "bf16"`, which pays where the processor multiplies bf16; what it does to the
vectors, and to the ten nearest of each text, stands beside it. `products_alone` is what no exact
encoder in fp32 can do without: the model's matrix products on the same texts, with nothing between
them. Prints JSON; `cpu_seconds` tells how far other work on the machine has slowed the wall clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from isthmus.config import LanguageConfig
from isthmus.language import TextEncoder
from isthmus.language.models import find_model
from isthmus.language.tokens import length_batches

SHARED = Path(__file__).parents[2] / "shared" / "data"
CATALOGUES = (
    "amazon-food-kitchen/food",
    "amazon-food-kitchen/kitchen",
    "amazon-beauty-toys-games/beauty",
    "amazon-beauty-toys-games/toys",
)
MAX_TOKENS = 64
FLOOR_BATCHES = (512, 1024, 2048, 4096)
"""Padded tokens a batch that are tried for the matrix products alone."""

SECOND_RUN = """
import json, sys, time
began = time.perf_counter()
from pathlib import Path
from isthmus.config import LanguageConfig
from isthmus.language import TextEncoder
texts = json.loads(Path(sys.argv[1]).read_text())
start = time.perf_counter()
encoder = TextEncoder.load(LanguageConfig(cache=Path(sys.argv[2])))
encoder.encode(texts)
assert encoder.report.n_encoded == 0
ended = time.perf_counter()
print(json.dumps({"seconds": ended - start, "with_imports": ended - began}))
"""


def titles(n: int) -> tuple[list[str], str]:
    """Distinct titles, and where they are from."""
    files = [SHARED / f"{name}.items.parquet" for name in CATALOGUES]
    if all(file.exists() for file in files):
        found = pl.concat([pl.read_parquet(f, columns=["title"]) for f in files])["title"]
        return found.drop_nulls().unique(maintain_order=True).head(n).to_list(), "real"
    rng = np.random.default_rng(0)
    words = ["stainless", "steel", "organic", "coffee", "grinder", "baking", "mat", "pack", "tea"]
    lengths = rng.integers(5, 28, n)
    return [f"{' '.join(rng.choice(words, k))} {i}" for i, k in enumerate(lengths)], "generated"


def timed(n: int, job: Callable[[], NDArray[np.float32]]) -> tuple[dict[str, float], Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    vectors = job()
    seconds, busy = time.perf_counter() - wall, time.process_time() - cpu
    speed = {
        "texts": n,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(busy, 2),
        "texts_per_second": round(n / seconds, 1),
        "texts_per_cpu_second": round(n / busy, 1),
    }
    return speed, vectors


def plain_torch(texts: list[str]) -> Callable[[], NDArray[np.float32]]:
    """The loop in every tutorial: pad a batch, run it, average the real tokens."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = find_model("embedded")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)

    def run() -> NDArray[np.float32]:
        done = []
        for start in range(0, len(texts), 32):
            batch = tokenizer(
                texts[start : start + 32],
                padding=True,
                truncation=True,
                max_length=MAX_TOKENS,
                return_tensors="pt",
            )
            with torch.inference_mode():
                states = model(**batch).last_hidden_state
            weight = batch["attention_mask"][:, :, None]
            done.append(((states * weight).sum(1) / weight.sum(1)).numpy())
        return np.concatenate(done)

    return run


def sentence_transformers(texts: list[str]) -> Callable[[], NDArray[np.float32]]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(find_model("embedded")), device="cpu")
    model.max_seq_length = MAX_TOKENS
    return lambda: np.asarray(model.encode(texts, batch_size=32, show_progress_bar=False))


def products_alone(texts: list[str]) -> tuple[dict[str, float], int]:
    """The embedded model's matrix products on these texts, and the padded tokens a batch.

    Of the sizes of batch that were tried, the fastest.
    """
    import torch
    from transformers import AutoConfig

    shape = AutoConfig.from_pretrained(find_model("embedded"))
    dim, inner, heads = shape.hidden_size, shape.intermediate_size, shape.num_attention_heads
    tokens = TextEncoder.load(LanguageConfig(max_tokens=MAX_TOKENS)).tokens(texts)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # A linear layer keeps its matrix by output.
    into, out, up, down = (
        torch.randn(wide, given).T
        for wide, given in ((3 * dim, dim), (dim, dim), (inner, dim), (dim, inner))
    )

    def run(batch_tokens: int) -> NDArray[np.float32]:
        last = torch.empty(0)
        for rows in length_batches(tokens.lengths, batch_tokens):
            n, length = len(rows), int(tokens.lengths[rows].max())
            states, wide = torch.ones(n * length, dim), torch.ones(n * length, inner)
            each = torch.ones(n * heads, length, dim // heads)
            for _ in range(shape.num_hidden_layers):
                torch.mm(states, into)
                torch.bmm(torch.bmm(each, each.transpose(1, 2)), each)
                torch.mm(states, out)
                torch.mm(states, up)
                last = torch.mm(wide, down)
        return last.numpy()

    with torch.inference_mode():
        run(FLOOR_BATCHES[0])
        found = [(timed(len(texts), partial(run, size))[0], size) for size in FLOOR_BATCHES]
    torch.set_num_threads(threads)
    return max(found, key=lambda speed: speed[0]["texts_per_cpu_second"])


def worst_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / norms).min())


def same_nearest(a: NDArray[np.float32], b: NDArray[np.float32], n: int = 10) -> float:
    """Share of each row's `n` nearest others by cosine that both have in common."""
    tops = []
    for vectors in (a, b):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        alike = unit @ unit.T
        np.fill_diagonal(alike, -np.inf)
        tops.append(np.argsort(-alike, axis=1)[:, :n])
    return float(np.mean([len(np.intersect1d(x, y)) / n for x, y in zip(*tops, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=28_000)
    parser.add_argument("--peer-texts", type=int, default=1_000)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()

    texts, source = titles(asked.texts)
    sample = sorted(np.random.default_rng(1).permutation(len(texts))[: asked.peer_texts])
    some = [texts[i] for i in sample]
    with TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        encoder = TextEncoder.load(LanguageConfig(cache=cache, max_tokens=MAX_TOKENS))
        first, features = timed(len(texts), lambda: encoder.encode(texts).vectors)
        listed = Path(folder) / "texts.json"
        listed.write_text(json.dumps(texts))
        again = subprocess.run(
            [sys.executable, "-c", SECOND_RUN, str(listed), str(cache)],
            check=True,
            capture_output=True,
            text=True,
        )
        # The model is loaded and its graph made by now: what bulk encoding runs at.
        steady = TextEncoder.load(LanguageConfig(cache=cache, max_tokens=MAX_TOKENS - 1))
        steady.encode([f"{texts[0]} warm"])
        ours, _ = timed(len(some), lambda: steady.encode(some).vectors)
        halved = LanguageConfig(cache=cache, max_tokens=MAX_TOKENS, precision="bf16")
        halves = TextEncoder.load(halved)
        halves.encode([f"{texts[0]} warm"])
        ours_bf16, rounded = timed(len(some), lambda: halves.encode(some).vectors)
    plain, theirs = timed(len(some), plain_torch(some))
    package, _ = timed(len(some), sentence_transformers(some))
    products, batch_tokens = products_alone(some)

    assert encoder.report is not None
    result = {
        "texts": source,
        "runtime": encoder.report.runtime,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "first_run": first,
        "second_run": {k: round(v, 3) for k, v in json.loads(again.stdout).items()},
        "same_sample": {
            "isthmus": ours,
            "isthmus_bf16": ours_bf16,
            "torch_fp32": plain,
            "sentence_transformers": package,
            "products_alone": products | {"batch_tokens": batch_tokens},
        },
        "times_torch_fp32_per_cpu_second": round(
            ours["texts_per_cpu_second"] / plain["texts_per_cpu_second"], 2
        ),
        "times_sentence_transformers_per_cpu_second": round(
            ours["texts_per_cpu_second"] / package["texts_per_cpu_second"], 2
        ),
        "products_alone_times_sentence_transformers_per_cpu_second": round(
            products["texts_per_cpu_second"] / package["texts_per_cpu_second"], 2
        ),
        "bf16_times_sentence_transformers_per_cpu_second": round(
            ours_bf16["texts_per_cpu_second"] / package["texts_per_cpu_second"], 2
        ),
        "worst_cosine_to_torch": worst_cosine(features[sample], theirs),
        "bf16_worst_cosine": worst_cosine(rounded, theirs),
        "bf16_same_of_ten_nearest": round(same_nearest(rounded, theirs), 4),
    }
    print(json.dumps(result, indent=2))
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
