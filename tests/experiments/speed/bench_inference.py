"""Times IoU-Net's inference beside Faster R-CNN's at full size: ``python -m tests.experiments.speed.bench_inference``.

The detectors of the `coco` suite (R-50-FPN, 80 classes) on an image of 1333 x 800, on the GPU if there is one: rows
interleaved in one process, as `python -m experiments speed` times them, but without a training. Weights are random; the
class scores are set so that as many boxes reach NMS and refinement as are asked for, on which the cost of the IoU
branch depends. The published ratio is 1.695 (84.75 ms to 50.00 ms, on an RTX 2080 Ti).
"""

import argparse
import copy
import logging
from pathlib import Path

import torch

from experiments.config import resolve_config
from experiments.models import build_model
from experiments.runtime import hardware, prepare_process
from experiments.speed.detector import Detector
from experiments.speed.measure import summary, time_rounds
from experiments.speed.rows import REFINED, timed_settings
from suite.files import write_json
from suite.provenance import git_state, versions
from suite.suite import ROOT, load_suite
from tests.models.tiny import image_meta

LOGIT_SPREAD = 3.0  # standard deviation of the class logits: a few classes of each box stand out


def build_detectors(suite, device):
    """Variant to detector, with the same random weights in what the two share."""
    detectors = {}
    for variant in ("faster_rcnn", "samp1000_lw5.0"):
        cfg = copy.deepcopy(resolve_config(suite, variant))
        cfg.model.backbone.init_cfg = None
        torch.manual_seed(0)
        detectors[variant] = build_model(cfg, initialize=True).to(device).eval()
    baseline, iounet = detectors.values()
    iounet.load_state_dict(baseline.state_dict(), strict=False)
    return detectors


@torch.no_grad()
def set_scores(detectors, images, metas, candidates):
    """Scales the class logits, and lowers the background's until so many (box, class) pairs pass the threshold."""
    baseline, iounet = detectors.values()
    x = baseline.extract_feat(images)
    rois = iounet.rpn_head.simple_test_rpn(x, metas)
    head = baseline.roi_head
    boxes = torch.cat([rois[0].new_zeros(len(rois[0]), 1), rois[0][:, :4]], dim=1)
    logits = head._bbox_forward(x, boxes)["cls_score"]
    layer = head.bbox_head.fc_cls
    layer.weight *= LOGIT_SPREAD / logits.std()
    layer.bias.zero_()
    logits = head._bbox_forward(x, boxes)["cls_score"]
    low, high = -30.0, 60.0
    for _ in range(40):
        bias = (low + high) / 2
        shifted = logits.clone()
        shifted[:, -1] += bias
        passed = int((shifted.softmax(1)[:, :-1] >= head.test_cfg.score_thr).sum())
        low, high = (bias, high) if passed > candidates else (low, bias)
    layer.bias[-1] = high
    iounet.roi_head.bbox_head.fc_cls.load_state_dict(layer.state_dict())
    return len(boxes), passed


def measure(device, size, rounds, candidates, threads):
    """The rows of the speed table, timed; see `experiments.speed.measure.summary`."""
    prepare_process(threads, device)
    logging.disable(logging.INFO)  # mmcv names every weight that it draws
    suite = load_suite(ROOT / "experiments/coco.yaml")
    width, height = size
    padded = [-(-side // 32) * 32 for side in (height, width)]
    images = torch.randn(1, 3, *padded, generator=torch.Generator().manual_seed(1)).to(device)
    metas = [{**image_meta(height, width), "pad_shape": (*padded, 3)}]
    models = build_detectors(suite, device)
    proposals, passed = set_scores(models, images, metas, candidates)
    rows = timed_settings(suite)
    detectors = {row.key: Detector(models[row.variant], row.setting, row.fc_dtype) for row in rows}
    with torch.no_grad():
        found = {key: sum(map(len, detector(images, metas)[0])) for key, detector in detectors.items()}
        synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
        timed = time_rounds(detectors, [(images, metas)], rounds, 1, synchronize)
        staged = time_rounds(detectors, [(images, metas)], max(3, rounds // 4), 1, synchronize, stages=True)
    return {
        "device": device,
        "image": [width, height],
        "threads": threads,
        "rounds": rounds,
        "proposals": proposals,
        "candidates": passed,
        "detections": found,
        "rows": summary(rows, timed, staged, 1),
        "hardware": hardware(),
        "versions": versions(),
        **git_state(),
    }


def main(arguments=None):
    """Prints a table in Markdown; writes it as JSON with --out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cpu", "cuda"], default=default)
    parser.add_argument("--size", type=int, nargs=2, default=(1333, 800), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--candidates", type=int, default=400, help="(box, class) pairs for NMS (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file for the figures, with hardware and versions")
    options = parser.parse_args(arguments)
    result = measure(options.device, options.size, options.rounds, options.candidates, options.threads)
    refined = result["detections"][REFINED]
    print(f"{result['proposals']} proposals, {result['candidates']} candidates, {refined} refined")
    print("| inference | ms | ÷ Faster R-CNN (quartiles) |\n|---|---|---|")
    for key, row in result["rows"].items():
        ratio = "{median:.3f} ({q1:.3f} - {q3:.3f})".format(**row["ratio"])
        print(f"| {key} | {row['latency_ms']['median']:.2f} | {ratio} |")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out, result)


if __name__ == "__main__":
    main()
