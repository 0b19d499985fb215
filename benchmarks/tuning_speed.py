"""How fast LoRA learns from pairs of titles, beside the plain Transformers `Trainer`; prints JSON.

    python benchmarks/tuning_speed.py [--steps 4] [--rounds 3] [--batch 64] [--out FILE.json]

The embedded MiniLM, rank 8, the same titles (real ones where ../shared/data is), drawn pairs, equal
batches, the same loss over the other answers of the batch, one thread. `Trainer` gets a module of a
dozen lines and a collator that tokenizes and pads, as its users write them. Ours tokenizes once and
reads texts of like length together. The systems take turns; each round is a run of its own, and
only steps are timed: no loading, and no looks at held-out pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn import functional as F

from encode import MAX_TOKENS, titles
from isthmus.config import LanguageConfig, TuningConfig
from isthmus.data.next_items import NextItems
from isthmus.data.pairs import ItemPairs
from isthmus.language.models import find_model, load_torch_model
from isthmus.language.tuning.samplers import Readable
from isthmus.language.tuning.tune import Material, tune
from isthmus.threads import use_threads

TEXTS, DIM, TEMPERATURE = 4096, 384, 0.07


def ours(texts: list[str], pairs: np.ndarray, batch: int, steps: int) -> float:
    """Seconds of a step of `isthmus tune-language --method lora`."""
    n = len(texts)
    zeros = np.zeros(n, np.int64)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    together = sp.csr_array((np.ones(len(both), bool), tuple(both.T)), shape=(n, n))
    weight, kind = np.ones(len(both)), np.zeros(len(both), np.int64)
    none = np.zeros(0, np.int64)
    plain = (np.zeros(DIM, np.float32), np.eye(DIM, dtype=np.float32))
    material = Material(
        texts,
        Readable(np.arange(n), zeros),
        ItemPairs(both[:, 0], both[:, 1], weight, kind, 1, together),
        NextItems(none, none, none, none, sp.csr_array((1, n), dtype=bool)),
        [plain],
        plain,
    )
    settings = TuningConfig(
        method="lora", batch_examples=batch, steps=steps, temperature=TEMPERATURE, patience=steps
    )
    with tempfile.TemporaryDirectory() as cache:
        language = LanguageConfig(cache=Path(cache), max_tokens=MAX_TOKENS)
        return tune(material, language, settings, device="cpu", threads=1).seconds_per_step


class InBatch(torch.nn.Module):
    """Two texts of a pair are drawn together, all others of the step apart."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def read(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return F.normalize(pooled, dim=1)

    def forward(self, **given: torch.Tensor) -> dict[str, torch.Tensor]:
        one = self.read(given["first_ids"], given["first_mask"])
        other = self.read(given["second_ids"], given["second_mask"])
        logits = one @ other.T / TEMPERATURE
        return {"loss": F.cross_entropy(logits, torch.arange(len(logits)))}


def trainer(texts: list[str], pairs: np.ndarray, batch: int, steps: int) -> float:
    """Seconds of a step of `transformers.Trainer` with a LoRA of `peft`."""
    import peft
    import transformers

    folder = find_model("embedded")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"])
    model = InBatch(peft.get_peft_model(load_torch_model(folder), config))

    def collate(rows: list[tuple[str, str]]) -> dict[str, torch.Tensor]:
        found = {}
        for place, name in enumerate(("first", "second")):
            told = tokenizer(
                [row[place] for row in rows],
                padding=True,
                truncation=True,
                max_length=MAX_TOKENS,
                return_tensors="pt",
            )
            found[f"{name}_ids"], found[f"{name}_mask"] = told.input_ids, told.attention_mask
        return found

    with tempfile.TemporaryDirectory() as folder_out:
        options = transformers.TrainingArguments(
            output_dir=folder_out,
            per_device_train_batch_size=batch,
            max_steps=steps,
            learning_rate=1e-4,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            save_strategy="no",
            remove_unused_columns=False,
        )
        run = transformers.Trainer(
            model=model,
            args=options,
            data_collator=collate,
            train_dataset=[(texts[a], texts[b]) for a, b in pairs.tolist()],
        )
        start = time.perf_counter()
        run.train()
        return (time.perf_counter() - start) / steps


SYSTEMS: dict[str, Callable[..., float]] = {"isthmus": ours, "transformers.Trainer": trainer}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64, help="pairs a step")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    use_threads(1)

    texts, source = titles(TEXTS)
    pairs = np.random.default_rng(0).permutation(len(texts)).reshape(-1, 2)
    seconds: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    for _ in range(args.rounds):
        for name, system in SYSTEMS.items():
            seconds[name].append(system(texts, pairs, args.batch, args.steps))
    step = {name: statistics.median(found) for name, found in seconds.items()}
    each = zip(seconds["transformers.Trainer"], seconds["isthmus"], strict=True)
    ratios = sorted(theirs / mine for theirs, mine in each)
    found = {
        "titles": source,
        "batch_pairs": args.batch,
        "steps": args.steps,
        "rounds": args.rounds,
        "pairs_per_second": {name: round(args.batch / s, 1) for name, s in step.items()},
        "seconds_per_step": {name: [round(s, 3) for s in each] for name, each in seconds.items()},
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(ratios[0], 2), round(ratios[-1], 2)],
        "load_average": round(os.getloadavg()[0], 2),
    }
    text = json.dumps(found, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
