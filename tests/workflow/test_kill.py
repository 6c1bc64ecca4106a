"""Kills at random points of the whole workflow, sweep and W&B included (`make test-kill`).

A round starts in an empty folder and runs the tiny suite. Once a file has appeared that is drawn from the next to come,
and a moment later, it is killed: by turns one process alone, and all of them as when a machine dies. Then the same
command is run again, to the next kill. When a round is through, its results must be those of a run that nobody
disturbed. The draws are seeded; where exactly a kill hits depends on the machine.
"""

import contextlib
import csv
import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from itertools import chain
from pathlib import Path

import optuna
import pytest
import yaml

from experiments.tracking.offline import damage, offline_runs, read_run
from suite.files import sha256
from suite.layout import Layout, RunFolder
from tests.experiments.training.stopping import signal_all, tree
from tests.workflow.test_workflow import CONFIGS, ENVIRONMENT, ROOT, SNAKEMAKE

pytestmark = pytest.mark.kill
SEED, KILLS, SECONDS = 12, 20, 1800
NEXT = 25  # files to come, among which a kill's is drawn
FEW = 9  # with no more to come a round is left alone
# Files that are no points: the many that come in one moment, and those whose names are drawn
PASSED_OVER = re.compile(
    r"data/[^/]+/|wandb/(?!\.locks/\w+__)|report/(tables|figures)/|logs/|.*\.(part|lock)$|\.snakemake"
)
# What a time or a kill may change: columns of the report's tables, and keys of its verdicts
VOLATILE = (
    "trial",
    "from",
    "time",
    "W&B run",
    "wall time",
    "FPS",
    "latency",
    "quartiles",
    "ratio",
    "adds, ms",
    "seconds per",
)
# Two trainings of each variant, of images so easy that they find something: else there would be no verdicts
SEEDS, OBJECTS, SIZES = [0, 1], [1, 2], [36, 52]
SPLITS = {"pretrain": {"images": 600}, "train": {"images": 64}}
SWEEP = {
    "base": "samp1000_lw5.0",
    "published": ["periou"],
    "space": {"loss_weight": [1, 20], "per_img": [100, 2000], "per_iou": [10, 1000]},
    "guides": ["rank", "weight"],
    "step_sizes": [0, 0.5],
    "trials": 3,
    "workers": 1,  # of several, the clock says which of them takes which trial
    "epochs": 2,
    "sampler": {"startup_trials": 9},  # TPE would depend on the order in which the others were complete
}


class Round:
    """The tiny suite in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        suite = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
        suite["variants"]["periou"] = {"family": "iounet", "config": str(CONFIGS / "tiny_periou.py")}
        suite["sweep"], suite["seeds"] = SWEEP, SEEDS
        suite["dataset"] |= {"objects": OBJECTS, "sizes": SIZES, "splits": suite["dataset"]["splits"] | SPLITS}
        self.file = folder / "tiny.yaml"
        self.file.write_text(yaml.safe_dump(suite))
        self.folder, self.layout = folder, Layout(folder / "results/tiny")
        self.started: list[subprocess.Popen] = []

    def start(self) -> subprocess.Popen:
        place = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.folder)]
        with (self.folder / "snakemake.log").open("a") as log:
            process = subprocess.Popen(
                [str(SNAKEMAKE), "all", "--cores", "2", *place, "--configfile", str(self.file)],
                env=ENVIRONMENT,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def stop(self) -> None:
        """Ends what a failed test, or a killed Snakemake, leaves at work."""
        for process in self.started:
            signal_all(tree(process.pid), signal.SIGKILL)

    def files(self) -> list[str]:
        """Files and folders that may be a point, as paths below the results."""
        tree = os.walk(self.layout.root)  # unlike rglob, it bears with folders that vanish meanwhile
        paths = (self.layout.relative(Path(folder, name)) for folder, *names in tree for name in chain(*names))
        return sorted(path for path in paths if not PASSED_OVER.match(path))

    def points(self) -> list[str]:
        """Runs to the end. Returns the files in the order in which they appeared."""
        seen: dict[str, None] = {}
        process = self.start()
        while process.poll() is None:
            seen |= dict.fromkeys(self.files())
            time.sleep(0.2)
        assert process.returncode == 0, self.tail()
        return list(seen)

    def tail(self) -> str:
        return (self.folder / "snakemake.log").read_text()[-3000:]

    def wait_for(self, process: subprocess.Popen, point: str) -> bool:
        """Waits for a file; False if the run ended before."""
        deadline = time.monotonic() + SECONDS
        while not (self.layout.root / point).exists():
            assert time.monotonic() < deadline, f"{point} did not come: {self.tail()}"
            if process.poll() is not None:
                return False
            time.sleep(0.05)
        return True

    def wait_for_second_try(self, process: subprocess.Popen) -> None:
        """Waits while a trial is at work that was killed before: of two kills it is given up, as the study says."""
        journal = self.layout.sweep.journal
        while process.poll() is None and journal.is_file() and any(map(is_second_try, running(journal))):
            time.sleep(0.5)

    def found(self) -> dict[str, object]:
        """What must not depend on kills."""
        root = self.layout.root
        trained = [self.layout.pretraining, *self.layout.runs(), *map(RunFolder, root.glob("sweep/trials/*"))]
        weights = {self.layout.relative(run.path): sha256(run.checkpoint) for run in trained}
        verdicts = json.loads(self.layout.report.verdicts.read_text())
        assert verdicts, "no verdicts: the trainings found nothing"
        timed = {verdict["claim"] for verdict in verdicts if verdict["kind"] == "ratio"}
        tables = {path.name: stable(path, timed) for path in sorted(self.layout.report.tables.glob("*.csv"))}
        judged = [
            {key: value for key, value in verdict.items() if "family" not in key}  # the family has those on times
            for verdict in verdicts
            if verdict["kind"] != "ratio"
        ]
        runs = [(read_run(run)["name"], damage(run)) for run in offline_runs(root.parent)]
        named = Counter(re.sub(r"__t\d+$", "__t", name) for name, _ in runs)  # a trial's retry has another number
        damaged = [name for name, reason in runs if reason]
        return {"weights": weights, "tables": tables, "verdicts": judged, "runs": named, "damaged runs": damaged}


def running(journal: Path) -> list[optuna.trial.FrozenTrial]:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    states = (optuna.trial.TrialState.RUNNING,)
    return [
        trial for study in storage.get_all_studies() for trial in storage.get_all_trials(study._study_id, states=states)
    ]


def is_second_try(trial: optuna.trial.FrozenTrial) -> bool:
    return "failed_trial" in trial.system_attrs


def stable(path: Path, timed: set[str]) -> list[list[str]]:
    """The cells of a table that no time and no kill may change; claims on times and failed trials are left out."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("state") != "fail" and row.get("claim") not in timed]
    kept = [[v for k, v in row.items() if not k.startswith(VOLATILE) and k != "in the family"] for row in rows]
    return sorted(kept) if path.name == "sweep_trials.csv" else kept


def kill(current: Round, process: subprocess.Popen, rng: random.Random, *, alone: bool) -> str:
    """Kills one process, Snakemake or another, or all, those of an earlier Snakemake too. Returns which."""
    everyone = tree(process.pid)
    victims = [rng.choice([everyone[0], rng.choice(everyone)])] if alone else everyone
    command = ""
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{victims[0]}/cmdline").read_text().replace("\0", " ")
    signal_all(victims, signal.SIGKILL)
    if not alone:
        current.stop()
    process.wait(SECONDS)  # a Snakemake whose job was killed does what is left to do
    if not alone:
        return f"all {len(victims)} processes"
    job = re.search(r"-m ((?:experiments|sweeps|reports)[\w. ]+)", command)
    return "snakemake alone" if victims[0] == process.pid else f"alone: {job[1] if job else command[:60]}"


def different(expected: dict[str, object], found: dict[str, object]) -> list[str]:
    """What differs, by name."""
    problems = []
    for key, value in expected.items():
        if isinstance(value, dict):
            other = found[key]
            problems += [f"{key}: {name}" for name in sorted({*value, *other}) if value.get(name) != other.get(name)]
        elif value != found[key]:
            problems.append(f"{key}: {found[key]}")
    return problems


def test_results_survive_kills_at_random_points(tmp_path):
    began = time.monotonic()
    reference = Round(tmp_path / "reference")
    points = reference.points()
    print(f"\nundisturbed: {time.monotonic() - began:.0f} s, {len(points)} points", flush=True)
    assert not kill_in_rounds(tmp_path, points, reference.found())


def kill_in_rounds(folder: Path, points: list[str], expected: dict[str, object]) -> list[str]:
    """Kills `KILLS` times, and says so. Returns what then differs from the expected results."""
    rng, kills, equal, failed, number = random.Random(SEED), 0, 0, [], 0
    began = time.monotonic()
    while kills < KILLS:
        number += 1
        assert number <= KILLS, "rounds end before they are killed"
        current, own = Round(folder / f"round{number}"), 0
        try:
            while kills + own < KILLS and kill_once(current, points, rng, kills + own + 1):
                own += 1
            process = current.start()
            assert process.wait(SECONDS) == 0, current.tail()
            problems = different(expected, current.found())
        except (AssertionError, OSError, KeyError) as error:
            problems = [str(error)]
        finally:
            current.stop()
        kills += own
        equal += 0 if problems else own
        failed += [f"round {number}, {own} kills: {problem}" for problem in problems]
        print(f"     {current.folder.name}: {'; '.join(problems) or 'equal'}", flush=True)
    print(f"{equal} of {kills} kills, {time.monotonic() - began:.0f} s", *failed, sep="\n", flush=True)
    return failed


def kill_once(current: Round, points: list[str], rng: random.Random, number: int) -> bool:
    """Starts a round's command and kills it, and says where; False if it was too near its end to be killed."""
    left = [point for point in points if not (current.layout.root / point).exists()]
    if len(left) < FEW:
        return False
    point, delay = rng.choice(left[:NEXT]), rng.uniform(0, 2)
    process = current.start()
    if not current.wait_for(process, point):
        return False
    time.sleep(delay)
    current.wait_for_second_try(process)
    if process.poll() is not None:
        return False
    victim = kill(current, process, rng, alone=number % 2 == 1)
    print(f"{number:>3}  {current.folder.name}, {delay:.1f} s after {point}: {victim}", flush=True)
    return True
