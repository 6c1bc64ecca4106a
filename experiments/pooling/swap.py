"""Evaluates a trained IoU-Net with another RoI pooling: `python -m experiments swap --pooling align2 --seed K`.

The checkpoint is the one that was trained with Precise RoI Pooling; box and IoU head both get the other pooling. What
is written is what `python -m experiments evaluate` writes, in the settings of `experiments.pooling.rows`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import experiments.pooling.extractor  # noqa: F401 (registers it with mmdet)
from experiments.evaluation.evaluate import evaluate
from experiments.finished import Finished
from experiments.pooling.rows import SAMPLES, changes_of, pooled_settings, pooled_variant
from suite.errors import exits_on_error
from suite.suite import load_suite


@exits_on_error
def main(arguments: Sequence[str] | None = None) -> Finished:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments swap", description="Evaluate a trained IoU-Net with another RoI pooling."
    )
    parser.add_argument("--suite", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--pooling", required=True, help=f"one of {', '.join(SAMPLES)}: RoIAlign with so many samples")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    options = parser.parse_args(arguments)
    suite = load_suite(options.suite)
    variant, layout = pooled_variant(suite), suite.layout
    out = layout.swapped(options.pooling, options.seed, suite.report_split)
    evaluate(
        suite,
        variant,
        options.seed,
        suite.report_split,
        checkpoint=layout.run(variant, options.seed).checkpoint,
        data=layout.data,
        out=out,
        threads=options.threads,
        changes=changes_of(options.pooling),
        settings=pooled_settings(suite),
    )
    return Finished(suite, out.path)
