"""What the paper says of IoU-Net with the boxes of any detector, as claims that are judged like the others.

The paper argues them; how large it found the effects is not quoted here.
"""

from __future__ import annotations

from reports.claims import Claim
from reports.results.treated import BASELINE_LABEL, Treated, TreatedSide, guided
from suite.treatments import CLASS_AGNOSTIC, HARD, NUM_STEPS, PLAIN, REFINEMENT, REGRESSION, SOFT_LINEAR, Treatment

Pair = tuple[TreatedSide, TreatedSide]


def statements(treated: Treated) -> list[Claim]:
    """The claims of the page: one family."""
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
    return [*found, _claim("heads", "AP", text, "one IoU per class", heads)]


def _of_detector(treated: Treated, detector: str) -> list[Claim]:
    label, own = treated.labels[detector], TreatedSide(detector, PLAIN)
    nms, refined = TreatedSide(detector, guided()), TreatedSide(detector, treated.refined())
    return [
        _claim(
            f"{detector}_nms",
            "AP",
            f"{label}: guided NMS raises AP over its own NMS",
            f"guided NMS on {label}",
            [(nms, own)],
        ),
        _claim(
            f"{detector}_refinement",
            "AP",
            f"{label}: refinement raises AP over guided NMS alone",
            f"refinement on {label}",
            [(refined, nms)],
        ),
        _claim(
            f"{detector}_both",
            "AP90",
            f"{label}: guided NMS and refinement raise AP90 over its own NMS",
            f"both at AP90 on {label}",
            [(refined, own)],
        ),
    ]


def _iterated(treated: Treated, detector: str) -> Claim:
    refinement = Treatment(
        HARD, head=guided().head, moved_by=REFINEMENT, num_steps=NUM_STEPS, step_size=treated.steps[0]
    )
    pair = (
        TreatedSide(detector, Treatment(moved_by=REGRESSION, num_steps=NUM_STEPS)),
        TreatedSide(detector, refinement),
    )
    label = treated.labels[detector]
    text = f"{label}: after {NUM_STEPS} iterations box regression is below refinement"
    return _claim(f"{detector}_iterated", "AP", text, f"regression below refinement on {label}", [pair], expected="-")


def _claim(key: str, metric: str, text: str, short: str, pairs: list[Pair], expected: str = "+") -> Claim:
    return Claim(key, "difference", text, short, expected, metric, {}, tuple(pairs), argued=True)
