"""The data behind the figures, as tidy frames: pure computation, no drawing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from reports.errors import MissingResult
from reports.results.collect import Results
from reports.results.files import need, read_json
from reports.results.matches import average_precision, whole
from reports.results.published import Published
from reports.results.sides import ABLATION, BASELINE, POINTS, THIS_RUN
from reports.statistics import mean_interval, paired_differences
from reports.tables.cells import IMPROVEMENT
from reports.tables.table import Table
from suite.errors import NotInSuite

LOSS_POINTS = 30  # points a loss curve is averaged down to


def loss_curves(results: Results) -> pd.DataFrame:
    """Training losses of every run: `variant, seed, series, step, value`.

    Series: `detection`, the loss without the IoU branch's share, so that variants compare; `IoU branch`, that share;
    and, where it was logged, `IoU error`, the mean absolute error of the predicted IoU. Each curve is averaged over
    equal stretches of the training.

    Raises:
        NotInSuite: the histories record no loss.
    """
    frame = results.histories
    if "loss" not in frame:
        raise NotInSuite("the histories record no 'loss'")
    missing = pd.Series(np.nan, index=frame.index)
    branch = frame.get("loss_iou", missing)
    series = {
        "detection": frame["loss"] - branch.fillna(0.0),
        "IoU branch": branch,
        "IoU error": frame.get("iou_error", missing),
    }
    tidy = frame[["variant", "seed", "step"]].assign(**series)[frame["loss"].notna()]
    steps = max(1, int(tidy["step"].max()))
    tidy = tidy.assign(bin=((tidy["step"] - 1).clip(lower=0) * LOSS_POINTS // steps).clip(upper=LOSS_POINTS - 1))
    means = tidy.groupby(["variant", "seed", "bin"], sort=False).mean().reset_index()
    long = means.melt(["variant", "seed", "step"], list(series), "series", "value")
    return long.dropna(subset="value").reset_index(drop=True)


def validation_curves(results: Results, metrics: tuple[str, ...] = ("AP", "AP90")) -> pd.DataFrame:
    """AP by epoch, as evaluated during training: `variant, seed, metric, epoch, value` in points.

    Raises:
        NotInSuite: the histories record none of the metrics.
    """
    frame = results.histories
    columns = {metric: f"val/{metric}" for metric in metrics if f"val/{metric}" in frame}
    if not columns:
        raise NotInSuite("the histories record no validation AP")
    long = pd.concat(
        frame[["variant", "seed", "epoch"]].assign(metric=metric, value=POINTS * frame[column])
        for metric, column in columns.items()
    )
    return long.dropna(subset="value").reset_index(drop=True)


def threshold_curves(results: Results) -> pd.DataFrame:
    """AP by IoU threshold for the steps of the ablation.

    Columns `step, label, threshold, AP, half_width, difference, difference_half_width`: means over seeds in points and
    half of their 95 % intervals; differences are paired with Faster R-CNN.
    """
    by_step: dict[str, dict[int, np.ndarray]] = {}
    thresholds: tuple[float, ...] = ()
    for key, _, side in ABLATION:
        setting = side.setting(results)
        by_step[key] = {}
        for seed in results.suite.seeds:
            matches = results.matches(side.variant, seed, setting)
            by_step[key][seed] = POINTS * average_precision(matches, whole(matches))[0]
            thresholds = matches.iou_thresholds
    records = []
    for key, label, side in ABLATION:
        for index, threshold in enumerate(thresholds):
            values = {seed: float(ap[index]) for seed, ap in by_step[key].items()}
            base = {seed: float(ap[index]) for seed, ap in by_step["faster_rcnn"].items()}
            mean = mean_interval(list(values.values()))
            gain = mean_interval(paired_differences(values, base))
            records.append(
                {
                    "step": key,
                    "label": label,
                    "threshold": threshold,
                    "AP": mean.mean,
                    "half_width": mean.half_width,
                    "difference": gain.mean if side != BASELINE else 0.0,
                    "difference_half_width": gain.half_width if side != BASELINE else None,
                }
            )
    return pd.DataFrame(records)


def improvement_by_threshold(main: Table, published: Mapping[str, Published]) -> pd.DataFrame:
    """The improvement rows of the main table: `source, metric, value, half_width`."""
    groups = [*(source.name for source in published.values()), THIS_RUN]
    rows = {row.group: row for row in main.rows if row.key == IMPROVEMENT}
    return pd.DataFrame(
        {"source": group, "metric": metric, "value": cell.value, "half_width": cell.half_width}
        for group in groups
        for metric, cell in rows[group].cells.items()
    )


def step_size_curves(table: Table) -> pd.DataFrame:
    """AP by λ: `source, variant, step_size, AP, half_width, best`; `best` marks each curve's optimum."""
    frame = pd.DataFrame(
        {
            "source": row.group,
            "variant": row.key,
            "step_size": float(step),
            "AP": row.cells[step].value,
            "half_width": row.cells[step].half_width,
        }
        for row in table.rows
        for step in table.columns
        if step in row.cells
    )
    best = frame.groupby(["source", "variant"])["AP"].transform("max")
    return frame.assign(best=frame["AP"] == best)


def median_box_side(results: Results) -> float | None:
    """Median side √(w·h) of the report split's boxes in the network's pixels; None where only the image's are known."""
    if not results.is_generated:
        return None
    path = results.layout.data.annotations(results.suite.report_split)
    try:
        annotations = need(read_json(path), "annotations", path)
    except MissingResult:
        return None
    areas = [entry["bbox"][2] * entry["bbox"][3] for entry in annotations if not entry.get("iscrowd")]
    return float(np.sqrt(np.median(areas))) if areas else None
