"""Measuring: rows interleaved batch by batch, whole and stage by stage, and what follows from the times."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tqdm import tqdm

from experiments.speed.detector import Detector
from experiments.speed.rows import BASELINE, TimedSetting

INTERVAL = 2.0  # seconds between two looks of the progress bar, so that drawing it is not what is timed

# Seconds of each round: by row, and within it by stage ('total' is all of simple_test), one value per batch.
Rounds = list[dict[str, list[dict[str, float]]]]


def time_rounds(
    detectors: dict[str, Detector],
    batches: Sequence[tuple[Any, list[dict[str, Any]]]],
    rounds: int,
    batches_per_round: int,
    synchronize: Callable[[], None],
    stages: bool = False,
) -> Rounds:
    """Every row on the same batches in every round; who goes first changes from batch to batch."""
    keys = list(detectors)
    timed: Rounds = []
    what = f"{'stages' if stages else 'whole'}, batches of {len(batches[0][1])}"
    for number in tqdm(range(rounds * batches_per_round), what, mininterval=INTERVAL, unit="batch"):
        if number % batches_per_round == 0:
            timed.append({key: [] for key in keys})
        images, metas = batches[number % len(batches)]
        first = number % len(keys)
        for key in keys[first:] + keys[:first]:
            detector, spent = detectors[key], dict[str, float]()
            with ExitStack() as stack:
                if stages:
                    for owner, method, stage in stages_of(detector.model):
                        stack.enter_context(_stopwatch(owner, method, stage, spent, synchronize))
                synchronize()
                started = time.perf_counter()
                detector(images, metas)
                synchronize()
                spent["total"] = time.perf_counter() - started
            timed[-1][key].append(spent)
    return timed


def stages_of(model: Any) -> list[tuple[Any, str, str]]:
    """(object, method, stage) of the parts of simple_test; the rest is the box head, NMS and the results' form."""
    stages = [
        (model, "extract_feat", "features"),
        (model.rpn_head, "simple_test_rpn", "proposals"),
        (model.roi_head.bbox_roi_extractor, "forward", "pooling"),  # of the proposals: the first call
    ]
    if hasattr(model.roi_head, "iou_head"):
        stages += [(model.roi_head, "score", "iou_scores"), (model.roi_head, "refine", "refinement")]
    return stages


@contextmanager
def _stopwatch(
    owner: Any, method: str, stage: str, spent: dict[str, float], synchronize: Callable[[], None]
) -> Iterator[None]:
    """Inside the block, the first call of a method puts its seconds into `spent[stage]`."""
    original = getattr(owner, method)

    def measured(*arguments: Any, **keywords: Any) -> Any:
        synchronize()
        started = time.perf_counter()
        result = original(*arguments, **keywords)
        synchronize()
        spent.setdefault(stage, time.perf_counter() - started)
        return result

    setattr(owner, method, measured)
    try:
        yield
    finally:
        delattr(owner, method)


def summary(rows: list[TimedSetting], timed: Rounds, staged: Rounds, batch_size: int) -> dict[str, Any]:
    """What the file says of each row: quartiles, over batches for a latency and over rounds for what is relative."""
    keys = [row.key for row in rows]

    def per_round(source: Rounds, key: str, *without: str) -> list[float]:
        return [
            statistics.fmean(batch["total"] - sum(batch[stage] for stage in without) for batch in one[key])
            for one in source
        ]

    def ratios(source: Rounds, key: str, base: str, *without: str) -> dict[str, float]:
        pairs = zip(per_round(source, key, *without), per_round(source, base, *without), strict=True)
        return quartiles([own / other for own, other in pairs])

    found = {}
    for row in rows:
        latency = quartiles([1000 * batch["total"] for one in timed for batch in one[row.key]])
        entry: dict[str, Any] = {
            "variant": row.variant,
            "setting": row.setting.name,
            "fps": round(1000 * batch_size / latency["median"], 3),
            "latency_ms": latency,
            "ratio": ratios(timed, row.key, BASELINE),
            "ratio_without_pooling": ratios(staged, row.key, BASELINE, "pooling"),
        }
        base = row.compared_with
        if base in keys:
            pairs = list(zip(per_round(timed, row.key), per_round(timed, base), strict=True))
            entry["adds_ms"] = {"to": base, **quartiles([1000 * (own - other) for own, other in pairs])}
            entry["times"] = {"to": base, **log_ratio([own / other for own, other in pairs])}
        batches = [batch for one in staged for batch in one[row.key]]
        named = [stage for stage in batches[0] if stage != "total"]
        parts = {stage: statistics.median(1000 * batch[stage] for batch in batches) for stage in named}
        parts["rest"] = statistics.median(
            1000 * (batch["total"] - sum(batch[stage] for stage in named)) for batch in batches
        )
        entry["stages_ms"] = {stage: round(value, 4) for stage, value in parts.items()}
        found[row.key] = entry
    return found


def log_ratio(ratios: Sequence[float]) -> dict[str, float]:
    """Rounds, and mean and standard deviation of the logarithm of their ratios."""
    logs = [math.log(ratio) for ratio in ratios]
    return {
        "rounds": len(logs),
        "log_mean": round(statistics.fmean(logs), 6),
        "log_sd": round(statistics.stdev(logs), 6),
    }


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """`median`, `q1` and `q3`."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": round(middle, 4), "q1": round(low, 4), "q3": round(high, 4)}
