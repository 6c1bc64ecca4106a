"""What `snakemake pooling` measures, made up beside the results of `synthetic.make_results`: round numbers.

RoIAlign detects what PrRoIPool does, but for 1 × 1 samples: its settings are those of another guide, which are worse.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from tests.reports.synthetic import FINGERPRINT, sha, write_json

VARIANT = "samp1000_lw5.0"
SAMPLES = {"align0": 0, "align1": 1, "align2": 2, "align4": 4, "align8": 8}
ROWS = ("0 to 0.5", "0.5 to 1", "1 to 2", "2 to 4", "over 4", "border", "own")
COUNTS = (100, 200, 300, 40, 0, 50, 400)
SETTINGS = ("off", "rank", "rank_refine0.25", "rank_refine1")
WORSE = {"off": "none", "rank": "none", "rank_refine0.25": "none_refine0.25", "rank_refine1": "none_refine1"}


def error_of(samples: int, row: int, seed: int) -> float | None:
    """A hundredth at 2 × 2 samples, a quarter with twice as many; more by row and by seed; alike at the border."""
    if not COUNTS[row]:
        return None
    if ROWS[row] == "border":
        return 0.2
    return 0.04 / (samples or 2) ** 2 * (1 + row) / 7 * (1 + 0.01 * seed)


def make_measured(seeds: tuple[int, ...] = (0, 1, 2)) -> dict[str, Any]:
    """The file of `python -m experiments pooling`."""
    rows = range(len(ROWS))

    def errors(samples: int, seed: int, factor: float = 1.0) -> list[float | None]:
        own = [error_of(samples, row, seed) for row in rows]
        return [None if error is None else factor * error for error in own]

    def compared(samples: int, seed: int) -> dict[str, list[float | None]]:
        found = errors(samples, seed, 10)
        return {
            "cosine": [None if e is None else 1 - e / 10 for e in found],
            "low_cosine": [None if e is None else 1 - e / 2 for e in found],
            "norm": [None if e is None else 1.0 for e in found],
            "error": found,
        }

    def quartiles(value: float) -> dict[str, float]:
        return {"median": value, "q1": 0.9 * value, "q3": 1.1 * value}

    def timed(times: dict[str, float]) -> dict[str, Any]:
        found = {key: {"ms": quartiles(20 * own), "ratio": quartiles(own)} for key, own in times.items()}
        if "prroi_plain" in times:
            for key, own in times.items():
                found[key]["ratio_to_plain"] = quartiles(own / times["prroi_plain"])
        return found

    shifts = [round(-4 + 0.02 * step, 2) for step in range(401)]
    paths: dict[str, dict[str, list[float]]] = {"value": {}, "derivative": {}}
    for pooling in ("prroi", *SAMPLES):
        steps = [shift if pooling == "prroi" else float(shift // 1) for shift in shifts]
        paths["derivative"][pooling] = steps
        paths["value"][pooling] = [step * step / 2 for step in steps]
    checkpoints = {
        str(seed): {"sha256": sha("checkpoint", VARIANT, seed), "config_hash": sha("whole config", VARIANT)}
        for seed in seeds
    }
    conventions = {"aligned_false": 1e-15, "plain_torch": 2e-15, "unmoved": 0.15}
    poolings = ("prroi", *SAMPLES)
    return {
        "suite": "shapes",
        "variant": VARIANT,
        "split": "val",
        "seeds": list(seeds),
        "settings": list(SETTINGS),
        "exact": "prroi",
        "samples": SAMPLES,
        "checkpoints": checkpoints,
        "dataset_fingerprint": FINGERPRINT,
        "git_commit": "c0ffee" + "0" * 34,
        "versions": {"torch": "2.11.0", "torchvision": "0.26.0"},
        "hardware": {"cpu": "Test CPU", "cores": 2, "threads": 1, "gpu": None},
        "threads": 1,
        "measured": {
            "images": 16,
            "factors": [0.5, 2.0],
            "rows": list(ROWS),
            "low": 0.05,
            "shift": 0.001,
            "jump": 0.01,
            "convention_samples": 2,
        },
        "existing": {
            "torchvision.ops.roi_align": False,
            "mmcv.ops.roi_align": False,
            "sampled in plain torch": True,
            "iounet.ops.prroi_pool": True,
        },
        "values": [
            {
                "rois": list(COUNTS),
                "error": {
                    "prroi": [None if not count else 1e-7 for count in COUNTS],
                    **{pooling: errors(samples, seed) for pooling, samples in SAMPLES.items()},
                },
                "conventions": conventions,
            }
            for seed in seeds
        ],
        "gradients": [
            {
                "rois": list(COUNTS),
                "against_exact": {pooling: compared(samples, seed) for pooling, samples in SAMPLES.items()},
            }
            for seed in seeds
        ],
        "jumps": [
            {
                "places": 1000,
                "share": {pooling: 0.0 if pooling == "prroi" else 0.02 for pooling in poolings},
                "size": {pooling: None if pooling == "prroi" else 0.3 for pooling in poolings},
                "change": dict.fromkeys(poolings, 1e-4),
            }
            for _ in seeds
        ],
        "scan": {"roi": [10.0, 20.0, 40.0, 50.0], "stride": 4.0, "shift": shifts, **paths},
        "times": {
            "rois": 500,
            "device": "cpu",
            "rounds": 20,
            "timed": {
                "forward": timed({"prroi": 1, "align0": 2, "align1": 0.5, "align2": 1.5, "align4": 5, "align8": 18}),
                "gradient": timed(
                    {"prroi": 1, "prroi_plain": 4, "align0": 6, "align1": 4, "align2": 8, "align4": 12, "align8": 20}
                ),
            },
        },
    }


def make_pooling(root: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    """Writes the file and the evaluations with each pooling below a results folder."""
    write_json(root / "pooling_data" / "measured.json", make_measured(seeds))
    for pooling in SAMPLES:
        for seed in seeds:
            source = root / "evaluations" / VARIANT / f"seed{seed}" / "val"
            folder = root / "pooling_data" / pooling / f"seed{seed}" / "val"
            folder.mkdir(parents=True)
            for setting in SETTINGS:
                origin = WORSE[setting] if pooling == "align1" else setting
                own = json.loads((source / f"{setting}.json").read_text())
                other = json.loads((source / f"{origin}.json").read_text())
                changed = {**own, "metrics": other["metrics"], "config_hash": sha("swapped", pooling)}
                write_json(folder / f"{setting}.json", changed)
                shutil.copyfile(source / f"{origin}.matches.json.gz", folder / f"{setting}.matches.json.gz")
