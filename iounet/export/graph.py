"""A refiner as a file: ONNX, or a program of ``torch.export``. Both come from the same trace.

Sizes that stay free: K boxes, N images, and Hl, Wl of each level; K and N may be 0 and 1.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iounet.export.refiner import Refiner

# Of ONNX 1.15; what torch's exporter writes without converting.
OPSET = 20
INPUTS = ("rois", "labels")
OUTPUTS = ("boxes", "ious")
_PACKAGES = ("onnx", "onnxscript")


def input_names(refiner: Refiner) -> list[str]:
    """Of a graph: ``rois``, ``labels``, ``level0``, ``level1``, …"""
    return [*INPUTS, *(f"level{level}" for level in range(len(refiner.strides)))]


def description(refiner: Refiner) -> dict[str, str]:
    """What a graph computes, as its file says it."""
    return {
        "num_steps": str(refiner.num_steps),
        "step_size": repr(refiner.step_size),
        "omega_1": repr(refiner.omega_1),
        "omega_2": repr(refiner.omega_2),
        "num_classes": str(refiner.iou_head.num_classes),
        "class_agnostic": json.dumps(refiner.iou_head.class_agnostic),
        "strides": json.dumps(refiner.strides),
        "level_areas": json.dumps(refiner.level_areas),
        "output_size": json.dumps(refiner.output_size),
    }


def random_inputs(
    refiner: Refiner, num_images: int, num_boxes: int, size: tuple[int, int], generator: torch.Generator
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Inputs of :meth:`Refiner.forward`: boxes of all levels, image by image, over unit-normal maps.

    Args:
        refiner: whose inputs.
        num_images: N.
        num_boxes: K.
        size: height and width of the images, in pixels.
        generator: draws all values.
    """
    height, width = size
    maps = [
        torch.randn(num_images, refiner.channels, -(-height // stride), -(-width // stride), generator=generator)
        for stride in refiner.strides
    ]
    extent = torch.tensor([width, height], dtype=torch.float32)
    low = (torch.rand(num_boxes, 2, generator=generator) * 0.9 - 0.1) * extent  # some reach over the border
    high = low + 4 + torch.rand(num_boxes, 2, generator=generator) ** 2 * extent
    image = torch.randint(num_images, (num_boxes, 1), generator=generator).sort(dim=0).values
    labels = torch.randint(refiner.iou_head.num_classes, (num_boxes,), generator=generator)
    return torch.cat([image.float(), low, high], dim=1), labels, maps


def traced(refiner: Refiner) -> torch.export.ExportedProgram:
    """The refiner's graph, with all sizes free.

    Raises:
        RuntimeError: this torch cannot trace it.
    """
    from torch.fx.experimental import _config as config

    if not hasattr(config, "backed_size_oblivious"):
        raise RuntimeError(f"torch {torch.__version__} cannot trace sizes that may be 0 or 1: use torch 2.11 or later")
    example = random_inputs(refiner, 2, 5, (96, 128), torch.Generator().manual_seed(0))
    boxes, images = torch.export.Dim("K"), torch.export.Dim("N")
    levels = [
        {0: images, 2: torch.export.Dim(f"H{level}"), 3: torch.export.Dim(f"W{level}")}
        for level in range(len(refiner.strides))
    ]
    # As torch.onnx traces: else a size is taken to be 2 or more, and the order of strides has to be proved.
    with config.patch(backed_size_oblivious=True), torch.no_grad():  # type: ignore[attr-defined]
        return torch.export.export(refiner, example, dynamic_shapes=({0: boxes}, {0: boxes}, levels))


def save_program(refiner: Refiner, path: Path) -> None:
    """Writes the refiner as ``torch.export`` keeps programs (.pt2), with :func:`description` as ``iounet.json``.

    Raises:
        RuntimeError: as :func:`traced`.
    """
    with _whole(path) as part:
        torch.export.save(traced(refiner), part, extra_files={"iounet.json": json.dumps(description(refiner))})


def save_onnx(refiner: Refiner, path: Path, opset: int = OPSET) -> None:
    """Writes the refiner as ONNX: operators of the standard domain alone, :func:`description` as metadata.

    Raises:
        ModuleNotFoundError: onnx or onnxscript is not installed.
        RuntimeError: as :func:`traced`; or the file would need operators that are not in the standard.
    """
    require_packages(*_PACKAGES)
    import onnx

    names = input_names(refiner)
    with _quiet():
        exported: Any = torch.onnx.export(
            traced(refiner), opset_version=opset, dynamo=True, input_names=names, output_names=OUTPUTS, verbose=False
        )
    model = exported.model_proto
    foreign = sorted({f"{node.domain}::{node.op_type}" for node in model.graph.node if node.domain})
    if foreign or model.functions:
        raise RuntimeError(f"the graph has operators that are not ONNX's own: {', '.join(foreign)}")
    _name_sizes(model, refiner)
    for node in model.graph.node:  # where each was traced: paths of this machine
        node.doc_string = ""
        del node.metadata_props[:]
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**description(refiner), "opset": str(opset)})
    onnx.checker.check_model(model)
    with _whole(path) as part:
        onnx.save(model, part)


def require_packages(*names: str) -> None:
    """Raises ``ModuleNotFoundError`` for the first that is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"{name} is not installed: pip install 'iounet[export]'", name=name)


def _name_sizes(model: Any, refiner: Refiner) -> None:
    """K, N, H0, W0, … in place of the tracer's names."""
    levels = [["N", "", f"H{level}", f"W{level}"] for level in range(len(refiner.strides))]
    names: dict[str, str] = {}
    for value, sizes in zip(model.graph.input, [["K", ""], ["K"], *levels], strict=True):
        for dim, name in zip(value.type.tensor_type.shape.dim, sizes, strict=True):
            if name:
                names[dim.dim_param] = name
    for value in [*model.graph.input, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = names[dim.dim_param]
    del model.graph.value_info[:]


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A path beside ``path`` that takes its name only when the block ends without an error."""
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter has to say about itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
