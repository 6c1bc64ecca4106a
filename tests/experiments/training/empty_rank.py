"""A step of two ranks, the second without ground truth: `torchrun … -m tests.experiments.training.empty_rank F MODEL`.

MODEL is 'detector' or 'refiner'. Each rank writes its losses and gradients to F/<rank>.pth.
"""

import sys
from pathlib import Path

import torch
from mmcv.parallel import DataContainer

import iounet  # noqa: F401 - registers the models
from experiments.refinement.training import TrainableRefiner
from experiments.training.distributed import join, parallel, world
from tests.models.tiny import build, detector_config, image_meta
from tests.refiner.conftest import CATEGORIES, SMALL


def main():
    torch.set_num_threads(1)
    ranks = world()
    with join(ranks):
        torch.manual_seed(ranks.rank)
        own = build(detector_config()) if sys.argv[2] == "detector" else TrainableRefiner(CATEGORIES, **SMALL)
        model = parallel(own, ranks).train()
        boxes = torch.tensor([[8.0, 8.0, 60.0, 52.0]])[: 1 - ranks.rank]
        batch = {
            "img": DataContainer([torch.randn(1, 3, 96, 96)], stack=True),
            "img_metas": DataContainer([[image_meta(96, 96)]], cpu_only=True),
            "gt_bboxes": DataContainer([[boxes]]),
            "gt_labels": DataContainer([[torch.zeros(len(boxes), dtype=torch.long)]]),
        }
        outputs = model.train_step(batch, None)
        outputs["loss"].backward()
        gradients = {name: p.grad for name, p in model.module.named_parameters() if p.requires_grad}
        torch.save(
            {"losses": dict(outputs["log_vars"]), "gradients": gradients}, Path(sys.argv[1]) / f"{ranks.rank}.pth"
        )


if __name__ == "__main__":
    main()
