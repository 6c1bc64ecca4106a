"""What a refiner takes from a variant's resolved config: its network, its loss, how images are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.config import steps_of
from suite.errors import SuiteError

# Of mmdet's ResNet: what the refiner's has no argument for, and the values that ask for what it does anyway.
FIXED: dict[str, tuple[Any, ...]] = {
    "style": ("pytorch",),
    "deep_stem": (False,),
    "avg_down": (False,),
    "dcn": (None,),
    "plugins": (None,),
    "with_cp": (True, False),  # saves memory, changes nothing
    "zero_init_residual": (True,),
    "norm_cfg": ({"type": "BN"}, {"type": "BN", "requires_grad": True}),
    "conv_cfg": (None,),
    "pretrained": (None,),
}
TAKEN = ("type", "depth", "base_channels", "stem_channels", "num_stages", "frozen_stages", "norm_eval", "init_cfg")
NECK: dict[str, tuple[Any, ...]] = {  # of mmdet's FPN, likewise
    "type": ("FPN",),
    "start_level": (0,),
    "end_level": (-1,),
    "add_extra_convs": (False,),
    "relu_before_extra_convs": (True, False),  # there are none
    "no_norm_on_lateral": (True, False),
    "conv_cfg": (None,),
    "norm_cfg": (None,),
    "act_cfg": (None,),
    "upsample_cfg": ({"mode": "nearest"},),
}
EXTRACTOR = {
    "type": ("PrRoIExtractor",),
    "roi_layer": ({"type": "PrRoIPool", "output_size": 7},),
    "finest_scale": (56,),
}
ASSIGNER = {"type": ("MaxIoUAssigner",), "pos_iou_thr": (0.5,)}
LOSS = {"type": ("SmoothL1Loss", "CrossEntropyLoss")}
SHAPE = {"strides": (1, 2, 2, 2), "dilations": (1, 1, 1, 1), "out_indices": (0, 1, 2, 3)}


def refiner_arguments(cfg: Any, classes: Sequence[str], where: str) -> dict[str, Any]:
    """Arguments of `iounet.refiner.IoURefiner` for the network that a config describes.

    Args:
        cfg: the resolved config of a variant with an IoU branch.
        classes: names, in the order of labels.
        where: the variant and its file, for messages.

    Raises:
        SuiteError: the config asks for what a refiner is not; names the key.
    """
    model = cfg.model
    _require_network(model, where)
    neck, head = model.neck, model.roi_head.iou_head
    loss = head.get("loss_iou") or {"type": "SmoothL1Loss", "loss_weight": 5.0}
    is_logit = loss["type"] == "CrossEntropyLoss"
    normalize = _step(cfg.data.train.pipeline, "Normalize", where)
    if not normalize.get("to_rgb", True):
        raise SuiteError(f"{where}: Normalize.to_rgb=False: a refiner reads images as RGB")
    generator = model.roi_head.roi_generator
    backbone = model.backbone
    return {
        "categories": list(classes),
        "depth": backbone.depth,
        "base_channels": backbone.get("base_channels", 64),
        "num_stages": backbone.get("num_stages", 4),
        "frozen_stages": backbone.get("frozen_stages", -1),
        "norm_eval": backbone.get("norm_eval", True),
        "channels": neck.out_channels,
        "fc_channels": list(head.get("fc_channels", (1024, 1024))),
        "class_agnostic": head.get("class_agnostic", False),
        "loss": "bce" if is_logit else "smooth_l1",
        "loss_weight": loss.get("loss_weight", 1.0),
        "beta": 1.0 if is_logit else loss.get("beta", 1.0),
        "target_norm": dict(head.get("target_norm") or {"mean": 0.5, "std": 0.5}),
        "roi_generator": generator.to_dict(),
        "mean": list(normalize.mean),
        "std": list(normalize.std),
        **inference_arguments(cfg),
    }


def inference_arguments(cfg: Any) -> dict[str, Any]:
    """Those of the arguments that training does not depend on."""
    refine = cfg.model.test_cfg.rcnn.iou.get("refine") or {}
    return {"image_size": _image_size(cfg), "step_size": refine.get("lamb", 0.5)}


def _require_network(model: Any, where: str) -> None:
    """Refuses a network, RoIs or targets that a refiner has not, in place of training another one in silence."""
    backbone = model.backbone
    if backbone["type"] != "ResNet":
        raise SuiteError(f"{where}: model.backbone.type={backbone['type']!r}: a refiner has a ResNet")
    stages, base = backbone.get("num_stages", 4), backbone.get("base_channels", 64)
    allowed = {**FIXED, **{key: (values[:stages],) for key, values in SHAPE.items()}, "stem_channels": (None, base)}
    _require(backbone, allowed, "model.backbone", where, TAKEN)
    _require(model.neck, NECK, "model.neck", where, ("in_channels", "out_channels", "num_outs", "init_cfg"))
    strides = tuple(4 * 2**level for level in range(stages))
    extractor = {**EXTRACTOR, "featmap_strides": (strides,)}
    _require(model.roi_head.bbox_roi_extractor, extractor, "model.roi_head.bbox_roi_extractor", where)
    _require(model.train_cfg.rcnn.get("iou_assigner") or {}, ASSIGNER, "model.train_cfg.rcnn.iou_assigner", where)
    _require(model.roi_head.iou_head.get("loss_iou") or {}, LOSS, "model.roi_head.iou_head.loss_iou", where)


def _require(
    block: Mapping[str, Any], allowed: Mapping[str, Sequence[Any]], name: str, where: str, taken: Sequence[str] = ()
) -> None:
    """Refuses other values of some keys, and, if `taken` says what is read, other keys."""
    for key, value in block.items():
        plain = tuple(value) if isinstance(value, list) else value
        if key in allowed and plain not in allowed[key]:
            wanted = " or ".join(map(repr, allowed[key]))
            raise SuiteError(f"{where}: {name}.{key}={value!r}: that of a refiner is {wanted}")
        if taken and key not in allowed and key not in taken:
            raise SuiteError(f"{where}: {name}.{key}={value!r}: a refiner has no such setting")


def _image_size(cfg: Any) -> list[int] | None:
    """Largest long and short side of the network's input; None where images keep their size."""
    sizes = [step.img_scale for step in steps_of(cfg.data.test.pipeline) if "img_scale" in step]
    return [int(side) for side in sizes[0]] if sizes else None


def _step(pipeline: Sequence[Any], kind: str, where: str) -> Any:
    for step in steps_of(pipeline):
        if step["type"] == kind:
            return step
    raise SuiteError(f"{where}: data.train.pipeline has no {kind}: a refiner needs to know how images are read")
