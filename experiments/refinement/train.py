"""Trains a suite's refiner with one seed: `python -m experiments train-refiner --suite S --seed K`.

On N devices: `torchrun --nproc-per-node N -m experiments train-refiner …`, as a variant's training.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

from experiments.finished import Finished
from experiments.refinement.training import RefinerTraining
from experiments.runtime import prepare_process
from experiments.training.distributed import join, world
from experiments.training.training import pretraining_of
from suite.errors import SuiteError, exits_on_error
from suite.files import folder_lock
from suite.layout import DataFolder, RefinerFolder
from suite.roles import FIRST
from suite.suite import Suite, load_suite
from suite.treatments import HEADS, PER_CLASS


def train_refiner(
    suite: Suite,
    seed: int,
    *,
    folder: RefinerFolder,
    data: DataFolder,
    pretraining: Path | None,
    variant: str | None = None,
    head: str = PER_CLASS,
    threads: int = 1,
) -> None:
    """Trains to the end, or to the end of a training that was killed; under torchrun together with the other ranks.

    Args:
        suite: the suite.
        seed: of the weights that are not pretrained, of the order of images, of every draw.
        folder: the training's.
        data: the suite's images.
        pretraining: checkpoint whose backbone and FPN are the start; None = from the backbone's weights, or from
            scratch, as the config says.
        variant: whose network, loss, RoIs and schedule it has; None = the one that stands for the paper's IoU-Net.
        head: one of `suite.treatments.HEADS`: one IoU per class, or one for all.
        threads: of torch.

    Raises:
        SuiteError: the data or the pretraining is missing or damaged, or the variant has no IoU branch, or a network
            that a refiner has not.
    """
    variant = suite.standing_for(FIRST) if variant is None else variant
    if not suite.variant(variant).has_iou_branch:
        raise SuiteError(f"variant '{variant}' has no IoU branch: a refiner is trained as one that has (--variant)")
    prepare_process(threads)
    ranks = world()
    with folder_lock(folder.path) if ranks.rank == 0 else contextlib.nullcontext(), join(ranks):
        RefinerTraining(
            suite, variant, seed, head=head, folder=folder, data=data, pretraining=pretraining, ranks=ranks
        ).run(show_live=False)


@exits_on_error
def main(arguments: Sequence[str] | None = None) -> Finished | None:
    """Command line; of several ranks the first one hands the training on."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments train-refiner",
        description="Train IoU-Net alone, without a detector, on a suite's images: what `refine` takes. It lies in "
        "results/<suite>/refiners/<head>/seed<k>/.",
    )
    parser.add_argument("--suite", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--variant", help="the IoU-Net whose network and schedule it has (default: the paper's)")
    parser.add_argument(
        "--head", choices=HEADS, default=PER_CLASS, help="one IoU per class, or one for all (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work-dir", type=Path, help="default: results/<suite>/refiners/<head>/seed<k>")
    parser.add_argument("--data-dir", type=Path, help="default: the suite's data folder")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    options = parser.parse_args(arguments)
    suite = load_suite(options.suite)
    variant, folder = options.variant or suite.standing_for(FIRST), suite.layout.refiner(options.head, options.seed)
    if options.work_dir is None and variant != (own := suite.standing_for(FIRST)):
        raise SuiteError(f"--variant {variant}: {folder.path} is for refiners of '{own}'; name another with --work-dir")
    folder = RefinerFolder(options.work_dir) if options.work_dir else folder
    train_refiner(
        suite,
        options.seed,
        folder=folder,
        data=DataFolder(options.data_dir) if options.data_dir else suite.layout.data,
        pretraining=pretraining_of(suite, variant),
        variant=variant,
        head=options.head,
        threads=options.threads,
    )
    return Finished(suite, folder.path) if world().rank == 0 else None
