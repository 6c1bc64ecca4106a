"""Gives a command GPUs of its own: `python -m workflow.gpus COUNT COMMAND...`.

Snakemake counts GPUs but does not say which one a job has. So each job takes slots, one lock file per GPU, under
`iounet-gpus-<user id>` in the folder for temporary files, sets CUDA_VISIBLE_DEVICES and becomes the command. The
command inherits the locks, and the kernel frees them when its process ends, however it ends.

The GPUs are those of CUDA_VISIBLE_DEVICES if that is set, else all of the machine's; inside a SLURM job those that
SLURM gave it. Without any, the command runs as it is, on the CPU.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    if "SLURM_JOB_ID" in environment:
        return []  # SLURM names those that it gives
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(index) for index in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]


def slots_folder(environment: Mapping[str, str]) -> Path:
    """Where the lock files are: one folder per user, and per SLURM job (each may count its GPUs from 0)."""
    folder = Path(tempfile.gettempdir()) / f"iounet-gpus-{os.getuid()}"  # a container's user may have no name
    return folder / f"slurm-{environment['SLURM_JOB_ID']}" if "SLURM_JOB_ID" in environment else folder


def take(gpus: Sequence[str], count: int, folder: Path) -> list[str]:
    """Waits until `count` of the GPUs are free, and holds them for this process and those that inherit its files.

    One process at a time looks for free ones, in the order of arrival: so no two hold a part each of what both need.

    Returns:
        the GPUs taken, in the order of `gpus`.

    Raises:
        ValueError: there are fewer than `count`.
    """
    if count > len(gpus):
        raise ValueError(
            f"{count} GPUs are asked for, and this machine has {len(gpus)} ({', '.join(gpus)}): "
            "lower `resources.gpus` in the suite"
        )
    folder.mkdir(parents=True, exist_ok=True)
    told = False
    with open(folder / "queue", "w", encoding="utf-8") as queue:
        fcntl.flock(queue, fcntl.LOCK_EX)
        while True:
            held: dict[str, int] = {}
            for gpu in gpus:
                slot = os.open(folder / gpu.replace("/", "_"), os.O_CREAT | os.O_RDWR)
                with contextlib.suppress(BlockingIOError):
                    if len(held) < count:
                        fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        held[gpu] = slot
                        continue
                os.close(slot)
            if len(held) == count:
                for slot in held.values():
                    os.set_inheritable(slot, True)
                return list(held)
            for slot in held.values():
                os.close(slot)
            if not told:
                print(f"waiting for {count} of the GPUs {', '.join(gpus)} to be free", file=sys.stderr, flush=True)
                told = True
            time.sleep(0.5)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) < 2 or not words[0].isdigit():
        sys.exit("usage: python -m workflow.gpus COUNT COMMAND...")
    count, command = max(1, int(words[0])), words[1:]
    gpus = visible_gpus(os.environ)
    if gpus:
        try:
            taken = take(gpus, count, slots_folder(os.environ))
        except ValueError as error:
            sys.exit(f"error: {error}")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
        print(f"on GPU {', '.join(taken)}", file=sys.stderr, flush=True)
    elif "SLURM_JOB_ID" in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # without cgroups a job sees GPUs that are not its own
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
