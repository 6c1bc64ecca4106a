"""A SLURM of one node on this machine, for a test: munged, slurmctld and slurmd, with two GPUs that are only names."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

CONF = Path("/etc/slurm/slurm.conf")
GRES = CONF.with_name("gres.conf")
MUNGE = Path("/run/munge")
DAEMONS = ("munged", "slurmctld", "slurmd")
GPUS = 2


def unavailable():
    """Why no SLURM can be started here; None if one can."""
    missing = [name for name in (*DAEMONS, "sbatch", "srun", "scancel") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: apt-get install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "starting SLURM's daemons needs root"
    if (MUNGE / "munge.socket.2").exists() or any(output("pgrep", "-x", name) for name in DAEMONS):
        return "a munged or SLURM runs here already: the test would take its configuration away"
    return None


@contextlib.contextmanager
def one_node(folder, cpus=2):
    """Runs SLURM for the length of the block, its state in `folder`; puts configuration files back as they were.

    The configuration lies at SLURM's default path: jobs do not inherit SLURM_CONF.
    """
    folder = Path(folder)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    kept = {path: path.read_bytes() if path.exists() else None for path in (CONF, GRES)}
    with contextlib.ExitStack() as stack:
        stack.callback(_restore, kept)
        host = socket.gethostname().split(".")[0]
        for number in range(GPUS):
            (folder / f"gpu{number}").symlink_to("/dev/null")  # SLURM wants a device
        GRES.write_text(f"Name=gpu File={folder}/gpu[0-{GPUS - 1}]\n")
        CONF.write_text(_configuration(folder, host, cpus))

        made = not MUNGE.exists()
        MUNGE.mkdir(exist_ok=True, mode=0o755)
        shutil.chown(MUNGE, "munge", "munge")
        if made:
            stack.callback(shutil.rmtree, MUNGE, ignore_errors=True)
        _start(stack, folder, ["munged", "--foreground"], user="munge", group="munge", extra_groups=[])
        _wait(lambda: (MUNGE / "munge.socket.2").exists(), folder, "munged")
        _start(stack, folder, ["slurmctld", "-D", "-c"])
        _start(stack, folder, ["slurmd", "-D", "-N", host])
        _wait(lambda: output("sinfo", "-h", "-o", "%T") == "idle", folder, "slurmctld and slurmd")
        stack.callback(subprocess.run, ["scancel", "--user=root"], capture_output=True)
        yield


def output(*command):
    """What a command prints, stripped; empty if it fails."""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def _configuration(folder, host, cpus):
    ports = _free_ports(2)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 - 512
    return f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:{GPUS} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
""".lstrip()


def _free_ports(count):
    """Ports of the loopback that nobody listens on, another SLURM of this machine's least of all."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for own in sockets:
            own.bind(("127.0.0.1", 0))
        return [own.getsockname()[1] for own in sockets]


def _start(stack, folder, command, **kwargs):
    with (folder / f"{command[0]}.log").open("w") as log:
        process = subprocess.Popen(
            [shutil.which(command[0]), *command[1:]], stdout=log, stderr=log, start_new_session=True, **kwargs
        )

    def stop():
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(stop)


def _wait(ready, folder, what):
    deadline = time.monotonic() + 300
    while not ready():
        if time.monotonic() > deadline:
            logs = "\n".join(f"{p.name}: {p.read_text()[-2000:]}" for p in sorted(folder.glob("*.log")))
            raise TimeoutError(f"{what} did not come up\n{logs}")
        time.sleep(0.2)


def _restore(kept):
    for path, contents in kept.items():
        if contents is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(contents)
