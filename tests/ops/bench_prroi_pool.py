"""Times the CPU kernels against their peers: ``python -m tests.ops.bench_prroi_pool``.

One thread. Ours and the peer take turns in one process; a ratio is taken in every round, and what is reported is the
median of the ratios and their quartiles. Milliseconds are medians too. The results are compared before anything is
timed.
"""

import argparse
import statistics
import time

import torch
from torchvision.ops import roi_align

from iounet.ops import _extension, prroi_pool
from tests.ops import reference_loop

SCALE = 1 / 16
SHAPES = {"300 x 64 x 7 x 7": (300, 64), "100 x 256 x 7 x 7": (100, 256)}


def make_inputs(num_rois, channels):
    """A stride-16 map of an 800 x 1333 image, channels last, and RoIs of 14 to 28 cells in it."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, channels, 50, 84, generator=generator)
    extent = (14 + 14 * torch.rand(num_rois, 2, generator=generator)) / SCALE
    corner = torch.rand(num_rois, 2, generator=generator) * (torch.tensor([1333.0, 800.0]) - extent)
    rois = torch.cat([torch.zeros(num_rois, 1), corner, corner + extent], dim=1)
    return features.contiguous(memory_format=torch.channels_last), rois


def interleaved(ours, peer, rounds):
    """Medians of our time and the peer's in milliseconds, and the quartiles of the ratio peer / ours."""
    times = ([], [])
    for function in (ours, peer):
        function()
    for _ in range(rounds):
        for function, record in zip((ours, peer), times, strict=True):
            start = time.perf_counter()
            function()
            record.append(1e3 * (time.perf_counter() - start))
    ratios = statistics.quantiles((theirs / own for own, theirs in zip(*times, strict=True)), n=4)
    return statistics.median(times[0]), statistics.median(times[1]), ratios


def comparisons(num_rois, channels):
    """(what, peer's name, ours, peer), after checking that ours and the loop's results agree."""
    features, rois = make_inputs(num_rois, channels)
    planar = features.contiguous()
    output = prroi_pool(features, rois, 7, SCALE)
    grad = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    ops = torch.ops.iounet
    arguments = (grad, [features], rois, None, [SCALE])
    torch.testing.assert_close(output, reference_loop.forward(planar, rois, 7, SCALE), rtol=1e-3, atol=1e-4)
    loop_gradient = reference_loop.feature_gradient(grad, planar, rois, SCALE)
    torch.testing.assert_close(ops.prroi_pool_feature_gradient(*arguments)[0], loop_gradient, rtol=1e-3, atol=1e-3)
    loop_gradient = reference_loop.coordinate_gradient(grad, planar, output, rois, SCALE)
    torch.testing.assert_close(ops.prroi_pool_coordinate_gradient(*arguments), loop_gradient, rtol=1e-2, atol=1e-2)

    align_input = planar.clone().requires_grad_()
    aligned = roi_align(align_input, rois, 7, SCALE, sampling_ratio=2)

    def forward():
        return prroi_pool(features, rois, 7, SCALE)

    def feature_gradient():
        return ops.prroi_pool_feature_gradient(*arguments)

    def align_gradient():
        return torch.autograd.grad(aligned, align_input, grad, retain_graph=True)

    yield "forward", "loop", forward, lambda: reference_loop.forward(planar, rois, 7, SCALE)
    yield (
        "forward, NCHW input",
        "loop",
        lambda: prroi_pool(planar, rois, 7, SCALE),
        lambda: reference_loop.forward(planar, rois, 7, SCALE),
    )
    yield "forward", "roi_align", forward, lambda: roi_align(planar, rois, 7, SCALE, sampling_ratio=2)
    yield (
        "coordinate gradient",
        "loop",
        lambda: ops.prroi_pool_coordinate_gradient(*arguments),
        lambda: reference_loop.coordinate_gradient(grad, planar, output, rois, SCALE),
    )
    yield (
        "feature gradient",
        "loop",
        feature_gradient,
        lambda: reference_loop.feature_gradient(grad, planar, rois, SCALE),
    )
    yield "feature gradient", "roi_align", feature_gradient, align_gradient


def main():
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    if not _extension.available("cpu"):
        raise SystemExit("there is no compiled kernel to time")
    print("| shape | what | ours (ms) | peer | peer (ms) | ratio (quartiles) |")
    print("|---|---|---|---|---|---|")
    for name, shape in SHAPES.items():
        for what, peer_name, ours, peer in comparisons(*shape):
            own, theirs, (low, median, high) = interleaved(ours, peer, rounds)
            ratio = f"{median:.1f} ({low:.1f} - {high:.1f})"
            print(f"| {name} | {what} | {own:.2f} | {peer_name} | {theirs:.1f} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
