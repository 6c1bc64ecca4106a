"""One training on several devices: its processes (ranks), started by torchrun, and what they exchange.

Every rank trains on its share of each batch; gradients are averaged, rank 0 writes all files. Without torchrun there is
one rank, and nothing here does anything.
"""

import contextlib
import copy
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from mmcv.parallel import MMDataParallel, MMDistributedDataParallel

T = TypeVar("T")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class World:
    """The ranks of a training.

    Attributes:
        rank: of this process, from 0.
        size: number of ranks; a step takes `size` times the images of one rank.
        local_rank: of this process among those on its machine: which of the visible GPUs is its own.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def device(self) -> torch.device:
        """This rank's GPU, or the CPU where there is none."""
        return torch.device("cuda", self.local_rank) if torch.cuda.is_available() else torch.device("cpu")

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make()` gives, or raises, on rank 0, on every rank; it is called there only."""
        if self.size == 1:
            return make()
        answer: list[Any] = [None, None]
        if self.rank == 0:
            try:
                answer[0] = make()
            except Exception as error:
                answer[1] = error
        dist.broadcast_object_list(answer, src=0)
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    def gather(self, value: T) -> list[T] | None:
        """The values of all ranks, by rank, on rank 0; None on the others."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(value, values, dst=0)
        return values


def world() -> World:
    """The ranks that torchrun's environment names; may be asked for before `join`."""
    if "RANK" not in os.environ:
        return World()
    return World(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))


@contextlib.contextmanager
def join(ranks: World) -> Iterator[None]:
    """Connects the ranks (NCCL on GPUs, gloo on CPUs), for the length of the block.

    Raises:
        RuntimeError: there are fewer GPUs than ranks on this machine.
    """
    gpus = torch.cuda.device_count()
    if gpus and ranks.local_rank >= gpus:
        raise RuntimeError(
            f"rank {ranks.rank} is number {ranks.local_rank + 1} on this machine, which shows {gpus} GPU(s): "
            "start fewer processes (torchrun --nproc-per-node, or the suite's resources.gpus)"
        )
    if ranks.size == 1:
        yield
        return
    _end_with_parent()
    if gpus:
        torch.cuda.set_device(ranks.local_rank)
    # No rank is given up early: rank 0 may be waiting for another process to leave the run's folder. One that dies
    # takes the others with it, through torchrun.
    dist.init_process_group("nccl" if gpus else "gloo", timeout=timedelta(days=1))
    try:
        yield
    finally:
        dist.destroy_process_group()


def _end_with_parent() -> None:
    """A rank whose torchrun was killed must not train on beside the run that resumes it (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class _DistributedDataParallel(MMDistributedDataParallel):
    """mmcv's wrapper, which unpacks DataContainers, also on a CPU and with torch >= 2.1."""

    def train_step(self, *inputs: Any, **kwargs: Any) -> Any:
        if not self.device_ids:
            (inputs,), (kwargs,) = self.scatter(inputs, kwargs, [-1])
        return super().train_step(*inputs, **kwargs)

    def _run_ddp_forward(self, *inputs: Any, **kwargs: Any) -> Any:
        # mmcv's reads `_use_replicated_tensor_module`, which torch 2.1 has removed
        (inputs,), (kwargs,) = self.to_kwargs(inputs, kwargs, self.device_ids[0] if self.device_ids else -1)
        return self.module(*inputs, **kwargs)


def parallel(model: torch.nn.Module, ranks: World) -> torch.nn.Module:
    """The model on this rank's device, in mmcv's wrapper for one rank or several (gradients are averaged)."""
    device = ranks.device
    model = model.to(device)
    if ranks.size == 1:
        return MMDataParallel(model, device_ids=[-1 if device.type == "cpu" else device.index])
    ids = None if device.type == "cpu" else [device.index]
    return _DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)


def average_buffers(model: torch.nn.Module) -> None:
    """Gives every rank the mean of the ranks' floating-point buffers: the running statistics of batch norms."""
    from mmcv.runner.dist_utils import allreduce_params

    allreduce_params([buffer for buffer in model.buffers() if buffer.is_floating_point()])


def share_of(dataset: Any, ranks: World, batch_size: int) -> Any:
    """This rank's part of an mmdet dataset in test mode: whole batches, in order, so that they stay the same."""
    batches = -(-len(dataset) // batch_size)
    first, end = (rank * batches // ranks.size * batch_size for rank in (ranks.rank, ranks.rank + 1))
    part = copy.copy(dataset)
    part.data_infos, part.img_ids = dataset.data_infos[first:end], dataset.img_ids[first:end]
    return part
