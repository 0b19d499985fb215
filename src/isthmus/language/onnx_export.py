"""A pooled language model → an ONNX graph that ONNX Runtime runs on the CPU in fp32.

The graph is made by torch's exporter (torch.export based: the older tracing one gives wrong
vectors for some of transformers' attention masks), takes any batch and any length, and is checked
against torch before it is used. Stored graphs carry their own hash in their name.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from isthmus.language.aside import write_aside

_WORST_COSINE = 1 - 1e-4
_LARGEST_BYTES = 1_900_000_000  # a protobuf ends at 2 GB


class ExportError(Exception):
    """The model has no usable ONNX graph; the caller goes on with torch."""


def stored_graph(folder: Path) -> bytes | None:
    """The graph stored in a folder, or None where there is none that is whole."""
    for path in sorted(folder.glob("*.onnx")):
        try:
            graph = path.read_bytes()
        except OSError:
            continue
        if _name(graph) == path.name:
            return graph
    return None


def store_graph(folder: Path, graph: bytes) -> None:
    """Keep a graph for the next start, where the disk allows."""
    write_aside(folder / _name(graph), graph)


def export_graph(model: nn.Module, vocabulary: int, positions: int) -> bytes:
    """Export a model and check the graph on texts of other shapes than the example's.

    Args:
        model: on the CPU, fp32, in evaluation mode.
        vocabulary: token numbers to try run below this.
        positions: longest text that the model can read.

    Raises:
        ExportError: torch cannot export the model, or the graph's vectors are not the model's.
    """
    if sum(p.numel() * p.element_size() for p in model.parameters()) > _LARGEST_BYTES:
        raise ExportError("the model is larger than 1.9 GB")
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with _quiet(), torch.inference_mode(False), torch.no_grad():
            program = torch.onnx.export(
                model,
                _example(3, min(9, positions), vocabulary),
                dynamo=True,
                verbose=False,
                input_names=["input_ids", "attention_mask"],
                output_names=["vectors"],
                dynamic_shapes=(axes, axes),
            )
            assert program is not None
            with TemporaryDirectory() as folder:
                program.save(Path(folder) / "model.onnx", external_data=False)
                graph = (Path(folder) / "model.onnx").read_bytes()
        session = open_session(graph, threads=1)
        for batch, length in ((1, min(5, positions)), (4, min(23, positions))):
            _check(model, session, _example(batch, length, vocabulary))
    except ExportError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise ExportError(f"{type(error).__name__}: {reason[:200]}") from error
    return graph


def open_session(graph: bytes, *, threads: int) -> Any:
    """An ONNX Runtime session on the CPU whose single calls use `threads` threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # Its fused skip + layer norm is not vectorised: the two apart are a tenth faster over all.
    return onnxruntime.InferenceSession(
        graph,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["SkipLayerNormFusion"],
    )


def _example(batch: int, length: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token numbers and mask [batch, length]; all but the first text are padded differently."""
    generator = torch.Generator().manual_seed(batch * 1000 + length)
    ids = torch.randint(0, vocabulary, (batch, length), generator=generator)
    lengths = length - torch.arange(batch) * (length // (batch + 1))
    return ids, (torch.arange(length) < lengths[:, None]).long()


def _check(model: nn.Module, session: Any, example: tuple[torch.Tensor, torch.Tensor]) -> None:
    ids, mask = example
    (ours,) = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
    with torch.inference_mode():
        theirs = model(ids, mask)
    worst = float(torch.cosine_similarity(torch.from_numpy(np.asarray(ours)), theirs).min())
    if not worst >= _WORST_COSINE:
        raise ExportError(f"the graph's vectors differ from torch's (cosine {worst:.4f})")


def _name(graph: bytes) -> str:
    return f"{hashlib.sha256(graph).hexdigest()[:32]}.onnx"


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter without its remarks on optional packages and on its own future."""
    names = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
