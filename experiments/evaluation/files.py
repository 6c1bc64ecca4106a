"""The files of an evaluation: what `experiments evaluate` writes of settings, and `experiments treat` of treatments.

Per way of detecting `<name>.json` (average precision) and `<name>.matches.json.gz` (what a bootstrap resamples), and
last of all `evaluation.json`: when it is there, the rest is whole. A second link of it is kept (`suite.kept`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.data.datasets import dataset_fingerprint
from experiments.evaluation.metrics import DetectionColumns, evaluate_detections
from experiments.runtime import hardware
from suite import provenance
from suite.errors import SuiteError
from suite.files import read_json, sha256, write_json
from suite.kept import publish
from suite.layout import DataFolder, EvaluationFolder, is_partial, kept


def require_own(out: EvaluationFolder) -> None:
    """Refuses a folder that holds anything but an evaluation. Raises `SuiteError`."""
    if foreign := out.foreign():
        raise SuiteError(f"{out.path} holds '{foreign[0]}', which is no part of an evaluation: choose another --out")


def origin_of(checkpoint: Path, config_hash: str, data: DataFolder) -> dict[str, Any]:
    """What each file of an evaluation says of what it was made from. Raises `SuiteError` without data."""
    return {
        "checkpoint_sha256": sha256(checkpoint),
        "config_hash": config_hash,
        "git_commit": provenance.git_state()["git_commit"],
        "dataset_fingerprint": dataset_fingerprint(data),
    }


def done_before(
    out: EvaluationFolder,
    described: Mapping[str, Mapping[str, Any]],
    expected: Mapping[str, Any],
    rest: Iterable[Path] = (),
) -> dict[str, dict[str, Any]] | None:
    """What a whole evaluation of this very origin found; None without one.

    Args:
        out: its folder.
        described: name of each way of detecting to how its file describes it.
        expected: what each of its files says of its origin.
        rest: what else belongs to it.
    """
    try:
        index = read_json(kept(out.index))
        results = {name: read_json(out.setting(name)) for name in described}
    except (OSError, SuiteError):
        return None
    files = [*rest, out.detections, *(out.matches(name) for name in results)]
    is_whole = list(index.get("AP", {})) == list(results) and all(path.is_file() for path in files)
    is_same = all(file.items() >= expected.items() for file in (index, *results.values()))
    are_same = all(results[name].items() >= own.items() for name, own in described.items())
    return results if is_whole and is_same and are_same else None


def write_metrics(
    out: EvaluationFolder, name: str, found: DetectionColumns, dataset: Any, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Matches detections with ground truth and writes the two files on them.

    Args:
        out: the folder.
        name: of the files.
        found: the detections.
        dataset: mmdet's data set of the images.
        facts: what the file says beside the metrics: where it belongs, and what it was made from.

    Returns:
        The contents of the first file.
    """
    evaluation = evaluate_detections(dataset.coco, found, dataset.img_ids)
    result = {
        **facts,
        "metrics": evaluation.metrics,
        "per_class": evaluation.per_class,
        "images": len(dataset),
        "detections": len(found.score),
    }
    write_json(out.matches(name), evaluation.matches)
    write_json(out.setting(name), result)
    ap = evaluation.metrics["AP"]
    print(f"{name:>18}: AP {'undefined' if ap is None else f'{100 * ap:.1f}'}", flush=True)
    return result


def write_detections(out: EvaluationFolder, dataset: Any, found: Mapping[str, DetectionColumns]) -> None:
    """Writes the boxes of each way of detecting, for pictures."""
    columns = {name: own.columns() for name, own in found.items()}
    write_json(out.detections, {"images": [int(image) for image in dataset.img_ids], "settings": columns})


def finish(out: EvaluationFolder, results: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
    """Drops the files of what was not evaluated this time, or was half written, and writes the index, last of all."""
    for path in out.path.iterdir():
        of = out.setting_of(path)
        if (of is not None and of not in results) or is_partial(path):
            path.unlink()
    machine = {"versions": provenance.versions(), "hardware": hardware()}
    ap = {name: result["metrics"]["AP"] for name, result in results.items()}
    write_json(kept(out.index), {**facts, **machine, "AP": ap})
    publish(out.index)
