"""The recipe of a suite: everything that decides its results, as it is registered before the run.

`python -m experiments.registration --suite experiments/shapes.yaml` prints it, to be copied to `preregistration.yaml`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import yaml

from experiments.config import resolve_config, training_hash
from experiments.data.shapes.dataset import fingerprint
from suite.blocks import GeneratedData
from suite.files import digest
from suite.suite import PRETRAINING, Suite, load_suite
from suite.utf8 import ensure_utf8


def recipe(suite: Suite) -> dict[str, Any]:
    """What decides the results of a suite of generated images: data, trainings, seeds, inference settings.

    Returns:
        `hash` of all of it, and the parts that a report compares with its runs.

    Raises:
        ValueError: the images are not generated.
    """
    if not isinstance(suite.dataset, GeneratedData):
        raise ValueError(f"suite '{suite.name}': only a suite of generated images has a registered recipe")
    trained = [PRETRAINING, *suite.variants]
    parts = {
        "dataset_fingerprint": fingerprint(suite.dataset),
        "dataset_seed": suite.dataset.seed,
        "seeds": list(suite.seeds),
        "trainings": {variant: training_hash(resolve_config(suite, variant)) for variant in trained},
    }
    settings = {variant: [setting.name for setting in suite.settings(variant)] for variant in suite.variants}
    return {"hash": digest([parts, settings, suite.report_split])[:16], **parts}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.registration", description="Print a suite's recipe.")
    parser.add_argument("--suite", required=True, help="the suite's YAML")
    print(yaml.safe_dump({"recipe": recipe(load_suite(parser.parse_args(arguments).suite))}, sort_keys=False), end="")


if __name__ == "__main__":
    ensure_utf8()
    main()
