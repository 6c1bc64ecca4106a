"""How long the poolings take, side by side in one process: in every round each of them once, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from experiments.pooling.rows import EXACT, SAMPLES
from experiments.pooling.sampled import kernel_pool, pool_by_weights, sampled_pool
from experiments.pooling.scenes import Scene
from experiments.speed.measure import quartiles
from iounet.ops import prroi_pool_coordinate_gradient, prroi_pool_multilevel
from iounet.ops._reference import axis_weights

MOST = 1000  # RoIs
PLAIN = "prroi_plain"  # Precise RoI Pooling in plain torch: RoIAlign's code there, with the exact weights
FORWARD, GRADIENT = "forward", "gradient"


def time_poolings(scene: Scene, rounds: int) -> dict[str, Any]:
    """Times the forward pass, and the forward pass with the gradient to the RoIs where there is one.

    Each pooling gets the maps in the layout it wants, which costs nothing here. On a CPU the time is this process's
    own, which other processes disturb less than wall time.

    Args:
        scene: its candidates are pooled, `MOST` at most.
        rounds: of each.

    Returns:
        `rois`, `rounds`, `timed`: for `forward` and `gradient`, per pooling quartiles of `ms` and of `ratio`, to
        Precise RoI Pooling in the same round; of gradients also `ratio_to_plain`, to that in plain torch.
    """
    device = scene.maps[0].device
    rois = scene.candidates.rois[:MOST].contiguous()
    timed: dict[str, Any] = {}
    for what, functions in _functions(scene, rois).items():
        times = interleaved(functions, rounds, torch.cuda.synchronize if device.type == "cuda" else None)
        timed[what] = {key: {"ms": quartiles([1000 * seconds for seconds in own])} for key, own in times.items()}
        for name, base in (("ratio", EXACT), ("ratio_to_plain", PLAIN)):
            for key in times if base in times else ():
                pairs = zip(times[key], times[base], strict=True)
                timed[what][key][name] = quartiles([seconds / other for seconds, other in pairs])
    return {"rois": len(rois), "device": device.type, "rounds": rounds, "timed": timed}


def _functions(scene: Scene, rois: Tensor) -> dict[str, dict[str, Callable[[], Any]]]:
    """Per quantity, what computes it with each pooling; the exact one first."""
    levels, size, scales = scene.levels(rois), scene.size, scene.scales
    # Both kernels of RoIAlign read NCHW; Precise RoI Pooling reads NHWC.
    nchw = [level.detach().contiguous() for level in scene.maps]
    nhwc = [level.contiguous(memory_format=torch.channels_last) for level in nchw]
    generator = torch.Generator().manual_seed(0)
    upstream = torch.randn(len(rois), nchw[0].shape[1], *size, generator=generator).to(nchw[0])

    def by_autograd(pool: Callable[[Tensor], Tensor]) -> Callable[[], Any]:
        def compute() -> Any:
            leaf = rois.detach().requires_grad_()
            with torch.enable_grad():
                pooled = pool(leaf)
            return torch.autograd.grad(pooled, leaf, upstream)

        return compute

    def exact_gradient() -> Any:
        prroi_pool_multilevel(nhwc, rois, levels, size, scales)
        return prroi_pool_coordinate_gradient(upstream, nhwc, rois, levels, scales)

    def forward(samples: int) -> Callable[[], Any]:
        return lambda: kernel_pool(nchw, rois, levels, size, scales, samples)

    def gradient(samples: int) -> Callable[[], Any]:
        return by_autograd(lambda leaf: sampled_pool(nchw, leaf, levels, size, scales, samples))

    plain = by_autograd(lambda leaf: pool_by_weights(nchw, leaf, levels, size, scales, axis_weights))
    return {
        FORWARD: {
            EXACT: lambda: prroi_pool_multilevel(nhwc, rois, levels, size, scales),
            **{pooling: forward(samples) for pooling, samples in SAMPLES.items()},
        },
        GRADIENT: {
            EXACT: exact_gradient,
            PLAIN: plain,
            **{pooling: gradient(samples) for pooling, samples in SAMPLES.items()},
        },
    }


def interleaved(
    functions: Mapping[str, Callable[[], Any]], rounds: int, synchronize: Callable[[], None] | None
) -> dict[str, list[float]]:
    """Seconds of every function in every round; who goes first changes from round to round.

    Args:
        functions: by name; each is called once before.
        rounds: of one call of each.
        synchronize: waits for a GPU; None on a CPU, whose time is this process's own.
    """
    clock = time.process_time if synchronize is None else time.perf_counter
    wait = synchronize or (lambda: None)
    names = list(functions)
    times: dict[str, list[float]] = {name: [] for name in names}
    for function in functions.values():
        function()
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            wait()
            started = clock()
            functions[name]()
            wait()
            times[name].append(clock() - started)
    return times
