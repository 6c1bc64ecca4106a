"""`train-refiner` with RoIs that depend on the image alone, for torchrun."""

import sys

import iounet.refiner.model
from experiments.__main__ import main
from tests.experiments.training.per_image_draws import PerImageGenerator

if __name__ == "__main__":
    iounet.refiner.model.RoIGenerator = PerImageGenerator
    sys.exit(main(["train-refiner", *sys.argv[1:]]))
