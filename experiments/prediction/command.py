"""`python -m experiments predict --run DIR IMAGE … --out DIR`: detections of trainings on any images.

Writes a picture of each image, a panel per training, and a JSON per training: COCO's results format, with the file and
the class by name, the predicted IoU, and the box before refinement. `image_id` is the image's position on the command
line, `category_id` that of the class among the training's; both begin with 1.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from suite.errors import SuiteError, exits_on_error
from suite.files import write_json
from suite.images import read_image
from suite.layout import RunFolder


def predict(
    runs: Sequence[Path], images: Sequence[Path], out: Path, *, score: float = 0.3, device: str | None = None
) -> list[Path]:
    """Detects, draws and writes.

    Args:
        runs: folders of trainings; a single IoU-Net gets the baseline of the same seed beside it, if there is one.
        images: files.
        out: folder of what is written; files of the same names are replaced.
        score: detections below are not drawn; the JSONs have them all.
        device: None = the GPU if there is one.

    Returns:
        What was written.

    Raises:
        SuiteError: a training or an image is missing or damaged, or the trainings know different classes.
    """
    from experiments.prediction.detect import Predictor, baseline_beside
    from experiments.prediction.picture import draw, save

    for image in images:
        read_image(image)  # all of them, before anything is computed
    folders = [RunFolder(run) for run in runs]
    if len(folders) == 1 and (baseline := baseline_beside(folders[0])):
        folders.insert(0, baseline)
    predictors = {folder.name: Predictor(folder, device) for folder in folders}
    if len(predictors) < len(folders):
        raise SuiteError(f"--run: two trainings would both be called {', '.join(predictors)}: give them one by one")
    first = next(iter(predictors.values()))
    for name, predictor in predictors.items():
        if predictor.classes != first.classes:
            raise SuiteError(f"{name}: other classes than {folders[0].name}: they cannot be shown beside each other")
    results: dict[str, list[dict[str, object]]] = {name: [] for name in predictors}
    written = []
    for number, (image, name) in enumerate(zip(images, distinct(images), strict=True), 1):
        found = {run: predictor(image) for run, predictor in predictors.items()}
        for run, detections in found.items():
            results[run] += [one.as_coco(number, image.name) for one in detections]
        written.append(out / f"{name}.png")
        save(draw(read_image(image), list(found.items()), score), written[-1])
        counts = ", ".join(
            f"{run} {sum(one.score >= score for one in detections)}" for run, detections in found.items()
        )
        print(f"{written[-1]}: {counts}", flush=True)
    for run, rows in results.items():
        written.append(out / f"{run.replace(' ', '_')}.json")
        write_json(written[-1], rows)
        print(written[-1])
    return written


def distinct(images: Sequence[Path]) -> list[str]:
    """A name for each image's picture: the file's, with a number where several have the same."""
    seen: Counter[str] = Counter()
    names = []
    for image in images:
        seen[image.stem] += 1
        names.append(image.stem if seen[image.stem] == 1 else f"{image.stem}-{seen[image.stem]}")
    return names


@exits_on_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments predict",
        description="Detect on any images with trainings of a suite: pictures, and COCO's results as JSON.",
    )
    parser.add_argument(
        "--run",
        type=Path,
        required=True,
        action="append",
        help="a training's folder, results/<suite>/runs/<variant>/seed<k>; more than once for several side by side. "
        "A single IoU-Net gets the baseline of the same seed beside it",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of what is written")
    parser.add_argument("--score", type=float, default=0.3, help="draw detections from here on (default: %(default)s)")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: the GPU if there is one")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    options = parser.parse_args(arguments)
    from experiments.runtime import prepare_process

    prepare_process(len(os.sched_getaffinity(0)), options.device)
    predict(options.run, options.images, options.out, score=options.score, device=options.device)
    return 0
