"""Trains one variant with one seed: `python -m experiments train --suite S --variant V --seed K`.

On N devices: `torchrun --nproc-per-node N -m experiments train …`. The config's samples_per_gpu images go to each.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.finished import Finished
from experiments.runtime import prepare_process
from experiments.training.distributed import join, world
from experiments.training.training import OnValidation, Training, pretraining_of
from suite.errors import exits_on_error
from suite.files import folder_lock
from suite.layout import DataFolder, RunFolder
from suite.suite import Suite, load_suite


def train(
    suite: Suite,
    variant: str,
    seed: int,
    *,
    folder: RunFolder,
    data: DataFolder,
    pretraining: Path | None,
    threads: int = 1,
    changes: Mapping[str, Any] | None = None,
    on_validation: OnValidation | None = None,
    show_live: bool = False,
) -> bool:
    """Trains to the end, or to the end of a training that was killed; under torchrun together with the other ranks.

    Args:
        suite: the suite.
        variant: one of its variants, or 'pretraining'.
        seed: of the weights that are not pretrained, of the order of images, of every draw.
        folder: the run's.
        data: the suite's images.
        pretraining: checkpoint whose backbone, neck and RPN are the start; None = from scratch.
        threads: of torch.
        changes: see `experiments.config.resolve_config`.
        on_validation: called as (epoch, metrics) after every epoch, those of a killed process included; what it raises
            ends the training, which a later call continues.
        show_live: show the training on W&B's server while it runs, if W&B is online.

    Returns:
        Whether W&B's server could be reached, as far as it was needed.

    Raises:
        SuiteError: the data or the pretraining is missing or damaged.
    """
    prepare_process(threads)
    ranks = world()
    with folder_lock(folder.path) if ranks.rank == 0 else contextlib.nullcontext(), join(ranks):
        training = Training(
            suite,
            variant,
            seed,
            folder=folder,
            data=data,
            pretraining=pretraining,
            ranks=ranks,
            changes=changes,
            on_validation=on_validation,
        )
        return training.run(show_live)


@exits_on_error
def main(arguments: Sequence[str] | None = None) -> Finished | None:
    """Command line; of several ranks the first one hands the training on."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments train", description="Train one variant of a suite with one seed."
    )
    parser.add_argument("--suite", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--variant", required=True, help="a variant of the suite, or 'pretraining'")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work-dir", type=Path, help="default: where the workflow puts it")
    parser.add_argument("--data-dir", type=Path, help="default: the suite's data folder")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    options = parser.parse_args(arguments)
    suite = load_suite(options.suite)
    suite.variant(options.variant)
    folder = suite.layout.run(options.variant, options.seed)
    folder = RunFolder(options.work_dir) if options.work_dir else folder
    is_reachable = train(
        suite,
        options.variant,
        options.seed,
        folder=folder,
        data=DataFolder(options.data_dir) if options.data_dir else suite.layout.data,
        pretraining=pretraining_of(suite, options.variant),
        threads=options.threads,
        show_live=True,
    )
    return Finished(suite, folder.path, is_reachable) if world().rank == 0 else None
