"""The annotations of the reported split: what is in them beside the evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports.results.collect import Results
from reports.results.files import need, read_json
from suite.errors import NotInSuite


def read_annotations(results: Results) -> Mapping[str, Any]:
    """COCO's JSON of the reported split.

    Raises:
        NotInSuite: it is not among the results.
        ReportError: it is damaged.
    """
    path = results.layout.data.annotations(results.suite.report_split)
    if not path.exists():
        raise NotInSuite(f"the annotations of split '{results.suite.report_split}' are not among the results")
    data = read_json(path)
    return {key: need(data, key, path) for key in ("images", "annotations", "categories")}


def image_files(results: Results, annotations: Mapping[str, Any]) -> dict[int, Path]:
    """Id to file of every image that these annotations of the reported split have."""
    folder = results.layout.data.images(results.suite.report_split)
    return {entry["id"]: folder / entry["file_name"] for entry in annotations["images"]}


def category_names(results: Results) -> dict[int, str]:
    """Id to name of every class, as `read_annotations` has them, and with its errors."""
    return {entry["id"]: entry["name"] for entry in read_annotations(results)["categories"]}
