"""Evaluates one checkpoint in every inference setting: `python -m experiments.evaluation.evaluate --variant V --seed K`.

Writes, per setting, `<setting>.json` (average precision) and `<setting>.matches.json.gz` (what a bootstrap resamples),
once `detections.json.gz`, for an IoU-Net `diagnostics.json` (what `experiments.evaluation.diagnostics` gathers), and last of all
`evaluation.json`: when it is there, the rest is whole.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.config import config_hash, default_setting, resolve_config, set_classes
from experiments.data.datasets import build_split, dataset_classes, dataset_fingerprint
from experiments.runtime import hardware, prepare_process
from experiments.tracking import stages as tracking
from suite import provenance
from suite.errors import SuiteError
from suite.files import folder_lock, sha256, write_json
from suite.settings import Setting
from suite.suite import Suite, load_suite


def evaluate(
    suite: Suite,
    variant: str,
    seed: int,
    split: str,
    *,
    checkpoint: Path,
    data_dir: Path,
    out: Path,
    threads: int = 1,
    changes: Mapping[str, Any] | None = None,
    settings: Sequence[Setting] | None = None,
    name: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Evaluates every inference setting of the variant and writes the files of the module's docstring into `out`.

    Args:
        suite: a checked suite.
        variant: one of its variants.
        seed: of the run.
        split: the images.
        checkpoint: of the run.
        data_dir: the suite's images.
        out: folder of the files.
        threads: of torch.
        changes: what the run's config differs in; see `experiments.suite.resolve_config`.
        settings: evaluate these in place of the variant's, without diagnostics.
        name: what the files call the variant, if not by its own name.

    Returns:
        Setting name to the contents of its JSON file.

    Raises:
        SuiteError: the checkpoint or the data is missing, damaged or of another model.
    """
    prepare_process(threads)
    with folder_lock(out):
        return _evaluate(suite, variant, seed, split, checkpoint, data_dir, out, changes, settings, name or variant)


def _evaluate(
    suite: Suite,
    variant: str,
    seed: int,
    split: str,
    checkpoint: Path,
    data_dir: Path,
    out: Path,
    changes: Mapping[str, Any] | None,
    settings: Sequence[Setting] | None,
    shown: str,
) -> dict[str, dict[str, Any]]:
    import torch

    from experiments.evaluation.diagnostics import Diagnostics
    from experiments.evaluation.inference import detect
    from experiments.evaluation.metrics import evaluate_detections
    from experiments.training.train import load_model

    cfg = resolve_config(suite, variant, changes)
    hashed = config_hash(cfg)
    classes = dataset_classes(data_dir)
    set_classes(cfg, classes)
    dataset = build_split(cfg, data_dir, split)
    model = load_model(cfg, checkpoint)
    _require_classes(checkpoint, [*model.CLASSES], classes)  # type: ignore[misc]
    model = model.cuda() if torch.cuda.is_available() else model
    own, diagnostics = default_setting(cfg), None
    if own.step_size is not None and settings is None:
        diagnostics = Diagnostics(
            dataset.coco, dataset.cat_ids, own, suite.inference.step_sizes.get(own.guide or "", ())
        )
    settings = suite.settings(variant) if settings is None else settings
    started = time.monotonic()
    detections = detect(
        model,
        dataset,
        settings,
        batch_size=suite.inference.batch_size,
        progress=f"{shown} seed {seed} on {split}",
        workers=cfg.data.workers_per_gpu,
        diagnostics=diagnostics,
    )
    seconds = time.monotonic() - started

    place = {"suite": suite.name, "variant": shown, "seed": seed, "split": split}
    origin = {
        "checkpoint_sha256": sha256(checkpoint),
        "config_hash": hashed,
        "git_commit": provenance.git_state()["git_commit"],
        "dataset_fingerprint": dataset_fingerprint(data_dir),
    }
    results = {}
    for setting in settings:
        found = detections[setting.name]
        evaluation = evaluate_detections(dataset.coco, found, dataset.img_ids)
        results[setting.name] = {
            **place,
            "setting": {
                "name": setting.name,
                "iou_branch": setting.guide is not None,
                "guide": setting.guide,
                "step_size": None if setting.step_size is None else setting.step_size.actual,
                "num_steps": setting.num_steps,
            },
            "metrics": evaluation.metrics,
            "per_class": evaluation.per_class,
            "images": len(dataset),
            "detections": len(found.score),
            **origin,
            "wandb_run_id": None,
            "seconds": round(seconds, 1),
        }
        write_json(out / f"{setting.name}.matches.json.gz", evaluation.matches)
        ap = evaluation.metrics["AP"]
        print(f"{setting.name:>18}: AP {'undefined' if ap is None else f'{100 * ap:.1f}'}", flush=True)
    write_json(
        out / "detections.json.gz",
        {
            "images": [int(i) for i in dataset.img_ids],
            "settings": {name: found.columns() for name, found in detections.items()},
        },
    )
    summary = None if diagnostics is None else {**place, **diagnostics.summary(), **origin}
    run_id = tracking.log_evaluation(
        suite,
        variant,
        seed,
        split,
        config=cfg._cfg_dict.to_dict(),
        origin=origin,
        machine={"versions": provenance.versions(), "hardware": hardware()},
        results=results,
        diagnostics=summary,
        detections=out / "detections.json.gz",
        annotations=Path(dataset.ann_file),
        images=Path(dataset.img_prefix),
        own=own.name,
        name=shown,
    )
    for name, result in results.items():
        result["wandb_run_id"] = run_id
        write_json(out / f"{name}.json", result)
    kept = [*results, "detections.json.gz"]
    if summary is not None:
        write_json(out / "diagnostics.json", {**summary, "wandb_run_id": run_id})
        kept.append("diagnostics")
    for path in out.glob("*.json*"):
        if path.name.removesuffix(".json").removesuffix(".matches.json.gz") not in kept:
            path.unlink()  # of a setting that the suite no longer has
    index = {name: result["metrics"]["AP"] for name, result in results.items()}
    write_json(out / "evaluation.json", {**origin, "wandb_run_id": run_id, "seconds": round(seconds, 1), "AP": index})
    return results


def _require_classes(checkpoint: Path, own: list[str], classes: list[str]) -> None:
    """A foreign checkpoint may have as many classes in another order: its detections would be called by wrong names."""
    if own != classes:
        shared = min(len(own), len(classes))
        at = next((i for i in range(shared) if own[i] != classes[i]), shared)
        names = [f"'{names[at]}'" if at < len(names) else "none" for names in (own, classes)]
        raise SuiteError(
            f"{checkpoint}: its class {at + 1} is {names[0]}, that of the data is {names[1]}: "
            "evaluate it on data with its own classes, in their order"
        )


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Evaluate one checkpoint on one split in every inference setting.")
    parser.add_argument("--suite", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--variant", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", help="default: the suite's report_split")
    parser.add_argument("--checkpoint", type=Path, help="default: the run's")
    parser.add_argument("--data-dir", type=Path, help="default: the suite's data folder")
    parser.add_argument("--out", type=Path, help="default: where the workflow puts it")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        suite = load_suite(options.suite)
        suite.variant(options.variant)
        root, split, seed = suite.layout.root, options.split or suite.report_split, f"seed{options.seed}"
        evaluate(
            suite,
            options.variant,
            options.seed,
            split,
            checkpoint=options.checkpoint or root / "runs" / options.variant / seed / "checkpoint.pth",
            data_dir=options.data_dir or root / "data",
            out=options.out or root / "evaluations" / options.variant / seed / split,
            threads=options.threads,
        )
    except SuiteError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
