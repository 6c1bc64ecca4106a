"""Evaluates one checkpoint in every inference setting: `python -m experiments evaluate --variant V --seed K`.

Writes the files of `experiments.evaluation.files` per setting, once `detections.json.gz`, and for an IoU-Net
`diagnostics.json` (what `experiments.evaluation.diagnostics` gathers).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.config import default_setting
from experiments.evaluation.diagnostics import Diagnostics
from experiments.evaluation.files import done_before, finish, origin_of, require_own, write_detections, write_metrics
from experiments.evaluation.inference import detect
from experiments.finished import Finished
from experiments.models import Opened, open_checkpoint
from experiments.runtime import prepare_process
from suite.errors import exits_on_error
from suite.files import folder_lock, write_json
from suite.kept import forget, publish
from suite.layout import DataFolder, EvaluationFolder
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
    require_own(out)
    prepare_process(threads)
    with folder_lock(out.path):
        opened = open_checkpoint(suite, variant, checkpoint, data, split, changes=changes)
        diagnostics = _diagnostics(suite, opened) if settings is None else None
        settings = suite.settings(variant) if settings is None else settings
        place = {"suite": suite.name, "variant": name or variant, "seed": seed, "split": split}
        origin = origin_of(checkpoint, opened.config_hash, data)
        described = {setting.name: {"setting": _described(setting)} for setting in settings}
        rest = [] if diagnostics is None else [out.diagnostics]
        done = done_before(out, described, {**place, **origin}, rest)
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
        facts = {**place, **origin, "seconds": round(time.monotonic() - started, 1)}
        results = {
            name: write_metrics(out, name, found, opened.dataset, {**facts, **described[name]})
            for name, found in detections.items()
        }
        write_detections(out, opened.dataset, detections)
        out.diagnostics.unlink(missing_ok=True)
        if diagnostics is not None:
            write_json(out.diagnostics, {**place, **diagnostics.summary(), **origin})
        finish(out, results, facts)
        return results


def _diagnostics(suite: Suite, opened: Opened) -> Diagnostics | None:
    """What follows the boxes of an IoU-Net; None for a detector that refines none."""
    own = default_setting(opened.cfg)
    if own.guide is None or own.step_size is None:
        return None
    step_sizes = suite.inference.step_sizes.get(own.guide, ())
    return Diagnostics(opened.dataset.coco, opened.dataset.cat_ids, own, step_sizes)


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
