"""Times the inference of a suite's first seed: `python -m experiments.speed.timing`.

Faster R-CNN and an IoU-Net under its inference settings, interleaved image by image in one process, so that whatever
slows the machine down slows all of them: only the ratios compare between machines. What is timed is the detector's own
`simple_test`, without reading images. Before anything is timed its detections are compared with the evaluation's.

To the published rows comes one of our own, the last of them with the IoU head's hidden layers in reduced precision. No
evaluation runs in that, so what it costs in AP is measured here: on the whole reported split, of the timed checkpoint.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from experiments.config import config_hash, default_setting, resolve_config, set_classes
from experiments.data.datasets import build_split, dataset_classes, dataset_fingerprint
from experiments.runtime import hardware, prepare_process
from experiments.tracking import stages as tracking
from suite import provenance
from suite.errors import SuiteError
from suite.files import sha256, write_json
from suite.settings import Setting
from suite.suite import Suite, load_suite

BASELINE, IOUNET = "faster_rcnn", "samp1000_lw5.0"
VARIANTS = (BASELINE, IOUNET)
# What a row adds to, or is exchanged for, in the published table.
REFINED = "refine"
COMPARED_WITH = {"branch_off": "faster_rcnn", "nms": "branch_off", "regular_nms": "nms", REFINED: "nms"}
TOLERANCE = 1e-3  # pixels, and score: of what is timed against what is evaluated


@dataclass(frozen=True)
class Row:
    """One row of the table: a variant under an inference setting.

    Attributes:
        fc_dtype: what the IoU head's hidden layers are computed in; None = what the config says.
    """

    key: str
    variant: str
    setting: Setting
    fc_dtype: str | None = None

    @property
    def compared_with(self) -> str | None:
        """Key of the row that this one adds to, or is exchanged for."""
        return REFINED if self.fc_dtype else COMPARED_WITH.get(self.key)


def speed_rows(suite: Suite) -> list[Row]:
    """The rows of the published table that the suite trains and evaluates, and `refine` again in `speed.fc_dtype`.

    None without the two variants.
    """
    if not set(VARIANTS) <= set(suite.variants):
        return []
    step_size, num_steps = default_setting(resolve_config(suite, IOUNET)).step_size, suite.inference.num_steps
    refined, fc_dtype = Setting("rank", step_size, num_steps), suite.speed.fc_dtype
    rows = [
        Row("faster_rcnn", BASELINE, Setting()),
        Row("branch_off", IOUNET, Setting()),
        Row("nms", IOUNET, Setting("rank")),
        Row("regular_nms", IOUNET, Setting("none")),
        Row(REFINED, IOUNET, refined),
        Row(f"{REFINED}_{fc_dtype}", IOUNET, refined, fc_dtype),
    ]
    evaluated = {setting.name for setting in suite.settings(IOUNET)}
    return [row for row in rows if row.setting.name in evaluated]


class Detector:
    """A trained detector under one inference setting, called as `mmdet`'s own testing calls it."""

    def __init__(self, model: Any, setting: Setting, fc_dtype: str | None = None) -> None:
        from experiments.evaluation.inference import test_cfg_of

        self.model, self.test_cfg = model, test_cfg_of(model.roi_head.test_cfg, setting, fc_dtype)

    def __call__(self, images: Any, metas: list[dict[str, Any]]) -> list[list[Any]]:
        """Per image and class `ndarray[M, 5]` of (x1, y1, x2, y2, score)."""
        with self.active():
            return self.model.simple_test(images, metas, rescale=True)

    @contextmanager
    def active(self) -> Iterator[None]:
        """The model's RoI head has this setting's test_cfg inside the block: settings share the weights."""
        own, self.model.roi_head.test_cfg = self.model.roi_head.test_cfg, self.test_cfg
        try:
            yield
        finally:
            self.model.roi_head.test_cfg = own


def benchmark(suite: Suite, *, device: str, checkpoints: dict[str, Path], data_dir: Path, out: Path) -> dict[str, Any]:
    """Times every row of `speed_rows` at batch size 1 and at the suite's, and writes a JSON file.

    Args:
        suite: its block `speed` says how much is timed.
        device: 'cpu' or 'cuda'.
        checkpoints: of each of `VARIANTS`.
        data_dir: the suite's data.
        out: the file.

    Returns:
        The file's contents.

    Raises:
        SuiteError: the suite lacks a variant, a checkpoint or the data is missing or damaged, or the device cannot
            compute in the suite's `speed.fc_dtype`.
        RuntimeError: what would be timed does not detect what the evaluation detects.
    """
    import torch

    from experiments.training.train import load_model

    rows, speed = speed_rows(suite), suite.speed
    if not rows:
        raise SuiteError(f"suite '{suite.name}' cannot be timed: it lacks one of {', '.join(VARIANTS)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise SuiteError("speed.device is 'cuda', but torch sees no GPU here: choose 'cpu'")
    prepare_process(speed.threads)
    synchronize = torch.cuda.synchronize if device == "cuda" else _nothing
    configs = {variant: resolve_config(suite, variant) for variant in VARIANTS}
    for cfg in configs.values():
        set_classes(cfg, dataset_classes(data_dir))
    models = {variant: load_model(configs[variant], checkpoints[variant]).to(device) for variant in VARIANTS}
    detectors = {row.key: Detector(models[row.variant], row.setting, row.fc_dtype) for row in rows}
    head: Any = models[IOUNET].roi_head
    try:
        head.iou_head.cast(speed.fc_dtype)
    except ValueError as error:
        raise SuiteError(f"speed.fc_dtype cannot be timed: {error}") from None
    split = suite.report_split
    dataset = build_split(configs[IOUNET], data_dir, split)
    batch_sizes = sorted({1, min(suite.inference.batch_size, len(dataset))})

    blocks = []
    with torch.no_grad():
        for batch_size in batch_sizes:
            # large batches: as many rounds of one batch as take about as long
            images = speed.images if batch_size == 1 else batch_size
            rounds = speed.rounds if batch_size == 1 else max(3, speed.rounds // 4)
            enough = rounds * images // batch_size
            full = (batch for batch in _batches(dataset, batch_size, device) if len(batch[1]) == batch_size)
            batches = list(islice(full, enough))
            check_images = min(len(dataset), max(images, batch_size))
            largest = _check(rows, detectors, build_split(configs[IOUNET], data_dir, split, check_images), batch_size)
            timed = _time(detectors, batches, rounds, images // batch_size, synchronize)
            staged = _time(detectors, batches, max(3, rounds // 4), images // batch_size, synchronize, stages=True)
            blocks.append(
                {
                    "batch_size": batch_size,
                    "rounds": rounds,
                    "images_per_round": images,
                    "checked": {"images": check_images, "largest_difference": largest},
                    "rows": _summary(rows, timed, staged, batch_size),
                }
            )
            _tell(blocks[-1])
    cost = _cost_of_precision(rows, detectors, dataset, batch_sizes[-1], configs[IOUNET].data.workers_per_gpu)
    result = {
        "suite": suite.name,
        "device": device,
        "split": split,
        "seed": suite.seeds[0],
        "threads": speed.threads,
        "blocks": blocks,
        "reduced_precision": cost,
        "checkpoints": {
            variant: {"sha256": sha256(checkpoints[variant]), "config_hash": config_hash(configs[variant])}
            for variant in VARIANTS
        },
        "dataset_fingerprint": dataset_fingerprint(data_dir),
        **provenance.git_state(),
        "versions": provenance.versions(),
        "hardware": hardware(),
    }
    result["wandb_run_id"] = tracking.log_speed(suite, result)
    write_json(out, result)
    return result


def _nothing() -> None:
    """A CPU has nothing to wait for."""


def _batches(dataset: Any, batch_size: int, device: str) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """(images, metas), the images on the device."""
    from mmdet.datasets import build_dataloader

    for batch in build_dataloader(dataset, batch_size, 0, dist=False, shuffle=False):
        yield batch["img"][0].data[0].to(device), batch["img_metas"][0].data[0]


def _check(rows: list[Row], detectors: dict[str, Detector], dataset: Any, batch_size: int) -> float:
    """Compares every row's detections with those that are evaluated; doubles as the warm-up.

    Returns:
        The largest difference of a coordinate (pixels) or a score.
    """
    import numpy as np

    from experiments.evaluation.inference import detect

    largest = 0.0
    device = str(next(detectors[rows[0].key].model.parameters()).device)
    for row in rows:
        detector = detectors[row.key]
        with detector.active():
            evaluated = detect(detector.model, dataset, [row.setting], batch_size=batch_size)[row.setting.name]
        found = zip(evaluated.image_id, evaluated.category_id, evaluated.bbox, evaluated.score, strict=True)
        expected = [(i, c, b[0], b[1], b[0] + b[2], b[1] + b[3], score) for i, c, b, score in found]
        own: list[tuple[float, ...]] = []
        ids = iter(dataset.img_ids)
        for images, metas in _batches(dataset, batch_size, device):
            for by_class in detector(images, metas):
                image = next(ids)
                own += [(image, dataset.cat_ids[c], *box) for c, boxes in enumerate(by_class) for box in boxes.tolist()]
        same = [line[:2] for line in sorted(own)] == [line[:2] for line in sorted(expected)]
        difference = float(np.abs(np.subtract(sorted(own), sorted(expected))).max(initial=0)) if same else np.inf
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"row '{row.key}': simple_test gives {len(own)} detections on {len(dataset)} images, the evaluation "
                f"{len(expected)}; largest difference {difference:g}, allowed {TOLERANCE:g}: nothing is timed"
            )
        largest = max(largest, difference)
    return largest


def _cost_of_precision(
    rows: list[Row], detectors: dict[str, Detector], dataset: Any, batch_size: int, workers: int
) -> dict[str, Any] | None:
    """The metrics of the row in reduced precision and of the one that it is compared with; None without such a row."""
    from experiments.evaluation.inference import detect
    from experiments.evaluation.metrics import evaluate_detections

    reduced = next((row for row in rows if row.fc_dtype), None)
    if reduced is None:
        return None
    metrics = {}
    for key in (REFINED, reduced.key):
        model = detectors[key].model
        with detectors[key].active():
            found = detect(
                model, dataset, [reduced.setting], batch_size=batch_size, progress=f"AP of {key}", workers=workers
            )
        metrics[key] = evaluate_detections(dataset.coco, found[reduced.setting.name], dataset.img_ids).metrics
    full, own = metrics[REFINED]["AP"], metrics[reduced.key]["AP"]
    difference = None if full is None or own is None else own - full
    print(f"{reduced.key}: AP {own}, {difference} more than {REFINED}", flush=True)
    return {
        "row": reduced.key,
        "fc_dtype": reduced.fc_dtype,
        "compared_with": REFINED,
        "images": len(dataset),
        "metrics": metrics,
        "AP_difference": difference,
    }


# Seconds of each round: by row, and within it by stage ('total' is all of simple_test), one value per batch.
Rounds = list[dict[str, list[dict[str, float]]]]


def _time(
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
    for number in range(rounds * batches_per_round):
        if number % batches_per_round == 0:
            timed.append({key: [] for key in keys})
        images, metas = batches[number % len(batches)]
        first = number % len(keys)
        for key in keys[first:] + keys[:first]:
            detector, spent = detectors[key], dict[str, float]()
            with ExitStack() as stack:
                if stages:
                    for owner, method, stage in _stages(detector.model):
                        stack.enter_context(_stopwatch(owner, method, stage, spent, synchronize))
                synchronize()
                started = time.perf_counter()
                detector(images, metas)
                synchronize()
                spent["total"] = time.perf_counter() - started
            timed[-1][key].append(spent)
    return timed


def _stages(model: Any) -> list[tuple[Any, str, str]]:
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


def _summary(rows: list[Row], timed: Rounds, staged: Rounds, batch_size: int) -> dict[str, Any]:
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

    summary = {}
    for row in rows:
        latency = quartiles([1000 * batch["total"] for one in timed for batch in one[row.key]])
        entry: dict[str, Any] = {
            "variant": row.variant,
            "setting": row.setting.name,
            "fps": round(1000 * batch_size / latency["median"], 3),
            "latency_ms": latency,
            "ratio": ratios(timed, row.key, "faster_rcnn"),
            "ratio_without_pooling": ratios(staged, row.key, "faster_rcnn", "pooling"),
        }
        base = row.compared_with
        if base in keys:
            pairs = zip(per_round(timed, row.key), per_round(timed, base), strict=True)
            entry["adds_ms"] = {"to": base, **quartiles([1000 * (own - other) for own, other in pairs])}
        batches = [batch for one in staged for batch in one[row.key]]
        named = [stage for stage in batches[0] if stage != "total"]
        parts = {stage: statistics.median(1000 * batch[stage] for batch in batches) for stage in named}
        parts["rest"] = statistics.median(
            1000 * (batch["total"] - sum(batch[stage] for stage in named)) for batch in batches
        )
        entry["stages_ms"] = {stage: round(value, 4) for stage, value in parts.items()}
        summary[row.key] = entry
    return summary


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """`median`, `q1` and `q3`."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": round(middle, 4), "q1": round(low, 4), "q3": round(high, 4)}


def _tell(block: dict[str, Any]) -> None:
    print(f"batch size {block['batch_size']}, {block['rounds']} rounds of {block['images_per_round']} images")
    for key, row in block["rows"].items():
        parts = ", ".join(f"{stage} {value:.2f}" for stage, value in row["stages_ms"].items())
        print(
            f"{key:>16}: {row['latency_ms']['median']:8.2f} ms, {row['fps']:7.2f} images/s, "
            f"ratio {row['ratio']['median']:.3f} (without RoI pooling {row['ratio_without_pooling']['median']:.3f}); "
            f"{parts}",
            flush=True,
        )


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Time the inference of a suite's first seed.")
    parser.add_argument("--suite", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: the suite's speed.device")
    parser.add_argument("--out", type=Path, help="default: where the workflow puts it")
    options = parser.parse_args(arguments)
    try:
        suite = load_suite(options.suite)
        root, device = suite.layout.root, options.device or suite.speed.device
        benchmark(
            suite,
            device=device,
            checkpoints={v: root / "runs" / v / f"seed{suite.seeds[0]}" / "checkpoint.pth" for v in VARIANTS},
            data_dir=root / "data",
            out=options.out or root / "speed" / f"{device}.json",
        )
    except SuiteError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
