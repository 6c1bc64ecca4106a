"""The recipe of a suite: everything that decides its results, as it is registered before the run.

`python -m experiments.registration --suite experiments/shapes.yaml` prints it, to be copied to the suite's file in
`registered/`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import yaml

from experiments.config import resolve_config, training_hash
from experiments.data.datasets import dataset_fingerprint
from experiments.data.shapes.dataset import fingerprint
from suite.blocks import GeneratedData
from suite.errors import SuiteError
from suite.files import digest
from suite.suite import PRETRAINING, Suite, load_suite
from suite.utf8 import ensure_utf8


def recipe(suite: Suite, images: str | None = None) -> dict[str, Any]:
    """What decides a suite's results: data, trainings, seeds, inference settings.

    Args:
        suite: the suite.
        images: fingerprint of its images; needed where they lie in a folder, whose files alone tell it.

    Returns:
        `hash` of all of it, and the parts that a report compares with its runs.

    Raises:
        ValueError: the images lie in a folder, and their fingerprint is not given.
    """
    parts: dict[str, Any]
    if isinstance(suite.dataset, GeneratedData):
        parts = {"dataset_fingerprint": fingerprint(suite.dataset), "dataset_seed": suite.dataset.seed}
    elif images is not None:
        parts = {"dataset_fingerprint": images}
    else:
        raise ValueError(f"suite '{suite.name}': its images lie in a folder; give their fingerprint")
    parts["seeds"] = list(suite.seeds)
    trained = sorted(suite.trained, key=lambda name: name != PRETRAINING)  # it comes first; the order counts
    parts["trainings"] = {variant: training_hash(resolve_config(suite, variant)) for variant in trained}
    settings = {variant: [setting.name for setting in suite.settings(variant)] for variant in suite.variants}
    return {"hash": digest([parts, settings, suite.report_split])[:16], **parts}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.registration", description="Print a suite's recipe.")
    parser.add_argument("--suite", required=True, help="the suite's YAML; images of a folder are indexed before")
    suite = load_suite(parser.parse_args(arguments).suite)
    try:
        images = None if suite.is_generated else dataset_fingerprint(suite.layout.data)
    except SuiteError as error:
        sys.exit(f"error: {error}")
    print(yaml.safe_dump({"recipe": recipe(suite, images)}, sort_keys=False), end="")


if __name__ == "__main__":
    ensure_utf8()
    main()
