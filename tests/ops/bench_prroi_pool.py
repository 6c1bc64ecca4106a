"""Times Precise RoI Pooling beside its peers: ``python -m tests.ops.bench_prroi_pool``, or ``make bench``.

One thread, one process. Ours and the peer take turns; a ratio is taken in every round, and what is reported is the
median of the ratios and their quartiles. Results are compared with the float64 oracle, and with the peer where it
computes the same, before anything is timed. On a CPU the peers are torchvision's RoIAlign with 2 x 2 samples per bin
(which computes something else, and has no gradient to coordinates) and the loop per output cell of the published
kernels; on a GPU they are RoIAlign and mmcv's PrRoIPool. A peer's maps are contiguous, NCHW, as it wants them.

Layouts of our maps: ``NHWC`` is what the kernels read; ``NCHW`` is converted inside the op; ``NHWC + conversions`` is
converted by the caller, who also wants the gradient back as NCHW.
"""

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision.ops import roi_align

from experiments.runtime import hardware
from iounet.ops import _extension, prroi_pool_multilevel
from iounet.ops._reference import prroi_pool_reference
from suite.files import write_json
from suite.provenance import versions
from tests.ops import reference_loop

SCALE = 1 / 16
IMAGE = (800, 1333)
WHATS = ("forward", "coordinate gradient", "feature gradient", "both gradients")
LAYOUTS = ("NHWC", "NCHW", "NHWC + conversions")
# The loop takes seconds for a large problem: it and ours are then timed on the first RoIs only, of so many cells times
# channels in all. (With few RoIs on the large maps of a pyramid, clearing it takes most of a feature gradient's time.)
LOOP_WORK = 1e7
# A problem of more RoIs than this gets a share of the rounds: its peers take up to a second a call.
MANY_ROIS = 300
MANY_ROIS_SHARE = 1 / 2
ops = torch.ops.iounet


@dataclass
class Problem:
    """RoIs and the maps to pool them from.

    Attributes:
        maps: one contiguous Tensor[1, C, Hl, Wl] per level.
        scales: cells per pixel of each level.
        rois: Tensor[K, 5].
        levels: LongTensor[K], None if there is one level.
        grad: Tensor[K, C, 7, 7], gradient to the output.
    """

    maps: list[torch.Tensor]
    scales: list[float]
    rois: torch.Tensor
    levels: torch.Tensor | None
    grad: torch.Tensor

    def first(self, count):
        """The problem of its first RoIs only."""
        levels = None if self.levels is None else self.levels[:count].contiguous()
        return Problem(self.maps, self.scales, self.rois[:count].contiguous(), levels, self.grad[:count].contiguous())

    def rows(self, level):
        """Indices of the RoIs of a level."""
        if self.levels is None:
            return torch.arange(len(self.rois), device=self.rois.device)
        return (self.levels == level).nonzero()[:, 0]

    def by_level(self):
        """(map, RoIs, gradient to the output, scale, indices) of every level: what a peer is called with."""
        for level, (feature, scale) in enumerate(zip(self.maps, self.scales, strict=True)):
            rows = self.rows(level)
            yield feature, self.rois[rows].contiguous(), self.grad[rows].contiguous(), scale, rows


def make_inputs(num_rois, channels, low=14, high=28, map_size=(50, 84), seed=0):
    """A map, channels last, and RoIs in it that are ``low`` to ``high`` cells wide and high."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(1, channels, *map_size, generator=generator)
    extent = low + (high - low) * torch.rand(num_rois, 2, generator=generator)
    room = torch.tensor([map_size[1] - 1.0, map_size[0] - 1.0]) - extent
    corner = torch.rand(num_rois, 2, generator=generator) * room
    rois = torch.cat([torch.zeros(num_rois, 1), torch.cat([corner, corner + extent], dim=1) / SCALE], dim=1)
    return features.contiguous(memory_format=torch.channels_last), rois


def one_level(num_rois, channels, **kwargs):
    """A problem of one level."""
    features, rois = make_inputs(num_rois, channels, **kwargs)
    grad = torch.randn(num_rois, channels, 7, 7, generator=torch.Generator().manual_seed(1))
    return Problem([features.contiguous()], [SCALE], rois, None, grad)


def pyramid(num_rois=1000, channels=256):
    """Boxes of 16 to 800 pixels, evenly in the logarithm, from P2 to P5 of an image, by the rule of the FPN paper."""
    generator = torch.Generator().manual_seed(0)
    height, width = IMAGE
    scales = [1 / stride for stride in (4, 8, 16, 32)]
    maps = [
        torch.randn(1, channels, -(-height // stride), -(-width // stride), generator=generator)
        for stride in (4, 8, 16, 32)
    ]
    size = 16 * 50 ** torch.rand(num_rois, 1, generator=generator)
    extent = size * 2 ** (torch.rand(num_rois, 2, generator=generator) - 0.5)
    extent = torch.minimum(extent, torch.tensor([width, height]) - 1.0)
    corner = torch.rand(num_rois, 2, generator=generator) * (torch.tensor([width, height]) - extent)
    rois = torch.cat([torch.zeros(num_rois, 1), corner, corner + extent], dim=1)
    levels = torch.floor(torch.log2(extent.prod(dim=1).sqrt() / 56 + 1e-6)).clamp(0, 3).long()
    grad = torch.randn(num_rois, channels, 7, 7, generator=generator)
    return Problem(maps, scales, rois, levels, grad)


SHAPES = {
    "300 x 64, 14-28 cells": lambda: one_level(300, 64),
    "100 x 256, 14-28 cells (refine)": lambda: one_level(100, 256),
    **{
        f"512 x 256, {cells} cells": lambda cells=cells: one_level(512, 256, low=cells, high=cells, map_size=(100, 167))
        for cells in (14, 20, 28, 56)
    },
    "1000 x 256, P2-P5": pyramid,
}


def interleaved(functions, rounds):
    """Milliseconds of every function in every round, the functions taking turns; one list per function.

    On a CPU it is CPU time of this one thread, which other processes disturb less than wall time.
    """
    on_gpu = torch.cuda.is_available()
    clock = time.perf_counter if on_gpu else time.process_time
    times = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(rounds):
        for function, record in zip(functions, times, strict=True):
            if on_gpu:
                torch.cuda.synchronize()
            start = clock()
            function()
            if on_gpu:
                torch.cuda.synchronize()
            record.append(1e3 * (clock() - start))
    return times


def ratios(own, theirs):
    """Quartiles over the rounds of how many times longer the peer takes."""
    return statistics.quantiles((peer / time for time, peer in zip(own, theirs, strict=True)), n=4)


def ours(problem, what, layout):
    """A function of no arguments that computes ``what``; conversions of the layout, where they count, inside."""
    last = torch.channels_last
    held = problem.maps if layout != "NHWC" else [feature.contiguous(memory_format=last) for feature in problem.maps]

    def compute():
        maps = [feature.contiguous(memory_format=last) for feature in held] if "conversions" in layout else held
        arguments = (problem.grad, maps, problem.rois, problem.levels, problem.scales)
        if what == "forward":
            return prroi_pool_multilevel(maps, problem.rois, problem.levels, 7, problem.scales)
        coordinates = features = None
        if what != "feature gradient":
            coordinates = ops.prroi_pool_coordinate_gradient(*arguments)
        if what != "coordinate gradient":
            features = ops.prroi_pool_feature_gradient(*arguments)
            features = [gradient.contiguous() for gradient in features] if "conversions" in layout else features
        return coordinates, features

    return compute


def loop(problem, what):
    """The reference loop, level by level; what it needs of the forward pass is computed before."""
    parts = list(problem.by_level())
    outputs = [reference_loop.forward(feature, rois, 7, scale) for feature, rois, _, scale, _ in parts]

    def compute():
        if what == "forward":
            return [reference_loop.forward(feature, rois, 7, scale) for feature, rois, _, scale, _ in parts]
        coordinates = features = None
        if what != "feature gradient":
            coordinates = [
                reference_loop.coordinate_gradient(grad, feature, output, rois, scale)
                for (feature, rois, grad, scale, _), output in zip(parts, outputs, strict=True)
            ]
        if what != "coordinate gradient":
            features = [
                reference_loop.feature_gradient(grad, feature, rois, scale) for feature, rois, grad, scale, _ in parts
            ]
        return coordinates, features

    return compute


def by_autograd(problem, what, pool):
    """A peer ``pool(feature, rois, scale)``, level by level; gradients by autograd, of what is asked for only."""
    leaves, grads, results = [], [], []
    for feature, rois, grad, scale, _ in problem.by_level():
        feature, rois = feature.clone(), rois.clone()
        chosen = {"coordinate gradient": [rois], "feature gradient": [feature], "both gradients": [feature, rois]}
        leaves += [leaf.requires_grad_() for leaf in chosen.get(what, [])]
        results.append((feature, rois, scale))
        grads.append(grad)
    if what == "forward":
        return lambda: [pool(*arguments) for arguments in results]
    outputs = [pool(*arguments) for arguments in results]
    return lambda: torch.autograd.grad(outputs, leaves, grads, retain_graph=True)


def align(feature, rois, scale):
    """torchvision's RoIAlign."""
    return roi_align(feature, rois, 7, scale, sampling_ratio=2)


def mmcv_prroi(feature, rois, scale):
    """mmcv's PrRoIPool, which is for CUDA only."""
    from mmcv.ops import prroi_pool

    return prroi_pool(feature, rois, 7, scale)


def peers(problem, what):
    """(name, problem to time both on, function of the peer)."""
    if what in ("forward", "feature gradient"):
        yield "roi_align", problem, by_autograd(problem, what, align)
    if problem.rois.is_cuda:
        yield "mmcv PrRoIPool", problem, by_autograd(problem, what, mmcv_prroi)
    else:
        scales = torch.tensor(problem.scales)[0 if problem.levels is None else problem.levels]
        cells = (problem.rois[:, 3:] - problem.rois[:, 1:3]).prod(dim=1) * scales**2
        work = cells.cumsum(0) * problem.maps[0].shape[1]
        part = problem.first(max(1, int((work <= LOOP_WORK).sum())))
        yield f"loop ({len(part.rois)} RoIs)", part, loop(part, what)


def check(problem):
    """Raises unless ours equals the float64 oracle and, on a CPU, the reference loop; in every layout."""
    part = problem.first(16)
    leaves = [feature.double().requires_grad_() for feature in part.maps]
    rois = part.rois.double().requires_grad_()
    expected = prroi_pool_reference(leaves, rois, part.levels, (7, 7), part.scales)
    used = [leaf for level, leaf in enumerate(leaves) if len(part.rows(level))]
    by_rois, *by_features = torch.autograd.grad(expected, [rois, *used], part.grad.double())
    for layout in LAYOUTS:
        output = ours(part, "forward", layout)()
        coordinates, features = ours(part, "both gradients", layout)()
        features = [gradient for level, gradient in enumerate(features) if len(part.rows(level))]
        pairs = [(output, expected), (coordinates, by_rois), *zip(features, by_features, strict=True)]
        for found, wanted in pairs:
            # Relative to the largest value: the gradients to coordinates are sums of thousands of signed terms.
            error = (found.double() - wanted).abs().max() / wanted.abs().max()
            assert error < 1e-5, f"{layout}: off by {error:.1e} of the largest value"
    if not part.rois.is_cuda:
        for found, (*_, rows) in zip(loop(part, "forward")(), part.by_level(), strict=True):
            torch.testing.assert_close(found, expected[rows].detach().float(), rtol=1e-3, atol=1e-4)


def compare(rounds, shapes=SHAPES, device="cpu"):
    """Yields a row of the table at a time."""
    for shape, make in shapes.items():
        problem = make()
        if device != "cpu":
            move = [x.to(device) for x in (*problem.maps, problem.rois, problem.grad)]
            levels = None if problem.levels is None else problem.levels.to(device)
            problem = Problem(move[:-2], problem.scales, move[-2], levels, move[-1])
        check(problem)
        shape_rounds = rounds if len(problem.rois) <= MANY_ROIS else max(2, round(MANY_ROIS_SHARE * rounds))
        for what in WHATS:
            for peer_name, part, peer in peers(problem, what):
                # The layouts differ by a conversion of the maps, which the time of few RoIs would not be about.
                layouts = LAYOUTS if part is problem else LAYOUTS[:1]
                *own, theirs = interleaved([*(ours(part, what, layout) for layout in layouts), peer], shape_rounds)
                for layout, times in zip(layouts, own, strict=True):
                    yield {
                        "shape": shape,
                        "what": what,
                        "layout": layout,
                        "peer": peer_name,
                        "rounds": shape_rounds,
                        "milliseconds": statistics.median(times),
                        "peer_milliseconds": statistics.median(theirs),
                        "ratio": dict(zip(("quartile_1", "median", "quartile_3"), ratios(times, theirs), strict=True)),
                    }


def main():
    """Prints a table in Markdown; writes it as JSON with --out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--rounds", type=int, default=30, help="of the smaller shapes; the larger ones get half of them"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the figures, with hardware and versions")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not _extension.available(device):
        raise SystemExit("there is no compiled kernel to time")
    print("| shape (RoIs x channels) | what | layout | ours (ms) | peer | peer (ms) | ratio (quartiles) |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for row in compare(options.rounds, device=device):
        rows.append(row)
        ratio = "{median:.1f} ({quartile_1:.1f} - {quartile_3:.1f})".format(**row["ratio"])
        own, theirs = f"{row['milliseconds']:.2f}", f"{row['peer_milliseconds']:.1f}"
        cells = (row["shape"], row["what"], row["layout"], own, row["peer"], theirs, ratio)
        print(f"| {' | '.join(cells)} |", flush=True)
    if options.out:
        context = {"device": device, "threads": 1, "rounds": options.rounds}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out, {**context, "hardware": hardware(), "versions": versions(), "rows": rows})


if __name__ == "__main__":
    main()
