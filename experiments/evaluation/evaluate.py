"""Evaluates one checkpoint in every inference setting: `python -m experiments evaluate --variant V --seed K`.

Writes, per setting, `<setting>.json` (average precision) and `<setting>.matches.json.gz` (what a bootstrap resamples),
once `detections.json.gz`, for an IoU-Net `diagnostics.json` (what `experiments.evaluation.diagnostics` gathers), and
last of all `evaluation.json`: when it is there, the rest is whole. A second link of it is kept (`suite.kept`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.config import default_setting
from experiments.data.datasets import dataset_fingerprint
from experiments.evaluation.diagnostics import Diagnostics
from experiments.evaluation.inference import detect
from experiments.evaluation.metrics import DetectionColumns, evaluate_detections
from experiments.finished import Finished
from experiments.models import Opened, open_checkpoint
from experiments.runtime import hardware, prepare_process
from suite import provenance
from suite.errors import SuiteError, exits_on_error
from suite.files import folder_lock, read_json, sha256, write_json
from suite.kept import forget, publish
from suite.layout import DataFolder, EvaluationFolder, is_partial, kept
from suite.settings import Setting
from suite.suite import Suite, load_suite


def evaluate(
    suite: Suite,
    variant: str,
    seed: int,
    split: str,
    *,
    checkpoint: Path,
    data: DataFolder,
    out: EvaluationFolder,
    threads: int = 1,
    changes: Mapping[str, Any] | None = None,
    settings: Sequence[Setting] | None = None,
    name: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Evaluates every inference setting of the variant and writes the files of the module's docstring into `out`.

    Args:
        suite: the suite.
        variant: one of its variants.
        seed: of the run.
        split: the images.
        checkpoint: of the run.
        data: the suite's images.
        out: folder of the files; an evaluation that is there is replaced, unless it is this very one.
        threads: of torch.
        changes: what the run's config differs in; see `experiments.config.resolve_config`.
        settings: evaluate these in place of the variant's, without diagnostics.
        name: what the files call the variant, if not by its own name.

    Returns:
        Setting name to the contents of its JSON file.

    Raises:
        SuiteError: the checkpoint or the data is missing, damaged or of another model; `out` holds other files.
    """
    if foreign := out.foreign():
        raise SuiteError(f"{out.path} holds '{foreign[0]}', which is no part of an evaluation: choose another --out")
    prepare_process(threads)
    with folder_lock(out.path):
        opened = open_checkpoint(suite, variant, checkpoint, data, split, changes=changes)
        diagnostics = _diagnostics(suite, opened) if settings is None else None
        settings = suite.settings(variant) if settings is None else settings
        place = {"suite": suite.name, "variant": name or variant, "seed": seed, "split": split}
        origin = {
            "checkpoint_sha256": sha256(checkpoint),
            "config_hash": opened.config_hash,
            "git_commit": provenance.git_state()["git_commit"],
            "dataset_fingerprint": dataset_fingerprint(data),
        }
        done = _done(out, settings, {**place, **origin}, has_diagnostics=diagnostics is not None)
        if done is not None:
            print(f"{out.path} is already evaluated: nothing to do", flush=True)
            publish(out.index)
            return done
        forget(out.index)  # they say that the rest is whole, which ends here
        started = time.monotonic()
        detections = detect(
            opened.model,
            opened.dataset,
            settings,
            batch_size=suite.inference.batch_size,
            progress=f"{name or variant} seed {seed} on {split}",
            workers=opened.cfg.data.workers_per_gpu,
            diagnostics=diagnostics,
        )
        seconds = round(time.monotonic() - started, 1)
        results = {
            setting.name: _write_setting(out, setting, detections[setting.name], opened, place, origin, seconds)
            for setting in settings
        }
        images = [int(image) for image in opened.dataset.img_ids]
        columns = {setting: found.columns() for setting, found in detections.items()}
        write_json(out.detections, {"images": images, "settings": columns})
        out.diagnostics.unlink(missing_ok=True)
        if diagnostics is not None:
            write_json(out.diagnostics, {**place, **diagnostics.summary(), **origin})
        _drop_others(out, results)
        machine = {"versions": provenance.versions(), "hardware": hardware()}
        ap = {setting: result["metrics"]["AP"] for setting, result in results.items()}
        write_json(kept(out.index), {**place, **origin, **machine, "seconds": seconds, "AP": ap})
        publish(out.index)
        return results


def _done(
    out: EvaluationFolder, settings: Sequence[Setting], expected: Mapping[str, Any], *, has_diagnostics: bool
) -> dict[str, dict[str, Any]] | None:
    """What a whole evaluation of this very checkpoint, by this very commit, found in these settings; None without one.

    Args:
        out: its folder.
        settings: that it is of.
        expected: what each of its files says of its origin.
        has_diagnostics: whether they belong to it.
    """
    try:
        index = read_json(kept(out.index))
        results = {setting.name: read_json(out.setting(setting.name)) for setting in settings}
    except (OSError, SuiteError):
        return None
    rest = [out.detections, *(out.matches(name) for name in results), *([out.diagnostics] if has_diagnostics else [])]
    is_whole = list(index.get("AP", {})) == list(results) and all(path.is_file() for path in rest)
    is_same = all(file.items() >= expected.items() for file in (index, *results.values()))
    are_same = all(results[setting.name]["setting"] == _described(setting) for setting in settings)
    return results if is_whole and is_same and are_same else None


def _diagnostics(suite: Suite, opened: Opened) -> Diagnostics | None:
    """What follows the boxes of an IoU-Net; None for a detector that refines none."""
    own = default_setting(opened.cfg)
    if own.guide is None or own.step_size is None:
        return None
    step_sizes = suite.inference.step_sizes.get(own.guide, ())
    return Diagnostics(opened.dataset.coco, opened.dataset.cat_ids, own, step_sizes)


def _write_setting(
    out: EvaluationFolder,
    setting: Setting,
    found: DetectionColumns,
    opened: Opened,
    place: Mapping[str, Any],
    origin: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """Matches the detections of a setting and writes its two files; returns the contents of the first."""
    dataset = opened.dataset
    evaluation = evaluate_detections(dataset.coco, found, dataset.img_ids)
    result = {
        **place,
        "setting": _described(setting),
        "metrics": evaluation.metrics,
        "per_class": evaluation.per_class,
        "images": len(dataset),
        "detections": len(found.score),
        **origin,
        "seconds": seconds,
    }
    write_json(out.matches(setting.name), evaluation.matches)
    write_json(out.setting(setting.name), result)
    ap = evaluation.metrics["AP"]
    print(f"{setting.name:>18}: AP {'undefined' if ap is None else f'{100 * ap:.1f}'}", flush=True)
    return result


def _described(setting: Setting) -> dict[str, Any]:
    """A setting as its file says it."""
    return {
        "name": setting.name,
        "iou_branch": setting.guide is not None,
        "guide": setting.guide,
        "step_size": None if setting.step_size is None else setting.step_size.actual,
        "num_steps": setting.num_steps,
        "part": setting.part,
    }


def _drop_others(out: EvaluationFolder, settings: Mapping[str, Any]) -> None:
    """Drops the files of settings that the suite no longer has, and what a kill left half written."""
    for path in out.path.iterdir():
        of = out.setting_of(path)
        if (of is not None and of not in settings) or is_partial(path):
            path.unlink()


@exits_on_error
def main(arguments: Sequence[str] | None = None) -> Finished:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments evaluate",
        description="Evaluate one checkpoint on one split in every inference setting.",
    )
    parser.add_argument("--suite", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--variant", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", help="default: the suite's report_split")
    parser.add_argument("--checkpoint", type=Path, help="default: the run's")
    parser.add_argument("--data-dir", type=Path, help="default: the suite's data folder")
    parser.add_argument("--out", type=Path, help="default: where the workflow puts it")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    options = parser.parse_args(arguments)
    suite = load_suite(options.suite)
    suite.variant(options.variant)
    split, layout = options.split or suite.report_split, suite.layout
    out = layout.evaluation(options.variant, options.seed, split)
    out = EvaluationFolder(options.out) if options.out else out
    evaluate(
        suite,
        options.variant,
        options.seed,
        split,
        checkpoint=options.checkpoint or layout.run(options.variant, options.seed).checkpoint,
        data=DataFolder(options.data_dir) if options.data_dir else layout.data,
        out=out,
        threads=options.threads,
    )
    return Finished(suite, out.path)
