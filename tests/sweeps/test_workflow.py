"""`snakemake sweep` on the tiny suite: real trainings, killed in mid-trial.

The tests of this module build on each other: one workspace, in the order of the file.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from mmcv import Config

from experiments.tracking.offline import offline_runs, read_run
from suite.suite import load_suite
from sweeps import study as studies
from sweeps.space import Search
from tests.sweeps.conftest import BLOCK, CONFIGS, load_study

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
ENVIRONMENT = {**os.environ, "PATH": f"{SNAKEMAKE.parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
TABLES = ("trials.csv", "curves.csv", "profiles.csv")
RESULTS = (*TABLES, "sweep.json", "importance.json", "best.json", "best.py", "best_variant.py", "best.yaml")


class Workspace:
    def __init__(self, folder):
        self.folder, self.results = folder, folder / "results/tiny/sweep"
        suite = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
        suite["sweep"] = {**BLOCK, "trials": 3}
        suite["variants"]["periou"] = {"family": "iounet", "config": CONFIGS["periou"]}
        suite["results"] = str(folder / "results")
        (folder / "tiny.yaml").write_text(yaml.safe_dump(suite))

    def command(self, *arguments, suite="tiny.yaml"):
        place = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.folder)]
        return [str(SNAKEMAKE), *arguments, *place, "--configfile", str(self.folder / suite)]

    def snakemake(self, *arguments, suite="tiny.yaml"):
        done = subprocess.run(
            self.command(*arguments, suite=suite),
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=900,
            cwd=ROOT,
        )
        return done.returncode, done.stdout + done.stderr

    def sweep(self):
        return Search(load_suite(self.folder / "tiny.yaml"))

    def trials(self):
        return load_study(self.sweep()).trials


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("sweep"))


def in_mid_trial(workspace):
    """A training of a trial that has an epoch behind it and another before it."""
    for state in (workspace.results / "trials").glob("*/epoch_1.pth"):
        if not (state.parent / "epoch_2.pth").exists() and not (state.parent / "checkpoint.pth").exists():
            return state.parent
    return None


def test_killed_in_mid_trial_and_run_again(workspace):
    process = subprocess.Popen(
        workspace.command("sweep", "--cores", "2"),
        env=ENVIRONMENT,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 600
    while (killed := in_mid_trial(workspace)) is None:
        assert process.poll() is None, "the sweep ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "checkpoint.pth").exists()
    assert "RUNNING" in {trial.state.name for trial in workspace.trials()}

    code, output = workspace.snakemake("sweep", "--cores", "2")
    assert code == 0, output
    trials = workspace.trials()
    states = [trial.state.name for trial in trials]
    assert states.count("COMPLETE") == 3
    assert "RUNNING" not in states and "FAIL" in states
    for number in (trial.number for trial in trials if trial.state.name == "FAIL"):
        assert sum(studies.retry_of(trial) == number for trial in trials) == 1
    log = (killed / "train.log").read_text()
    assert "continuing after epoch 1" in log
    assert log.count("epoch 1/2, iteration 4/8") == 1, "the epoch that was done must not be trained again"
    assert log.count("epoch 2/2, iteration 8/8") == 1
    retry = next(t for t in trials if studies.retry_of(t) is not None and t.user_attrs["folder"].endswith(killed.name))
    assert sorted(retry.intermediate_values) == [1, 2]


def test_every_result_is_there_and_fits_the_others(workspace):
    assert all((workspace.results / name).is_file() for name in RESULTS)
    best = json.loads((workspace.results / "best.json").read_text())
    winner = max((t for t in workspace.trials() if t.state.name == "COMPLETE"), key=lambda t: (t.value, -t.number))
    assert (best["trial"], best["value"], best["params"]) == (winner.number, winner.value, winner.params)
    summary = json.loads((workspace.results / "sweep.json").read_text())
    assert summary["states"]["complete"] == 3
    run = json.loads((workspace.results / winner.user_attrs["folder"] / "run.json").read_text())
    for setting in set(summary["settings"].values()):
        evaluation = json.loads((workspace.results / f"val/winner/{setting}.json").read_text())
        assert evaluation["checkpoint_sha256"] == run["checkpoint"]["sha256"]
        assert (evaluation["split"], evaluation["images"]) == ("val", 12)
        assert (workspace.results / f"val/winner/{setting}.matches.json.gz").is_file()
    for log in (workspace.results.parent / "logs").glob("*.log"):
        assert "untracked" not in log.read_text(), f"{log.name}: a stage went untracked"
    assert Config.fromfile(str(workspace.results / "best.py")).runner.max_epochs == 2


def test_every_trial_that_ended_and_both_evaluations_are_one_run_each(workspace):
    runs = [read_run(run) for run in offline_runs(workspace.folder / "results")]
    ended = [f"tiny__main__t{t.number}" for t in workspace.trials() if t.state.name in ("COMPLETE", "PRUNED")]
    sides = [f"tiny__sweep_{side}__s0__val" for side in ("default", "winner")]
    assert sorted(run["name"] for run in runs if run["job_type"] in ("sweep", "eval")) == sorted([*ended, *sides])


def test_a_finished_sweep_has_nothing_to_do_and_belongs_to_all(workspace):
    assert "Nothing to be done" in workspace.snakemake("sweep", "-n")[1]
    code, output = workspace.snakemake("all", "-n")
    assert code == 0 and "sweep/sweep.json" in output


def test_a_larger_budget_in_a_file_of_its_own_continues_the_study(workspace):
    before = {t.number: t.value for t in workspace.trials()}
    (workspace.folder / "more.yaml").write_text("sweep: {trials: 4}\n")
    command = [*workspace.command("sweep", "--cores", "2"), str(workspace.folder / "more.yaml")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=900, cwd=ROOT)
    code, output = done.returncode, done.stdout + done.stderr
    assert code == 0, output
    trials = workspace.trials()
    assert sum(trial.state.name == "COMPLETE" for trial in trials) == 4
    assert {t.number: t.value for t in trials if t.number in before} == before


def test_a_suite_without_a_block_says_so(workspace):
    suite = yaml.safe_load((workspace.folder / "tiny.yaml").read_text())
    del suite["sweep"]
    (workspace.folder / "none.yaml").write_text(yaml.safe_dump(suite))
    code, output = workspace.snakemake("sweep", "-n", suite="none.yaml")
    assert code != 0
    assert "suite 'tiny' has no `sweep:` block" in output
    code, output = workspace.snakemake("all", "-n", suite="none.yaml")
    assert code == 0 and "rule train:" in output
    assert "rule sweep" not in output
