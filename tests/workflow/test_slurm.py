"""The tiny suite on a real SLURM of one node (`make test-slurm`): a job that is cancelled or requeued resumes."""

import subprocess
import sys
import time

import pytest

from tests.workflow import slurm
from tests.workflow.test_workflow import ENVIRONMENT, ROOT, Workspace

PROFILE = [
    *("--workflow-profile", str(ROOT / "profiles/slurm")),
    # a SLURM without accounting; a site that has one needs none of these
    *("--slurm-status-command", "squeue", "--slurm-no-account", "--slurm-init-seconds-before-status-checks", "5"),
    *("--latency-wait", "5"),
]
CANCELLED, REQUEUED = "samp1000_lw5.0", "faster_rcnn"

reason = slurm.unavailable()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=f"SLURM: {reason}")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm.one_node(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """The tiny suite, with a GPU per training and epochs enough to be cancelled in."""
    workspace = Workspace(tmp_path_factory.mktemp("workflow"))
    suite = workspace.folder / "tiny.yaml"
    suite.write_text(suite.read_text() + "resources: {gpus: 1, mem_mb: 2000, runtime: 10}\n")
    for name in ("tiny_iounet.py", "tiny_faster_rcnn.py"):
        config = workspace.folder / name
        config.write_text(config.read_text() + "runner = dict(max_epochs=8)\n")
    return workspace


def test_a_job_has_the_gpus_that_slurm_gave_it(cluster, tmp_path):
    show = "import os; print('has', os.environ['CUDA_VISIBLE_DEVICES'])"
    command = ["srun", "--quiet", "--chdir", str(ROOT), "--export=ALL"]
    gpus = [sys.executable, "-m", "workflow.gpus"]
    for asked, expected in [([], "has "), (["--gpus=1"], "has 0"), (["--gpus=2"], "has 0,1")]:
        count = asked[0][-1] if asked else "0"
        done = subprocess.run(
            [*command, *asked, *gpus, count, sys.executable, "-c", show], capture_output=True, text=True, timeout=300
        )
        assert done.stdout.rstrip("\n") == expected, done.stderr


def stop(command, variant):
    """Ends a variant's running job by a command of SLURM's."""
    jobs = slurm.output("squeue", "-h", "-t", "RUNNING", "-o", "%i %k").splitlines()
    (job,) = [line.split()[0] for line in jobs if variant in line]
    subprocess.run([*command, job], check=True)
    print(f"{' '.join(command)} {job} (train {variant})")


def test_a_cancelled_training_and_one_that_slurm_requeues_go_on_where_they_were(cluster, workspace):
    """Snakemake starts the first again; SLURM the second, after two minutes, as it does after a preemption."""
    log = workspace.folder / "snakemake.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*workspace.command("all", *PROFILE), "--configfile", str(workspace.folder / "tiny.yaml")],
            env=ENVIRONMENT,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        )
    try:
        for command, variant in ((["scancel"], CANCELLED), (["scontrol", "requeue"], REQUEUED)):
            workspace.wait_for(process, workspace.run_folder(variant) / "epoch_1.pth")
            stop(command, variant)
        killed = time.monotonic()
        process.wait(timeout=1500)
        print(f"done {time.monotonic() - killed:.0f} s later")
    finally:
        process.kill()
        process.wait()
    text = log.read_text()
    assert process.returncode == 0, text
    print(text)
    assert text.count("Trying to restart job") == 1
    assert "SLURM jobid" in text
    for variant in (CANCELLED, REQUEUED):
        training = (workspace.run_folder(variant) / "train.log").read_text()
        print(training)
        assert training.count("continuing after epoch") == 1
        assert training.count("epoch 1/8, iteration 1/32") == 1, "it must not start over"
        assert "on GPU" in (workspace.results / f"logs/train_{variant}_seed0.log").read_text()
    assert (workspace.results / "report/README.md").is_file()


def test_it_has_nothing_left_to_do(cluster, workspace):
    code, output = workspace.snakemake("all", "-n", *PROFILE)
    assert code == 0, output
    assert "Nothing to be done" in output
