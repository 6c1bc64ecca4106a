"""GPUs of one machine, shared out among jobs that know nothing of each other."""

import os
import signal
import subprocess
import sys
import time

import pytest

from workflow.gpus import slots_folder, take, visible_gpus

SHOW = "import os, sys, time; print(os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True); time.sleep(float(sys.argv[1]))"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose nvidia-smi lists two GPUs, with a folder for temporary files of its own."""
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'GPU 0: One (UUID: GPU-a)'\necho 'GPU 1: Other (UUID: GPU-b)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def start():
    """Starts jobs that say what they have and stay for so many seconds; those that are left are ended."""
    started = []

    def start(count, seconds=600.0, **environment):
        job = subprocess.Popen(
            [sys.executable, "-m", "workflow.gpus", str(count), sys.executable, "-c", SHOW, str(seconds)],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(job)
        return job

    yield start
    for job in started:
        job.kill()
        job.communicate()


def output(job):
    return job.communicate(timeout=200)[0].strip()


def test_jobs_get_different_gpus_and_a_third_waits_for_a_killed_one(machine, start):
    first, second = start(1), start(1)
    got = [first.stdout.readline().strip(), second.stdout.readline().strip()]
    assert sorted(got) == ["0", "1"]
    third = start(1)
    assert third.stderr.readline() == "waiting for 1 of the GPUs 0, 1 to be free\n"
    second.send_signal(signal.SIGKILL)
    second.wait()
    assert third.stdout.readline().strip() == got[1]


def test_a_job_of_two_is_not_passed_by_and_two_of_them_do_not_block_each_other(machine, start):
    first = start(1)
    assert first.stdout.readline().strip() == "0"
    pair = start(2, seconds=0)
    assert pair.stderr.readline() == "waiting for 2 of the GPUs 0, 1 to be free\n"
    behind = [start(2, seconds=0), start(1, seconds=0)]
    time.sleep(1)
    assert all(job.poll() is None for job in [pair, *behind]), "GPU 1 serves no pair, and no one goes before the first"
    first.kill()
    assert [output(pair), output(behind[0])] == ["0,1", "0,1"]
    assert output(behind[1]) in ("0", "1")


def test_the_command_is_run_with_its_exit_status(machine):
    done = subprocess.run([sys.executable, "-m", "workflow.gpus", "0", sys.executable, "-c", "raise SystemExit(7)"])
    assert done.returncode == 7


def test_more_than_there_are_is_an_error_that_says_so(machine, start):
    job = start(3, seconds=0)
    errors = job.communicate(timeout=200)[1]
    assert job.returncode != 0
    assert errors.strip() == (
        "error: 3 GPUs are asked for, and this machine has 2 (0, 1): lower `resources.gpus` in the suite"
    )


def test_an_outer_choice_is_respected(machine, start):
    assert output(start(1, 0, CUDA_VISIBLE_DEVICES="1")) == "1"
    assert output(start(2, 0, CUDA_VISIBLE_DEVICES="GPU-a, GPU-b")) == "GPU-a,GPU-b"
    assert output(start(2, 0, CUDA_VISIBLE_DEVICES="")) == ""


def test_slurm_jobs_count_their_gpus_apart(machine, start):
    """With cgroups every job sees its one GPU as number 0: they must not wait for each other."""
    jobs = [start(1, CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID=str(job)) for job in (7, 8)]
    assert [job.stdout.readline().strip() for job in jobs] == ["0", "0"]


def test_a_slurm_job_without_gpus_takes_none_of_the_machines(machine, start):
    assert output(start(1, 0, SLURM_JOB_ID="9")) == ""


def test_a_machine_without_gpus_runs_the_command_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus({}) == []
    environment = {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID")}
    done = subprocess.run(
        [sys.executable, "-m", "workflow.gpus", "2", sys.executable, "-c", SHOW, "0"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("None\n", "")


def test_torch_is_not_loaded_before_the_choice():
    code = "import sys, workflow.gpus; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_take_holds_until_its_files_are_closed(tmp_path):
    assert take(["0", "MIG-x/1"], 2, tmp_path) == ["0", "MIG-x/1"]
    assert slots_folder({"SLURM_JOB_ID": "5"}).name == "slurm-5"
