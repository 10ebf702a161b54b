"""A network as ONNX, in single precision or in 8-bit integers."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from src.serving.onnx_network import INPUT, OUTPUT
from src.serving.variants.whole import CannotExport, quiet

if TYPE_CHECKING:
    import onnx

__all__ = ["write_int8", "write_onnx"]

_AT_ONCE = 32
# Recurrent layers, which onnxruntime computes in floats however they are quantised.
_RECURRENT = frozenset({"LSTM", "GRU", "RNN", "Scan", "Loop"})
_WITH_WEIGHTS = frozenset({"Conv", "MatMul", "Gemm"})


def write_onnx(program: torch.export.ExportedProgram, file: Path) -> None:
    """Write the graph in ONNX; its weights are in the file.

    Raises:
        CannotExport: ONNX has no operation for a part of it, or it is above ONNX's 2 GB.
        OSError: the file cannot be written.
    """
    try:
        with quiet():
            made = torch.onnx.export(
                program,
                (),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                optimize=True,
                verbose=False,
            )
            assert made is not None
            made.save(file, external_data=False)
    except OSError:
        raise
    except Exception as error:  # the exporter, its optimiser and protobuf have their own
        raise CannotExport(error) from error


def write_int8(source: Path, file: Path, pictures: Sequence[NDArray[np.uint8]]) -> None:
    """Write an ONNX file in which convolutions and matrix products compute in 8-bit integers.

    Static quantisation (Jacob et al. 2018, arXiv:1712.05877): the range of every activation is the
    one met on `pictures`, weights have a scale for each output channel. What comes before the
    first layer with weights and from the last one on stays exact.

    Args:
        source: what `write_onnx` wrote.
        file: to write.
        pictures: (C, H, W) uint8 each, of the training part.

    Raises:
        CannotExport: there is nothing in it that could be computed so, or not this graph.
        OSError: a file cannot be read or written.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, quiet():
        prepared = Path(folder) / "prepared.onnx"
        try:
            # Folds normalisation into convolutions, so that they are rounded as one.
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            model = onnx.load(prepared)
            _count_only_what_is_there(model.graph)
            quantization.quantize_static(
                model,
                file,
                _Reader(pictures),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                nodes_to_exclude=_exact(model.graph),
            )
        except (CannotExport, OSError):
            raise
        except Exception as error:
            raise CannotExport(error) from error


def _count_only_what_is_there(graph: onnx.GraphProto) -> None:
    """Say of averages over windows that overhang the map what divides them, in the other way.

    onnxruntime's 8-bit kernel divides by the whole window where padding is said to count, although
    there is none; both ways mean the same where there is none.
    """
    for node in graph.node:
        if node.op_type == "AveragePool":
            values = {attribute.name: attribute for attribute in node.attribute}
            if "count_include_pad" in values and not any(values["pads"].ints):
                values["count_include_pad"].i = 0


def _exact(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that are not between two layers with weights.

    Raises:
        CannotExport: these are all, or some have no 8-bit kernel.
    """
    kinds = {node.op_type for node in graph.node}
    if recurrent := sorted(kinds & _RECURRENT):
        raise CannotExport(f"onnxruntime has no 8-bit kernel for {' and '.join(recurrent)} layers")
    after: set[str] = set()  # tensors that come out of a layer with weights, or of what follows it
    for node in graph.node:
        if node.op_type in _WITH_WEIGHTS or after.intersection(node.input):
            after.update(node.output)
    before: set[str] = set()  # tensors that go into one, or into what leads to it
    for node in reversed(graph.node):
        if node.op_type in _WITH_WEIGHTS or before.intersection(node.output):
            before.update(node.input)
    exact = [
        node.name
        for node in graph.node
        if not (after.intersection(node.output) and before.intersection(node.output))
    ]
    if len(exact) == len(graph.node):
        raise CannotExport("it has a single layer with weights, which stays exact")
    return exact


class _Reader:
    """Batches as onnxruntime's calibration asks for them, one by one and then None."""

    def __init__(self, pictures: Sequence[NDArray[np.uint8]]) -> None:
        self._batches = iter(range(0, len(pictures), _AT_ONCE))
        self._pictures = pictures

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        start = next(self._batches, None)
        if start is None:
            return None
        return {INPUT: np.stack(self._pictures[start : start + _AT_ONCE])}
