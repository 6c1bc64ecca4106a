"""What is compared: the poolings, the IoU-Net that they are put into, and the inference settings it is evaluated in."""

from __future__ import annotations

from typing import Any

from experiments.config import resolve_config
from suite.errors import NotInSuite, SuiteError
from suite.roles import FIRST
from suite.settings import Setting
from suite.suite import Suite

EXACT = "prroi"  # Precise RoI Pooling
SAMPLES = {"align0": 0, "align1": 1, "align2": 2, "align4": 4, "align8": 8}  # pooling to its samples; 0 = adaptive
STEPS = (0.5, 2.0)  # published λ: of the paper, and of the published reproduction's improvement
GUIDE = "rank"
_EXTRACTOR = "model.roi_head.bbox_roi_extractor"


def pooled_variant(suite: Suite) -> str:
    """The IoU-Net whose pooling is exchanged: what stands for the published one.

    Raises:
        NotInSuite: the suite has none.
        SuiteError: its config does not pool with `PrRoIExtractor`.
    """
    try:
        variant = suite.standing_for(FIRST)
    except NotInSuite as error:
        raise NotInSuite(f"{error}: RoI poolings are compared inside an IoU-Net, add one under `variants:`") from None
    extractor = resolve_config(suite, variant).model.roi_head.bbox_roi_extractor
    kind = extractor.get("type") if isinstance(extractor, dict) else type(extractor).__name__
    if kind != "PrRoIExtractor":
        raise SuiteError(
            f"variant '{variant}', {suite.variant(variant).config}: {_EXTRACTOR}.type is {kind!r}: only what was "
            "trained with 'PrRoIExtractor' can be compared"
        )
    return variant


def samples_of(pooling: str) -> int:
    """Samples of a bin along an axis. Raises `SuiteError` for a pooling there is not."""
    if pooling not in SAMPLES:
        raise SuiteError(f"no pooling '{pooling}'; there are {', '.join(SAMPLES)}")
    return SAMPLES[pooling]


def changes_of(pooling: str) -> dict[str, Any]:
    """What the config of a detector with this pooling differs in (`experiments.config.resolve_config`)."""
    return {f"{_EXTRACTOR}.type": "SampledRoIExtractor", f"{_EXTRACTOR}.roi_layer.sampling_ratio": samples_of(pooling)}


def pooled_settings(suite: Suite) -> list[Setting]:
    """The settings that are evaluated with each pooling: those of `STEPS` and without refinement that the suite has."""
    steps = [suite.scale.step(step).actual for step in STEPS]
    return [
        setting
        for setting in suite.settings(pooled_variant(suite))
        if setting.part is None
        and setting.guide in (None, GUIDE)
        and (setting.step_size is None or setting.step_size.actual in steps)
    ]
