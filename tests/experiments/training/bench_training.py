"""Times a training iteration of IoU-Net beside the baseline's: ``python -m tests.experiments.training.bench_training``.

One thread, one process, the models of the `shapes` suite on generated images. The trainings take turns, iteration by
iteration; a ratio is taken in every round, of CPU time, which other processes disturb less than wall time. What is
reported is the median of the ratios and their quartiles. The baseline is timed with its own RoIAlign, and with the
Precise RoI Pooling of IoU-Net: on a CPU the gradient of RoIAlign takes a large part of the baseline's iteration, which
flatters a ratio to it.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import torch
from mmcv.parallel import MMDataParallel
from mmcv.runner import build_optimizer
from mmdet.datasets import build_dataloader
from torch.profiler import ProfilerActivity, profile

from experiments.config import resolve_config
from experiments.data.datasets import build_training_set
from experiments.data.shapes.dataset import write_dataset
from experiments.models import build_model
from experiments.runtime import hardware, prepare_process
from experiments.training.runner import seed_everything
from suite.blocks import GeneratedSplit
from suite.files import write_json
from suite.layout import DataFolder
from suite.provenance import versions
from suite.suite import load_suite

IMAGES = 64
VARIANTS = {
    "Faster R-CNN": "faster_rcnn",
    "Faster R-CNN, Precise RoI Pooling": "faster_rcnn",
    "IoU-Net": "samp1000_lw5.0",
}


class Training:
    """A training that is advanced one iteration at a time."""

    def __init__(self, cfg, data_dir):
        seed_everything(0, 0)
        self.model = build_model(cfg, initialize=True).train()
        self.parallel = MMDataParallel(self.model, device_ids=[-1])
        self.optimizer = build_optimizer(self.model, cfg.optimizer)
        self.max_norm = cfg.optimizer_config.grad_clip.max_norm
        dataset = build_training_set(cfg, DataFolder(data_dir))
        self.loader = build_dataloader(dataset, cfg.data.samples_per_gpu, 0, num_gpus=1, dist=False, seed=0)
        self.batches = iter(())

    def iterate(self):
        """Data, forward, backward, update; as the runner of `experiments.training.train` does it."""
        batch = next(self.batches, None)
        if batch is None:
            self.batches = iter(self.loader)
            batch = next(self.batches)
        outputs = self.parallel.train_step(batch, self.optimizer)
        self.optimizer.zero_grad()
        outputs["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.optimizer.step()
        return outputs["log_vars"]["loss"]


def build_trainings(data_dir):
    """Name to training, the data being made first."""
    suite = load_suite("experiments/shapes.yaml")
    splits = {"train": GeneratedSplit(IMAGES, "normal")}
    write_dataset(dataclasses.replace(suite.dataset, splits=splits), DataFolder(data_dir), workers=1)
    pooling = resolve_config(suite, VARIANTS["IoU-Net"]).model.roi_head.bbox_roi_extractor
    trainings = {}
    for name, variant in VARIANTS.items():
        cfg = resolve_config(suite, variant)
        if "Precise" in name:
            cfg.custom_imports = {"imports": ["iounet"], "allow_failed_imports": False}
            cfg.model.roi_head.bbox_roi_extractor = pooling
        trainings[name] = Training(cfg, data_dir)
    return trainings


def peak_bytes(training):
    """Largest number of bytes that torch holds during an iteration beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        training.iterate()
    held = peak = 0
    memory = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(memory, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def measure(trainings, rounds, warmup=5):
    """Per name: seconds of CPU time of each round, peak bytes, last loss."""
    seconds = {name: [] for name in trainings}
    for number in range(warmup + rounds):
        for name, training in trainings.items():
            start = time.process_time()
            training.iterate()
            if number >= warmup:
                seconds[name].append(time.process_time() - start)
    return seconds, {name: peak_bytes(training) for name, training in trainings.items()}


def summary(seconds, peaks):
    """Ratio of IoU-Net to each baseline: quartiles over the rounds, and of peak memory."""
    ours = seconds["IoU-Net"]
    result = {}
    for name, theirs in seconds.items():
        low, median, high = statistics.quantiles((own / peer for own, peer in zip(ours, theirs, strict=True)), n=4)
        result[name] = {
            "milliseconds": 1e3 * statistics.median(theirs),
            "iounet_ratio": {"quartile_1": low, "median": median, "quartile_3": high},
            "peak_bytes": peaks[name],
            "iounet_peak_ratio": peaks["IoU-Net"] / peaks[name],
        }
    return result


def main():
    """Prints a table in Markdown; writes it as JSON with --out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path, help="JSON file for the figures, with hardware and versions")
    options = parser.parse_args()
    prepare_process(1)
    with tempfile.TemporaryDirectory() as folder:
        trainings = build_trainings(Path(folder))
        result = summary(*measure(trainings, options.rounds))
    print("| training iteration of | CPU time (ms) | IoU-Net / this (quartiles) | peak MB | IoU-Net / this |")
    print("|---|---|---|---|---|")
    for name, row in result.items():
        ratio = "{median:.2f} ({quartile_1:.2f} - {quartile_3:.2f})".format(**row["iounet_ratio"])
        peak = f"{row['peak_bytes'] / 1e6:.0f} | {row['iounet_peak_ratio']:.2f}"
        print(f"| {name} | {row['milliseconds']:.0f} | {ratio} | {peak} |")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        context = {"threads": 1, "rounds": options.rounds, "hardware": hardware(), "versions": versions()}
        write_json(options.out, {**context, "training": result})


if __name__ == "__main__":
    main()
