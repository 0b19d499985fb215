"""What measured results depend on, as a short text: settings, and everything that they name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.language.models import find_model, read_facts
from isthmus.training.versions import read_pointer


def fingerprint(
    config: Config, dataset: Dataset, settings: Mapping[str, Any], targets: Sequence[str] = ()
) -> str:
    """A digest of settings, dataset and targets, and of what the files hold that are named.

    Args:
        config: names the language model, tuned weights and pairs.
        dataset: the tables as they were read.
        settings: those of `config` that matter, as plain JSON values.
        targets: in any order.
    """
    plain = json.dumps([settings, dataset.fingerprint, sorted(targets)], sort_keys=True)
    digest = hashlib.blake2b(plain.encode(), digest_size=16)
    language = config.language
    if language.model != "embedded":  # which is pinned; a folder may hold another model by now
        digest.update(read_facts(find_model(language.model), None).content.encode())
    for folder in (language.tuned, *language.tuned_by_domain.values()):
        if folder is not None:
            digest.update(read_pointer(folder).seal.encode())
    if config.alignment.pairs is not None:
        digest.update(config.alignment.pairs.read_bytes())
    return digest.hexdigest()
