"""Texts → vectors: each distinct text once, from the cache where it was encoded before.

`TextEncoder.load` settles early whether the model is there and whole; the model itself is loaded
only when some text is not in the cache. Vectors always pass through half precision, so a first
run and a cached one give the same figures.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from isthmus.config import LanguageConfig
from isthmus.data.features import ItemFeatures
from isthmus.errors import LanguageModelError
from isthmus.language.cache import Encoded, VectorCache, text_keys, to_half
from isthmus.language.models import Pooling, load_tokenizer
from isthmus.language.reader import Head, Reader
from isthmus.language.tokens import Tokens, length_batches, tokenize
from isthmus.training.memory import enough_memory

if TYPE_CHECKING:
    from isthmus.language.runtime import Runtime

_log = logging.getLogger(__name__)
# An export takes some ten seconds, which ONNX Runtime wins back after about as many texts.
_WORTH_EXPORT = 2_000
_SAVE_EVERY_SECONDS = 30.0
_SHOW_AFTER_SECONDS = 2.0
# Part of every fingerprint: raised when the way from text to vector changes.
_RECIPE = 1


@dataclass(frozen=True)
class EncodingReport:
    """What one call of `encode` did.

    Attributes:
        n_texts: texts given, missing ones among them.
        n_missing: texts that were None or blank.
        n_distinct: different texts.
        n_cached: of these, found in the cache.
        n_encoded: of these, run through the model now.
        n_truncated: of these, longer than the model was allowed to read.
        seconds: wall time.
        runtime: "onnx" or "torch"; None where nothing had to run.
        notes: what went otherwise than asked, one sentence each.
    """

    n_texts: int
    n_missing: int
    n_distinct: int
    n_cached: int
    n_encoded: int
    n_truncated: int
    seconds: float
    runtime: str | None
    notes: tuple[str, ...]


class TextEncoder:
    """A language model that turns texts into vectors.

    Attributes:
        fingerprint: the same for encoders that give the same vectors: a hash of weights, tuned
            weights, tokenizer, pooling and length.
        reader: the model, and what was tuned on top of it.
        pooling: the pooling in use, 'auto' resolved.
        report: what the latest `encode` did.
    """

    fingerprint: str
    reader: Reader
    pooling: Pooling
    report: EncodingReport | None = None

    def __init__(
        self, config: LanguageConfig, reader: Reader, root: Path | None, device: str
    ) -> None:
        self._config, self._device = config, device
        self.reader, self.pooling = reader, reader.pooling
        precision = () if config.precision == "fp32" else (config.precision,)
        kept = _digest(*reader.cached, config.max_tokens, _RECIPE, *precision)
        self.fingerprint = kept
        if reader.side is not None:
            self.fingerprint = _digest(kept, reader.side.fingerprint)
        self._cache = VectorCache(root / "vectors" / kept, reader.width) if root else None
        graph = _digest(*reader.cached, _RECIPE)
        self._graphs = root / "graphs" / graph if root else None
        self._head: Head | None = None
        self._notes: list[str] = []
        self._tokenizer: Any = None
        self._runtime: Runtime | None = None

    @classmethod
    def load(cls, config: LanguageConfig | None = None, *, device: str = "auto") -> TextEncoder:
        """Find a model and check that it is whole; its weights are read when first needed.

        Args:
            config: which model and how; None: the embedded one.
            device: 'auto' (CUDA where present, else CPU), 'cpu', 'cuda', 'cuda:1' …

        Raises:
            LanguageModelError: no such model, a folder without weights or tokenizer, or tuned
                weights of another model.
            CheckpointError: tuned weights that are absent or damaged.
        """
        config = config or LanguageConfig()
        root = config.cache or _user_cache()
        usable = _usable(root)
        reader = Reader.find(config, root / "models" if usable else None)
        encoder = cls(config, reader, root if usable else None, device)
        if not usable:
            encoder._note(
                f"The vector cache {root} cannot be written: texts are encoded anew each time. "
                "Set language.cache to a folder of yours"
            )
        return encoder

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.reader.facts.dim if self.reader.side else self.reader.width

    def encode(self, texts: Sequence[str | None]) -> ItemFeatures:
        """Vectors of texts, in their order; None and blank texts are masked, not encoded.

        Returns:
            float32 [n, dim] pooled vectors, neither normalised nor whitened, and their mask; with
            `language.layers` those stand behind the final states, [n, (1 + n_layers) · dim]. Of a
            side network, vectors [n, dim] in whitened coordinates.

        Raises:
            LanguageModelError: the model cannot be loaded or run, or gives no finite numbers.
            TrainingError: memory ran out.
        """
        began = time.perf_counter()
        place: dict[str, int] = {}
        rows = [
            place.setdefault(text, len(place)) if text and not text.isspace() else -1
            for text in texts
        ]
        row = np.array(rows, np.int64)
        present = row >= 0
        with enough_memory("language.batch_tokens", "language.max_tokens"):
            encoded, n_cached, runtime = self._distinct(list(place))
        vectors = np.zeros((len(row), self.dim), np.float32)
        vectors[present] = self._finished(encoded.vectors)[row[present]]
        self.report = EncodingReport(
            n_texts=len(row),
            n_missing=int((~present).sum()),
            n_distinct=len(place),
            n_cached=n_cached,
            n_encoded=len(place) - n_cached,
            n_truncated=int(encoded.truncated.sum()),
            seconds=time.perf_counter() - began,
            runtime=runtime,
            notes=tuple(self._notes),
        )
        whitened, truncated = self.reader.side is not None, self.report.n_truncated
        return ItemFeatures(vectors, present, whitened=whitened, truncated=truncated)

    def tokens(self, texts: Sequence[str], positions: int | None = None) -> Tokens:
        """Token numbers of texts, none blank, cut to `positions` tokens or what the model reads.

        Raises:
            LanguageModelError: the tokenizer is another model's.
        """
        return self._tokenize(list(texts), positions)

    def _finished(self, kept: NDArray[np.float16]) -> NDArray[np.float16] | NDArray[np.float32]:
        """Cached vectors → what is given out, by half precision in either case."""
        if self._head is None:
            self._head = self.reader.head()
        return kept if self._head is None else to_half(self._head(kept))

    def _distinct(self, texts: list[str]) -> tuple[Encoded, int, str | None]:
        """Vectors of distinct texts, how many were cached, and what ran the others."""
        keys = text_keys(texts)
        none = Encoded.none(len(texts), self.reader.width)
        encoded = self._cache.get(keys) if self._cache else none
        missing = np.flatnonzero(~encoded.known)
        if not len(missing):
            return encoded, len(texts), None
        # By key, so that batches do not depend on the order in which items are numbered.
        missing = missing[np.lexsort((keys[missing, 1], keys[missing, 0]))]
        tokens = self._tokenize([texts[i] for i in missing])
        runtime = self._runtime_for(len(missing))
        encoded.truncated[missing] = tokens.truncated
        unsaved, saved = np.zeros(len(texts), bool), time.perf_counter()
        for batch, vectors in self._run(runtime, tokens):
            done = missing[batch]
            encoded.vectors[done], encoded.known[done], unsaved[done] = vectors, True, True
            if time.perf_counter() - saved > _SAVE_EVERY_SECONDS:
                self._save(keys, encoded, unsaved)
                saved = time.perf_counter()
        self._save(keys, encoded, unsaved)
        if self._cache:
            self._cache.merge()
        return encoded, len(texts) - len(missing), runtime.name

    def _tokenize(self, texts: list[str], positions: int | None = None) -> Tokens:
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self.reader.folder)
        limit = min(self._config.max_tokens, positions or self.reader.positions)
        tokens = tokenize(self._tokenizer, texts, limit)
        known = self.reader.facts.vocabulary
        if (largest := int(tokens.ids.max())) >= known:
            raise LanguageModelError(
                f"the tokenizer gives token {largest}, the model knows {known}",
                where=str(self.reader.folder),
                hint="Tokenizer and weights belong to different models; fetch both anew",
            )
        return tokens

    def _runtime_for(self, n_texts: int) -> Runtime:
        """What is loaded, or what suits so many texts."""
        from isthmus.language.runtime import onnx_runtime, torch_runtime

        asked = self._config.runtime
        device = _device(self._device)
        bulk = n_texts >= _WORTH_EXPORT
        stored = self._graphs is not None and any(self._graphs.glob("*.onnx"))
        bf16 = self._config.precision == "bf16"
        in_torch = asked == "torch" or device != "cpu" or bf16
        if in_torch or (asked == "auto" and not bulk and not stored):
            if self._runtime is None:
                self._runtime = torch_runtime(self.reader, device, bf16=bf16)
        elif self._runtime is None or (self._runtime.name == "torch" and not self._runtime.note):
            self._runtime = onnx_runtime(self.reader, self._graphs, needed=asked == "onnx")
            if self._runtime.note:
                self._note(self._runtime.note)
        return self._runtime

    def _run(
        self, runtime: Runtime, tokens: Tokens
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """Rows and vectors of each batch, in order."""
        batches = list(
            length_batches(tokens.lengths, self._config.batch_tokens or runtime.batch_tokens)
        )

        def work(batch: NDArray[np.int64]) -> NDArray[np.float16]:
            vectors = runtime.run(*tokens.padded(batch))
            if not np.isfinite(vectors).all():
                raise LanguageModelError(
                    "the model gives NaN or infinity", where=str(self.reader.folder)
                )
            return to_half(vectors)

        with ThreadPoolExecutor(runtime.workers) as pool, _progress(batches) as advance:
            try:
                for batch, vectors in zip(batches, pool.map(work, batches), strict=True):
                    yield batch, vectors
                    advance()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _save(self, keys: NDArray[np.uint64], encoded: Encoded, unsaved: NDArray[np.bool_]) -> None:
        """Put unsaved vectors into the cache; a full disk is noted once and work goes on."""
        if self._cache is None or not unsaved.any():
            return
        rows = np.flatnonzero(unsaved)
        if self._cache.put(keys[rows], encoded.vectors[rows], encoded.truncated[rows]):
            unsaved[:] = False
        else:
            self._note(f"The vectors could not be kept in {self._cache.folder}: is the disk full?")

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)
            _log.warning("%s", text)


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def _user_cache() -> Path:
    """$XDG_CACHE_HOME/isthmus, else ~/.cache/isthmus."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "isthmus"


def _usable(root: Path) -> bool:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(root, os.W_OK)


def _device(name: str) -> str:
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def _progress(batches: list[NDArray[np.int64]]) -> Iterator[Callable[[], None]]:
    """A bar over batches that shows itself only when the job turns out to be long."""
    from isthmus.training.progress import progress

    began, done = time.perf_counter(), 0
    step: Callable[[str], None] | None = None
    with ExitStack() as stack:

        def advance() -> None:
            nonlocal done, step
            done += 1
            if step is not None:
                step("")
            elif time.perf_counter() - began > _SHOW_AFTER_SECONDS and done < len(batches):
                step = stack.enter_context(progress("Encoding texts", len(batches) - done))

        yield advance
