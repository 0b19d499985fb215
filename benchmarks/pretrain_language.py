"""Continued pretraining of MiniLM on titles: perplexity, and what it does to ranking; prints JSON.

    python benchmarks/pretrain_language.py [--config benchmarks/configs/food-kitchen.toml]
        [--set KEY=VALUE …] [--out FILE.json]

MiniLM comes without a masked-LM head, so one is fitted first with the body frozen, and perplexity
"before" is measured behind it. Ranking is by texts alone, whitened, on validation questions.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from isthmus.config import Config
from isthmus.data.build import build_dataset
from isthmus.data.splits import make_split
from isthmus.experiment.text_only import figures, text_only
from isthmus.language.catalogues import encode_catalogues
from isthmus.language.pretraining.corpus import Corpus, texts_of
from isthmus.language.pretraining.pretrain import pretrain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = Path(__file__).parent / "configs" / "food-kitchen.toml"
    parser.add_argument("--config", type=Path, default=default)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    config = Config.load(options.config, overrides=options.set)
    dataset, _ = build_dataset(config)
    split = make_split(dataset, config.split.kind, quantiles=config.split.quantiles)
    corpus = Corpus.of(texts_of(dataset.domains), config.pretraining.held_out)
    with TemporaryDirectory() as folder:
        busy = time.process_time()
        found = pretrain(
            corpus,
            config.language,
            config.pretraining,
            Path(folder) / "model",
            seed=config.seed,
            threads=config.training.threads,
            tell=lambda line: print(line, flush=True),
        )
        busy = time.process_time() - busy
        print(json.dumps(found.to_dict()), flush=True)
        after = config.language.model_copy(update={"model": str(Path(folder) / "model")})
        vectors = [encode_catalogues(dataset.domains, it) for it in (after, config.language)]
    measured = [text_only(dataset, split, v, config.evaluation, "validation") for v in vectors]
    document = {
        "options": {"config": options.config.name, "set": options.set},
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "cpu_seconds": round(busy, 1),
        "pretraining": {k: v for k, v in found.to_dict().items() if k != "folder"},
        "perplexity_change": found.perplexity_after / found.perplexity_before - 1,
        "ranking": figures(*measured),
    }
    print(json.dumps(document, indent=1))
    if options.out:
        options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
