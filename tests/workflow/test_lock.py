"""One Snakemake at a time on the results of a suite."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from suite.errors import SuiteError
from workflow.lock import hold_results

ROOT = Path(__file__).resolve().parents[2]
HOLD = "import sys, time; from pathlib import Path; from workflow.lock import hold_results; \
held = hold_results(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "results/tiny/.lock"


@pytest.fixture
def holder(lock):
    """Another process that holds the results."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_is_told_who_the_first_is_and_what_to_do(lock, holder):
    with pytest.raises(SuiteError, match=r"another snakemake is at work on .*results/tiny \(process (\d+)") as error:
        hold_results(lock)
    assert f"process {holder.pid} on host {os.uname().nodename}, started in {os.getcwd()}" in str(error.value)
    assert "--config results=FOLDER" in str(error.value)


def test_the_kernel_frees_the_results_of_a_killed_one(lock, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    hold_results(lock).close()


def test_a_holder_that_has_not_said_who_it_is(lock, holder):
    lock.write_text("{")
    with pytest.raises(SuiteError, match="it has not said who it is"):
        hold_results(lock)


def test_results_of_another_suite_are_free(lock, holder):
    hold_results(lock.parents[1] / "other/.lock").close()


def test_a_job_that_outlives_its_snakemake_does_not_hold_the_results(lock):
    held = hold_results(lock)
    work = "import time; print('at work', flush=True); time.sleep(600)"
    job = subprocess.Popen([sys.executable, "-c", work], close_fds=False, stdout=subprocess.PIPE, text=True)
    assert job.stdout.readline() == "at work\n"
    held.close()
    try:
        hold_results(lock).close()
    finally:
        job.kill()
        job.wait()


def snakemake(folder, *arguments):
    """The launcher with the tiny suite, its results below `folder`. Returns its exit status and what it said."""
    place = ["--directory", str(folder), "--snakefile", str(ROOT / "Snakefile")]
    command = [sys.executable, str(ROOT / "environment/snakemake"), *arguments, *place]
    done = subprocess.run(
        [*command, "--configfile", "tests/workflow/tiny.yaml"], capture_output=True, text=True, cwd=ROOT
    )
    return done.returncode, done.stdout + done.stderr


def test_who_works_is_refused(lock, holder, tmp_path):
    code, output = snakemake(tmp_path, "data", "--cores", "1")
    assert code != 0
    assert f"another snakemake is at work on {lock.parent} (process {holder.pid}" in output
    assert "Traceback" not in output
    assert not (tmp_path / "results/tiny/suite.yaml").exists()


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize(
    "looking",
    ["data -n", "-np data", "--cores 2 data -n", "data --dag", "data --rulegraph", "--summary", "--unlock"],
)
def test_who_looks_is_let_through(tmp_path, looking):
    code, output = snakemake(tmp_path, *looking.split())
    assert code == 0, output
