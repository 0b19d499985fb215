"""What runs the pooled model: ONNX Runtime on the CPU, or PyTorch on any device."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.errors import LanguageModelError
from isthmus.language.onnx_export import (
    ExportError,
    export_graph,
    open_session,
    store_graph,
    stored_graph,
)
from isthmus.language.reader import Reader

_log = logging.getLogger(__name__)
Matrix = NDArray[np.int64]


@dataclass(frozen=True)
class Runtime:
    """A model ready to run.

    Attributes:
        name: "onnx" or "torch".
        run: token ids and mask [batch, length] → vectors float32 [batch, dim].
        workers: how many calls to make at once. ONNX Runtime does best with one thread a call and
            a call a core: its own threads wait by spinning, and small batches stay in the cache.
        batch_tokens: padded tokens in a batch that suit it.
        note: what the user should know about the choice, or None.
    """

    name: Literal["onnx", "torch"]
    run: Callable[[Matrix, Matrix], NDArray[np.float32]]
    workers: int
    batch_tokens: int
    note: str | None = None


def torch_runtime(
    reader: Reader, device: str, note: str | None = None, *, bf16: bool = False
) -> Runtime:
    """PyTorch on a device, in fp32 or, pooling apart, in bf16."""
    model = reader.build().eval().to(device, torch.bfloat16 if bf16 else torch.float32)

    def run(ids: Matrix, mask: Matrix) -> NDArray[np.float32]:
        with torch.inference_mode():
            vectors = model(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
        result: NDArray[np.float32] = vectors.float().cpu().numpy()
        return result

    # Units for bf16 want larger products before they pay.
    batch_tokens = 32_768 if torch.device(device).type != "cpu" else 4096 if bf16 else 1024
    return Runtime("torch", run, 1, batch_tokens, note)


def onnx_runtime(reader: Reader, graphs: Path | None, *, needed: bool) -> Runtime:
    """ONNX Runtime on the CPU with the stored graph, or one exported now and stored.

    Args:
        reader: the model.
        graphs: where this model's graph is kept; None: nowhere.
        needed: a failure is an error; otherwise PyTorch takes over and `note` says so.

    Raises:
        LanguageModelError: there is no graph and `needed`.
    """
    session = None
    if graphs is not None and (graph := stored_graph(graphs)):
        try:
            session = open_session(graph, threads=1)
        except Exception as error:
            _log.info("stored graph in %s does not open, it is made again: %s", graphs, error)
    if session is None:
        try:
            graph = export_graph(
                reader.build().eval(), reader.facts.vocabulary, reader.facts.positions
            )
        except ExportError as error:
            said = f"No ONNX graph of the language model ({error})"
            if needed:
                raise LanguageModelError(
                    said, where="language.runtime", hint="Set language.runtime = 'torch'"
                ) from error
            return torch_runtime(reader, "cpu", f"{said}; PyTorch encodes instead, slower")
        if graphs is not None:
            store_graph(graphs, graph)
        session = open_session(graph, threads=1)

    def run(ids: Matrix, mask: Matrix) -> NDArray[np.float32]:
        vectors: NDArray[np.float32]
        (vectors,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
        return vectors

    return Runtime("onnx", run, torch.get_num_threads(), 512)
