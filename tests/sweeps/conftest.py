"""A suite with a `sweep:` block, and processes that work on its study without training anything."""

import copy
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time

import optuna
import pytest

from suite.suite import load_suite
from sweeps import study as studies
from sweeps import tracking
from sweeps import worker as workers
from sweeps.space import Search

CONFIGS = {
    "periou": "tests/workflow/configs/tiny_periou.py",
    "again": "tests/workflow/configs/tiny_iounet.py",
    "other": "tests/workflow/configs/tiny_adamw.py",
}
BLOCK = {
    "base": "samp1000_lw5.0",
    "published": ["periou"],
    "space": {"loss_weight": [1, 20], "per_img": [100, 2000], "per_iou": [10, 1000]},
    "guides": ["rank", "weight"],
    "step_sizes": [0, 0.5, 2],
    "trials": 5,
    "epochs": 2,
    "sampler": {"startup_trials": 2},
    "heartbeat": 3,  # a trial is dead after four: a busy machine must not starve a living one for as long
}


@pytest.fixture
def suite(tmp_path):
    """The tests' suite with a sweep, its results in a temporary folder with a manifest of data that are not there."""
    loaded = load_suite("tests/workflow/tiny.yaml")
    own = {name: {"family": "iounet", "config": config} for name, config in CONFIGS.items()}
    variants = {**loaded.raw["variants"], **own}
    return with_sweep(loaded.changed(pretraining=None, variants=variants, results=str(tmp_path)))


def with_sweep(loaded, **changes):
    """The suite with the block, some of its keys changed."""
    return loaded.changed(sweep=copy.deepcopy({**BLOCK, **changes}))


@pytest.fixture
def sweep(suite):
    manifest = suite.layout.data.manifest
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"fingerprint": "f" * 64, "categories": ["circle"], "splits": {}}))
    return Search(suite)


@pytest.fixture(autouse=True)
def tracked(monkeypatch):
    """What this process would log to W&B, as (trial, curve)."""
    logged = []
    monkeypatch.setattr(tracking, "log_trial", lambda suite, record, trial, curve: logged.append((trial, curve)))
    monkeypatch.setattr(
        tracking, "log_evaluation", lambda suite, folder, config: logged.append((folder.path.name, config))
    )
    return logged


def load_study(sweep):
    """The study as any other process sees it."""
    with studies.exclusive(sweep):  # the first to open a database makes its tables
        storage = studies.open_storage(sweep)
    return optuna.load_study(study_name=sweep.study, storage=storage)


class Team:
    """Workers in processes of their own, whose trials hang, or end at once with a value made of their parameters."""

    def __init__(self, sweep, monkeypatch):
        self.sweep, self.started = sweep, []
        self.context = multiprocessing.get_context("fork")
        self.hang = self.context.Event()
        monkeypatch.setattr(workers, "run_trial", self._run_trial)
        monkeypatch.setattr(workers, "POLL", 0.05)

    def _run_trial(self, sweep, trial, params, *, worker, threads):
        trial.set_user_attr("pid", os.getpid())
        while self.hang.is_set():
            time.sleep(0.02)
        time.sleep(0.05)
        return 1 / (1 + abs(params["loss_weight"] - 7))

    def start(self, *numbers):
        """Starts workers, at the same moment."""
        barrier = self.context.Barrier(len(numbers))

        def target(number):
            os.setpgid(0, 0)
            barrier.wait()
            workers.work(self.sweep, number)

        team = [self.context.Process(target=target, args=(number,), daemon=True) for number in numbers]
        for process in team:
            process.start()
        self.started += team
        return team

    def wait(self, team, timeout=250):
        for process in team:
            process.join(timeout)
            assert process.exitcode == 0, f"exit code {process.exitcode}"

    def wait_for_running(self, number, timeout=200):
        """Waits until so many trials are running; returns them."""
        deadline = time.monotonic() + timeout
        while True:
            assert time.monotonic() < deadline, f"not {number} running trials"
            try:
                trials = load_study(self.sweep).trials
            except KeyError:  # no study yet
                trials = []
            alive = {process.pid for process in self.started if process.is_alive()}
            found = [t for t in trials if t.state.name == "RUNNING" and t.user_attrs.get("pid") in alive]
            if len(found) == number:
                return found
            time.sleep(0.05)

    def stop(self):
        for process in self.started:
            if process.is_alive():
                process.kill()
                process.join()


@pytest.fixture
def team(sweep, monkeypatch):
    made = Team(sweep, monkeypatch)
    yield made
    made.stop()


def kill(pid):
    """kill -9, and wait until the kernel has freed what it held."""
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        time.sleep(0.01)


def _postgres_programs():
    newest = sorted((int(p.name), p) for p in _versions())
    return newest[-1][1] / "bin" if newest else None


def _versions():
    from pathlib import Path

    return [p for p in Path("/usr/lib/postgresql").glob("[0-9]*") if (p / "bin/initdb").is_file()]


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """A PostgreSQL server of its own on a socket in a temporary folder; its URL."""
    programs = _postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    as_user = []
    if os.getuid() == 0:  # the server refuses to run as root
        if shutil.which("runuser") is None or subprocess.run(["id", "postgres"], capture_output=True).returncode:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres or no runuser")
        as_user = ["runuser", "-u", "postgres", "--"]
    # a socket's path has at most 107 characters, and the server's user must reach it
    made = subprocess.run([*as_user, "mktemp", "-d", "/tmp/pg.XXXXXX"], capture_output=True, text=True, check=True)
    folder = made.stdout.strip()

    def run(*arguments):
        done = subprocess.run([*as_user, *arguments], capture_output=True, text=True, cwd="/", timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        run(programs / "initdb", "-D", f"{folder}/data", "-U", "tester", "-A", "trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses= -c fsync=off"
        run(programs / "pg_ctl", "-D", f"{folder}/data", "-l", f"{folder}/log", "-w", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://tester@/postgres?host={folder}"
        finally:
            run(programs / "pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
