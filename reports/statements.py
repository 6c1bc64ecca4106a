"""What the paper says of IoU-Net with the boxes of any detector, as claims that are judged like the others.

The paper argues them; how large it found the effects is not quoted here.
"""

from __future__ import annotations

from dataclasses import replace

from reports.claims import Claim
from reports.results.treated import Treated, TreatedSide
from suite.treatments import BASELINE_LABEL, CLASS_AGNOSTIC, NUM_STEPS, PLAIN, SOFT_LINEAR, Treatment, guided

Pair = tuple[TreatedSide, TreatedSide]


def statements(treated: Treated) -> list[Claim]:
    """The claims of the page: one family, and of our own asking whether an IoU per class is better."""
    found = [claim for detector in treated.labels for claim in _of_detector(treated, detector)]
    soft, by_iou = TreatedSide(treated.baseline, Treatment(SOFT_LINEAR)), TreatedSide(treated.baseline, guided())
    text = f"{BASELINE_LABEL}: guided NMS is above linear Soft-NMS, both at {soft.treatment.iou_threshold:g}"
    found.append(_claim("soft_nms", "AP90", text, "guided NMS above Soft-NMS at AP90", [(by_iou, soft)]))
    found += [_iterated(treated, detector) for detector in treated.regressed if detector in treated.iterated]
    heads = [
        (TreatedSide(detector, treated.refined()), TreatedSide(detector, treated.refined(head=CLASS_AGNOSTIC)))
        for detector in treated.labels
    ]
    mean = f", mean over {len(heads)} detectors" if len(heads) > 1 else ""
    text = f"One IoU per class is better than one for all classes (guided NMS and refinement{mean})"
    return [*found, replace(_claim("heads", "AP", text, "one IoU per class", heads), argued=False)]


def _of_detector(treated: Treated, detector: str) -> list[Claim]:
    label, own = treated.labels[detector], TreatedSide(detector, PLAIN)
    nms, refined = TreatedSide(detector, guided()), TreatedSide(detector, treated.refined())
    told = {
        "nms": ("AP", "guided NMS raises AP over its own NMS", "guided NMS", (nms, own)),
        "refinement": ("AP", "refinement raises AP over guided NMS alone", "refinement", (refined, nms)),
        "both": ("AP90", "guided NMS and refinement raise AP90 over its own NMS", "both at AP90", (refined, own)),
    }
    return [
        _claim(f"{detector}_{key}", metric, f"{label}: {text}", f"{short} on {label}", [pair])
        for key, (metric, text, short, pair) in told.items()
    ]


def _iterated(treated: Treated, detector: str) -> Claim:
    regression, refinement, *_ = (TreatedSide(detector, own[-1]) for own in treated.movers(detector).values())
    label, pairs = treated.labels[detector], [(regression, refinement)]
    text = f"{label}: after {NUM_STEPS} iterations box regression is below refinement"
    return _claim(f"{detector}_iterated", "AP", text, f"regression below refinement on {label}", pairs, expected="-")


def _claim(key: str, metric: str, text: str, short: str, pairs: list[Pair], expected: str = "+") -> Claim:
    return Claim(key, "difference", text, short, expected, metric, {}, tuple(pairs), argued=True)
