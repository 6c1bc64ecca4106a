"""Inference speed: the published table beside the timed files `speed/<device>.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reports.results.collect import Results
from reports.results.files import need
from reports.results.published import Published
from reports.results.sides import ABLATION, FIRST_VERSION, IOUNET, PAPER_STEP, POINTS, Side
from reports.results.source import Source
from reports.results.speeds import own_label, require_timed, timed_blocks
from reports.tables.cells import mean_cell, published_cell, published_row
from reports.tables.table import Cell, Row, Table, TableEntry, format_number

SIDES: dict[str, Side] = {key: side for key, _, side in ABLATION} | {"regular_nms": Side(IOUNET, "none")}
assert SIDES["refine"] == FIRST_VERSION
COMPARED_WITH = {"branch_off": "faster_rcnn", "nms": "branch_off", "regular_nms": "nms", "refine": "nms"}
COLUMNS = (
    *("FPS", "latency, ms", "quartiles, ms", "ratio", "quartiles", "ratio without RoI pooling", "adds, ms"),
    *("AP", "AP difference"),
)
KEY = "speed"


def speed_table(results: Results, published: Mapping[str, Published]) -> Table:
    """Frames per second, latency, and their ratio to Faster R-CNN, with the AP beside them.

    Raises:
        NotInSuite: nothing was timed.
        ReportError: a key of a speed file is missing.
    """
    source = published["reproduction"]
    labels = {key: row["label"] for key, row in source.table(KEY)["rows"].items()}
    require_timed(results)
    blocks = list(timed_blocks(results))
    rows = [published_row(source, KEY, key, _published_cells(source, key)) for key in labels]
    for timed, group, origin, timed_rows in blocks:
        for key, row in timed_rows.items():
            label = labels.get(key) or own_label(results, timed)
            rows.append(Row(group, label, _cells(results, timed, key, f"{origin}.rows.{key}", row), key=key))
    machines = "; ".join(dict.fromkeys(_machine(timed) for timed, *_ in blocks))
    caption = (
        f"One image at a time unless a row says otherwise, without reading images. *ratio*: to Faster R-CNN, and "
        "*ratio without RoI pooling*: the same with the pooling of the proposals, RoIAlign there and PrRoIPool here, "
        "taken out of both. *adds*: to the row before (of regular NMS and + Refine: to + IoU-guided NMS). Medians; "
        "our ratios and additions are of rounds in which every row saw the same images. Published on one RTX 2080 Ti; "
        f"here on {machines}: compare the ratios. AP is as in the ablation; refinement at "
        f"{results.suite.scale.step(PAPER_STEP)}."
    )
    reduced = {own_label(results, timed) for timed, *_ in blocks if timed["data"].get("reduced_precision")}
    if reduced:
        caption += (
            f" *{', '.join(sorted(reduced))}* is an addition of ours, not of the published table: the hidden layers of "
            "the IoU head in reduced precision, all else in float32. Its AP is of the timed seed alone, and "
            "*AP difference* what that is over + Refine of the same seed, both measured with the times."
        )
    if any(timed["device"] == "cpu" for timed, *_ in blocks):
        caption += (
            " On a CPU *ratio* flatters IoU-Net where the baseline's RoIAlign takes longer than PrRoIPool; the ratio "
            "without RoI pooling does not."
        )
    return Table(SPEED.key, SPEED.title, caption, COLUMNS, tuple(rows))


def _published_cells(source: Published, key: str) -> dict[str, Cell]:
    latency, ap = (published_cell(source, KEY, key, column) for column in ("latency_ms", "AP"))
    cells = {
        "FPS": published_cell(source, KEY, key, "fps"),
        "latency, ms": replace(latency, digits=2),
        "AP": replace(ap, value=POINTS * float(ap.value)),  # type: ignore[arg-type]
    }
    base = published_cell(source, KEY, "faster_rcnn", "latency_ms")
    sources = (*latency.sources, *base.sources)
    cells["ratio"] = Cell(float(latency.value) / float(base.value), digits=3, sources=sources)  # type: ignore[arg-type]
    if key in COMPARED_WITH:
        other = published_cell(source, KEY, COMPARED_WITH[key], "latency_ms")
        gain = float(latency.value) - float(other.value)  # type: ignore[arg-type]
        cells["adds, ms"] = Cell(
            round(gain, 6), kind="difference", digits=2, sources=(*latency.sources, *other.sources)
        )
    return cells


def _cells(
    results: Results, timed: Mapping[Any, Any], key: str, origin: str, row: Mapping[str, Any]
) -> dict[str, Cell]:
    path = results.root / timed["source"]

    def number(name: str, digits: int, **rest: Any) -> Cell:
        value = float(need(row, name, path))
        source = (Source.of_speed(timed, f"{origin}.{name}"),)
        return Cell(value, digits=digits, sources=source, seeds=1, stale=bool(timed["stale"]), **rest)

    def span(name: str, digits: int) -> Cell:
        low, high = (float(need(row, f"{name}.{quartile}", path)) for quartile in ("q1", "q3"))
        text = f"{format_number(low, digits)} to {format_number(high, digits)}"
        return Cell(text, kind="text", sources=(Source.of_speed(timed, f"{origin}.{name}"),))

    cells = {
        "FPS": number("fps", 1),
        "latency, ms": number("latency_ms.median", 2),
        "quartiles, ms": span("latency_ms", 2),
        "ratio": number("ratio.median", 3),
        "quartiles": span("ratio", 3),
        "ratio without RoI pooling": number("ratio_without_pooling.median", 3),
        **({"AP": mean_cell(results, SIDES[key], "AP")} if key in SIDES else _cost_of_precision(results, timed, key)),
    }
    if "adds_ms" in row:
        cells["adds, ms"] = number("adds_ms.median", 2, kind="difference")
    return cells


def _cost_of_precision(results: Results, timed: Mapping[Any, Any], key: str) -> dict[str, Cell]:
    """AP of the row in reduced precision, and what it is over the same seed's in float32."""
    path, place = results.root / timed["source"], "reduced_precision"

    def points(name: str, **rest: Any) -> Cell:
        value = need(timed["data"], f"{place}.{name}", path)
        source = (Source.of_speed(timed, f"{place}.{name}"),)
        value = None if value is None else POINTS * value
        return Cell(value, sources=source, seeds=1, stale=bool(timed["stale"]), **rest)

    return {
        "AP": points(f"metrics.{key}.AP"),
        "AP difference": points("AP_difference", kind="difference", digits=2),
    }


def _machine(timed: Mapping[Any, Any]) -> str:
    data = timed["data"]
    threads = f"{data['threads']} thread{'s' if data['threads'] != 1 else ''}"
    device = data["hardware"]["gpu"] if data["device"] == "cuda" else f"{data['hardware']['cpu']} ({threads})"
    return f"{device}, torch {data['versions']['torch']}"


SPEED = TableEntry(KEY, "Inference speed", lambda c: speed_table(c.results, c.published))
