"""Trained models as exported files: torch's .pt2, ONNX, and ONNX in 8-bit integers."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..records.pictures import Pixels
from ..storage.files import temporary_folder
from ..training.links import probabilities
from .exported import INPUT, ONNX_FILE, OUTPUTS, PT2_FILE, PT2_NOTE, Logits
from .predictor import kind_in
from .whole_network import WholeNetwork

if TYPE_CHECKING:
    import onnx

    from ..features.classifier_network import ClassifierNetwork

__all__ = [
    "VARIANTS",
    "CannotExport",
    "ExportSource",
    "Variant",
    "exportable",
    "outputs_note",
    "traced",
    "write_int8",
    "write_onnx",
    "write_pt2",
]

Program = torch.export.ExportedProgram
Note = Mapping[str, str]  # what its outputs are, see `outputs_note`
Pictures = Callable[[], Sequence[Pixels]]  # (C, H, W) each
_TRACED_WITH = 2  # a batch of one would be taken for a constant
_CALIBRATION_BATCH = 32
# Recurrent layers, which onnxruntime computes in floats however they are quantised.
_RECURRENT = frozenset({"LSTM", "GRU", "RNN", "Scan", "Loop"})
_WITH_WEIGHTS = frozenset({"Conv", "MatMul", "Gemm"})
# Of the names of what a `ClassifierNetwork` computes from features with, within `_Answers`.
_HEAD = "network.head."


@dataclass(frozen=True)
class ExportSource:
    """A trained model as it is exported, and what its files are compared with.

    Attributes:
        network: computes its logits, on the CPU in single precision.
        metadata: of the bundles of its files.
        originals: the model as it predicts, by name, the one first that all are compared with.
    """

    network: WholeNetwork | ClassifierNetwork
    metadata: Mapping[str, Any]
    originals: Mapping[str, Logits]


class CannotExport(Exception):
    """A model cannot have a variant; the message is the reason in a few words."""

    def __init__(self, why: BaseException | str) -> None:
        lines = str(why).strip().splitlines() or [type(why).__name__]
        super().__init__(lines[0].strip().rstrip(".:")[:200])


def exportable(
    network: nn.Module, metadata: Mapping[str, Any], memory_format: str | None = None
) -> WholeNetwork:
    """Return a copy of a network on the CPU, with its normalisation; arguments as `WholeNetwork`.

    In single precision: half precision is rounded differently from machine to machine.
    """
    return WholeNetwork(copy.deepcopy(network).to("cpu"), metadata, memory_format)


class _Answers(nn.Module):
    """Decoded pictures, or windows of large ones, to logits and probabilities."""

    def __init__(self, network: WholeNetwork | ClassifierNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network.at_once(images)
        return logits, probabilities(logits, self.network.link)


def outputs_note(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return what the outputs of an exported network are, to be kept in its file.

    Args:
        metadata: of the run's checkpoints, with the `thresholds` of answers.
    """
    kind, names = kind_in(metadata), list(metadata["class_names"])
    axes, answer = "(pictures, classes)", "the class is the most probable one"
    note = {"targets": kind.name, "class_names": json.dumps(names, ensure_ascii=False)}
    thresholds = metadata.get("thresholds")
    if kind.sets:
        answer = "a picture has each label whose probability is at least its threshold"
        note["thresholds"] = json.dumps(thresholds or [0.5] * len(names))
    elif thresholds is not None:
        answer = (
            "the class is the lowest above which all classes together are less probable than the "
            "threshold"
        )
        if len(thresholds) > len(names):
            answer = (
                "the class is the k of the least sum over j of the probability of class j times "
                "threshold j * K + k, which is the cost of answering k for it; K is the number of "
                "classes, and all count from 0"
            )
        elif len(thresholds) == len(names):
            answer = (
                "the class is the one whose probability is the largest multiple of its threshold"
            )
        elif len(thresholds) > 1:
            answer = (
                "the class is the number of thresholds that the sum of k times the probability of "
                "class k, k from 0 on, reaches"
            )
        note["thresholds"] = json.dumps(thresholds)
    if kind.pixels:
        axes = "(pictures, classes, height, width)"
        answer = "a pixel's class is its most probable one"
    if metadata.get("fit") == "windows":
        answer += "; pictures are windows, cut out of larger ones without resizing"
        answer += f" but for a factor of {metadata.get('scale', 1.0):g}"
    return note | {
        "outputs": f"logits, before the last function; probabilities {axes}, in the order of "
        f"class_names: {answer}"
    }


def traced(
    network: WholeNetwork | ClassifierNetwork,
    shape: tuple[int, int, int],
    dtype: str = "uint8",
) -> torch.export.ExportedProgram:
    """Return the graph of the network for pictures of `shape` (C, H, W) in batches of any size.

    `dtype` is that of the pictures, "uint8" or "float32".

    Raises:
        CannotExport: its code cannot be traced, or only for batches of one size.
    """
    images = torch.zeros(_TRACED_WITH, *shape, dtype=getattr(torch, dtype))
    with torch.no_grad(), _exporting(writes=False):
        program = torch.export.export(
            _Answers(network), (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
        )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine do not belong into a file
    return program


def write_pt2(program: torch.export.ExportedProgram, file: Path, note: Mapping[str, str]) -> None:
    """Write a .pt2 archive: the graph as JSON, the weights as plain numbers, and the note.

    Nothing is compiled: AOTInductor would add machine code for one processor, made by a compiler
    that few machines have and run unseen when the file is loaded.

    Raises:
        CannotExport: torch cannot write this graph.
        OSError: the file cannot be written.
    """
    program.example_inputs = None  # they would be pickled
    with _exporting():
        torch.export.save(program, file, extra_files={PT2_NOTE: json.dumps(dict(note))})


def write_onnx(program: torch.export.ExportedProgram, file: Path, note: Mapping[str, str]) -> None:
    """Write the graph with its weights as one ONNX file, and the note as its metadata.

    Raises:
        CannotExport: ONNX has no operation for a part of it, or it is above ONNX's 2 GB.
        OSError: the file cannot be written.
    """
    with _exporting():
        made = torch.onnx.export(
            program,
            (),
            dynamo=True,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            optimize=True,
            verbose=False,
        )
        assert made is not None
        made.model.metadata_props.update(note)
        made.save(file, external_data=False)


def write_int8(source: Path, file: Path, pictures: Sequence[Pixels]) -> None:
    """Write an ONNX file in which convolutions and matrix products compute in 8-bit integers.

    Static quantisation (Jacob et al. 2018, arXiv:1712.05877): the range of every activation is that
    on `pictures`, weights have a scale for each output channel. Operations before the first layer
    with weights, the last such layer and operations after it stay exact, and so does a classifier
    on the features of networks.

    Args:
        source: a file of `write_onnx`.
        file: to write.
        pictures: (C, H, W) each, of the training part.

    Raises:
        CannotExport: nothing in the graph can be quantised, or onnxruntime fails on it.
        OSError: a file cannot be read or written.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with temporary_folder(file.parent) as folder, _exporting():
        prepared = folder / "prepared.onnx"
        # Folds normalisation into convolutions, so that they are rounded as one.
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        model = onnx.load(prepared)
        _divide_by_covered(model.graph)
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


def _as_pt2(program: Program, folder: Path, note: Note, pictures: Pictures) -> Path:
    write_pt2(program, folder / PT2_FILE, note)
    return folder / PT2_FILE


def _as_onnx(program: Program, folder: Path, note: Note, pictures: Pictures) -> Path:
    file = folder / ONNX_FILE
    if not file.is_file():
        write_onnx(program, file, note)
    return file


def _as_int8(program: Program, folder: Path, note: Note, pictures: Pictures) -> Path:
    exact, file = _as_onnx(program, folder, note, pictures), folder / "int8.onnx"
    write_int8(exact, file, pictures())
    return file


@dataclass(frozen=True)
class Variant:
    """A kind of file that models are exported as.

    Attributes:
        write: makes it in a folder, which has what other variants needed as well, of a graph of
            `traced`, which it may change, its note, and pictures of the training part, which are
            read when they are called for; returns the file. Raises `CannotExport` and OSError.
        effort: how long that takes, for the log.
        calibrated: whether it is made with training pictures.
    """

    write: Callable[[Program, Path, Note, Pictures], Path]
    effort: str
    calibrated: bool = False


# By the names that settings give them.
VARIANTS = {
    "onnx": Variant(_as_onnx, "seconds, for a large network a minute"),
    "int8": Variant(
        _as_int8,
        "up to some minutes, for its ranges come from training pictures",
        calibrated=True,
    ),
    "pt2": Variant(_as_pt2, "compiled in a minute or two"),
}


def _divide_by_covered(graph: onnx.GraphProto) -> None:
    """Clear `count_include_pad` of average pooling without padding.

    Without padding the attribute has no meaning, but onnxruntime's 8-bit kernel divides by the
    whole window where it is set, also where the window reaches beyond the map.
    """
    for node in graph.node:
        if node.op_type == "AveragePool":
            values = {attribute.name: attribute for attribute in node.attribute}
            if "count_include_pad" in values and not any(values["pads"].ints):
                values["count_include_pad"].i = 0


def _exact(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the nodes that are not between two layers with weights, or in a head.

    Raises:
        CannotExport: these are all nodes, or some have no 8-bit kernel.
    """
    kinds = {node.op_type for node in graph.node}
    if recurrent := sorted(kinds & _RECURRENT):
        raise CannotExport(f"onnxruntime has no 8-bit kernel for {' and '.join(recurrent)} layers")
    after: set[str] = set()  # tensors computed by a layer with weights, or after one
    for node in graph.node:
        if node.op_type in _WITH_WEIGHTS or after.intersection(node.input):
            after.update(node.output)
    weights = (one.name for one in graph.initializer)
    head = {name for name in weights if name.startswith(_HEAD)}  # and tensors computed with them
    for node in graph.node:
        if head.intersection(node.input):
            head.update(node.output)
    before: set[str] = set()  # tensors that such a layer needs, directly or not
    for node in reversed(graph.node):
        if node.op_type in _WITH_WEIGHTS or before.intersection(node.output):
            before.update(node.input)
    exact = [
        node.name
        for node in graph.node
        if head.intersection(node.output)
        or not (after.intersection(node.output) and before.intersection(node.output))
    ]
    if len(exact) == len(graph.node):
        raise CannotExport("it has a single layer with weights, which stays exact")
    return exact


class _Reader:
    """Batches for onnxruntime's calibration, one by one and then None."""

    def __init__(self, pictures: Sequence[Pixels]) -> None:
        starts = range(0, len(pictures), _CALIBRATION_BATCH)
        self._batches = (np.stack(pictures[at : at + _CALIBRATION_BATCH]) for at in starts)

    def get_next(self) -> dict[str, Pixels] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


@contextmanager
def _exporting(*, writes: bool = True) -> Iterator[None]:
    """Silence the exporters' advice to developers; turn their own errors into `CannotExport`."""
    before, handlers = logging.root.manager.disable, logging.root.handlers[:]
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except CannotExport:
        raise
    except Exception as error:  # tracers, optimisers and protobuf have one for every kind of fault
        if writes and isinstance(error, OSError):
            raise
        raise CannotExport(error) from error
    finally:
        logging.disable(before)
        # `logging.info` of a library adds one, which repeats all later lines.
        logging.root.handlers[:] = handlers
