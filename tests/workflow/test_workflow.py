"""The whole workflow on the tiny suite, typed as people type it, killed as machines kill it.

The tests of this module build on each other: one workspace, in the order of the file. Any of them may be left out.
"""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from experiments.tracking.offline import offline_runs, read_run
from tests.experiments.training.stopping import children, signal_all, tree, wait_until_ended

ROOT = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
STOPPED = "stopped; the same command goes on where it was"
CONFIGS = ROOT / "tests/workflow/configs"
ENVIRONMENT = {**os.environ, "PATH": f"{SNAKEMAKE.parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


class Workspace:
    """A folder to run the workflow in, with a suite and configs of its own."""

    def __init__(self, folder):
        self.folder, self.results = folder, folder / "results/tiny"
        suite = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
        for entry in [suite["pretraining"], *suite["variants"].values()]:
            name = Path(entry["config"]).name
            # a file of its own per variant, with its bases where they are
            (folder / name).write_text(f"_base_ = ['{CONFIGS / name}']\n")
            entry["config"] = str(folder / name)
        (folder / "tiny.yaml").write_text(yaml.safe_dump(suite))

    def command(self, *arguments):
        return [str(SNAKEMAKE), *arguments, "--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.folder)]

    def snakemake(self, *arguments, suite="tiny.yaml"):
        """Runs `snakemake ARGUMENTS` on the tiny suite; the configfile last, as it swallows the words after it."""
        done = subprocess.run(
            [*self.command(*arguments), "--configfile", str(self.folder / suite)],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=1500,
            cwd=ROOT,
        )
        return done.returncode, done.stdout + done.stderr

    def start(self, *arguments):
        return subprocess.Popen(
            [*self.command(*arguments), "--configfile", str(self.folder / "tiny.yaml")],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            start_new_session=True,
        )

    def wait_for(self, process, path, text=b""):
        deadline = time.monotonic() + 900
        while not (path.exists() and text in path.read_bytes()):
            assert process.poll() is None, f"snakemake ended before {text or 'anything'} in {path}"
            assert time.monotonic() < deadline, f"no {text} in {path}"
            time.sleep(0.05)

    def run_folder(self, variant):
        return self.results / "runs" / variant / "seed0"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("workflow"))


@pytest.fixture(scope="module")
def finished(workspace):
    """The workspace with everything made, by the first test or now."""
    code, output = workspace.snakemake("all", "--cores")
    assert code == 0, output
    return workspace


def test_killing_snakemake_alone_leaves_its_job_and_a_rerun_finishes(workspace):
    process = workspace.start("all", "--cores")
    workspace.wait_for(process, workspace.run_folder("faster_rcnn") / "train.log")
    everyone = tree(process.pid)
    process.kill()  # and with it Snakemake
    process.wait()
    signal_all(everyone, signal.SIGSTOP)  # the trainings, or one may end before the second Snakemake comes to it
    again = workspace.start("all", "--cores")
    try:
        workspace.wait_for(again, workspace.results / "logs/train_faster_rcnn_seed0.log", b"waiting for it to end")
        signal_all(everyone, signal.SIGCONT)
        assert again.wait(timeout=1500) == 0
    finally:
        signal_all([*everyone, *tree(again.pid)], signal.SIGKILL)
        again.wait()
    assert (workspace.results / "report/README.md").is_file()
    log = (workspace.run_folder("faster_rcnn") / "train.log").read_text()
    assert log.count("epoch 2/2, iteration 8/8") == 1, "the training that went on must not be trained again"


def test_ctrl_c_ends_all_of_it_in_one_line(tmp_path):
    place = Workspace(tmp_path)
    began = [*place.command("all", "--cores"), "--configfile", str(tmp_path / "tiny.yaml")]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(began, env=ENVIRONMENT, stdout=said, stderr=said, cwd=ROOT, start_new_session=True)
        place.wait_for(process, place.results / "logs/pretraining.log", b"workflow")
        everyone, before = tree(process.pid), (tmp_path / "said").read_text()
        assert len(everyone) > 3  # the launcher, Snakemake, a shell, a training
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=2) == 130
    wait_until_ended(everyone)
    assert (tmp_path / "said").read_text().removeprefix(before).split("\n") == ["", STOPPED, ""]


def inputs_of(tracked):
    """Name of each W&B run to its inputs, each of which is an artifact of another run."""
    made = {f"{a['name']}:{alias}" for run in tracked for a in run["artifacts"] for alias in a["aliases"]}
    used = {run["name"]: run["config"].get("uses", []) for run in tracked}
    assert all(set(uses) <= made for uses in used.values()), "every input is an artifact of another run"
    return used


def test_every_stage_left_what_the_file_contract_says(finished):
    for variant, settings in {"faster_rcnn": ["off"], "samp1000_lw5.0": ["off", "rank", "rank_refine0.25"]}.items():
        run = json.loads((finished.run_folder(variant) / "run.json").read_text())
        folder = finished.results / "evaluations" / variant / "seed0/val"
        for setting in settings:
            evaluation = json.loads((folder / f"{setting}.json").read_text())
            assert evaluation["checkpoint_sha256"] == run["checkpoint"]["sha256"]
            assert evaluation["images"] == 12
            assert 0 <= evaluation["metrics"]["AP50"] <= 1
            assert (folder / f"{setting}.matches.json.gz").is_file()
        assert (folder / "diagnostics.json").is_file() == (variant != "faster_rcnn")
        with (finished.run_folder(variant) / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["epoch"] for row in rows if row["val/AP"]] == ["1", "2"]
    speed = json.loads((finished.results / "speed/cpu.json").read_text())
    assert speed["checkpoints"]["samp1000_lw5.0"]["sha256"] == run["checkpoint"]["sha256"]
    assert run["mapped"]["sample_num"] == {"published": 1000, "actual": 30}
    tracked = [read_run(folder) for folder in offline_runs(finished.results.parent)]
    jobs = sorted(run["job_type"] for run in tracked)
    assert jobs == ["data", "eval", "eval", "report", "speed", "train", "train", "train"]
    used = inputs_of(tracked)
    assert {name: len(uses) for name, uses in used.items()} == {
        "tiny__data": 0,
        "tiny__pretraining__s0": 1,
        "tiny__faster_rcnn__s0": 2,
        "tiny__samp1000_lw5.0__s0": 2,
        "tiny__faster_rcnn__s0__val": 2,
        "tiny__samp1000_lw5.0__s0__val": 2,
        "tiny__speed__cpu": 3,
        "tiny__report": 2,
    }


def test_a_finished_workflow_has_nothing_to_do(finished):
    code, output = finished.snakemake("all", "-n")
    assert code == 0
    assert "Nothing to be done" in output


def test_a_comment_retrains_nothing(finished):
    config = finished.folder / "tiny_iounet.py"
    config.write_text("# a comment\n" + config.read_text())
    assert "Nothing to be done" in finished.snakemake("all", "-n")[1]


@pytest.mark.slow
def test_a_changed_config_retrains_its_variant_only_through_a_kill_of_everything(finished):
    config = finished.folder / "tiny_iounet.py"
    config.write_text(config.read_text() + "optimizer = dict(lr=0.001)\nrunner = dict(max_epochs=8)\n")
    before = (finished.run_folder("faster_rcnn") / "checkpoint.pth").stat().st_mtime_ns
    process = finished.start("all", "--cores")
    finished.wait_for(process, finished.run_folder("samp1000_lw5.0") / "epoch_1.pth")
    signal_all(tree(process.pid), signal.SIGKILL)
    process.wait()
    code, output = finished.snakemake("all", "--cores")
    assert code == 0, output
    assert (finished.run_folder("samp1000_lw5.0") / "train.log").read_text().count("continuing after epoch") == 1
    assert (finished.run_folder("faster_rcnn") / "checkpoint.pth").stat().st_mtime_ns == before
    assert "Nothing to be done" in finished.snakemake("all", "-n")[1]


def test_a_bare_ablation_reuses_what_is_there(finished):
    code, output = finished.snakemake("ablation")
    assert code == 0, output
    assert "rule train" not in output
    assert (finished.results / "ablation/README.md").is_file()


def test_one_more_seed_trains_only_that_seed(finished):
    suite = finished.folder / "tiny.yaml"
    suite.write_text(suite.read_text().replace("seeds:\n- 0\n", "seeds:\n- 0\n- 1\n"))
    code, output = finished.snakemake("all", "-n")
    assert code == 0, output
    wanted = {
        block.split("wildcards: ")[1].splitlines()[0] for block in output.split("rule ") if "wildcards: " in block
    }
    assert wanted == {
        f"variant={variant}, seed=1{split}"
        for variant in ("faster_rcnn", "samp1000_lw5.0")
        for split in ("", ", split=val")
    }
    assert "rule pretraining" not in output
    assert "rule data" not in output
    suite.write_text(suite.read_text().replace("- 1\n", ""))


def test_snakemakes_own_report_shows_tables_and_figures(finished):
    page = finished.folder / "snakemake-report.html"
    code, output = finished.snakemake("all", "--report", str(page))
    assert code == 0, output
    text = page.read_text()
    for part in ("main.csv", "improvement.png", "index.html", "of the report, as data"):
        assert part in text, part


def test_the_boxes_of_other_detectors_get_a_page(finished):
    code, output = finished.snakemake("anydetector", "--cores", "2")
    assert code == 0, output
    for head in ("per_class", "class_agnostic"):
        assert (finished.results / f"refiners/{head}/seed0/refiner.pth").is_file()
    for detector in ("faster_rcnn", "cascade_rcnn", "torchvision_faster_rcnn"):
        assert (finished.results / f"treatments/{detector}/seed0/val/evaluation.json").is_file()
    page = (finished.results / "anydetector/README.md").read_text()
    assert "Cascade R-CNN" in page and "Faster R-CNN (torchvision)" in page
    tracked = [read_run(run) for run in offline_runs(finished.folder / "results")]
    used = inputs_of(tracked)
    assert {"tiny__refiner_per_class__s0", "tiny__cascade_rcnn__s0", "tiny__faster_rcnn__treated__s0__val"} <= set(used)
    assert len(used["tiny__anydetector"]) == 3, "a treatment of each detector"
    code, output = finished.snakemake("anydetector", "--cores", "2", "-n")
    assert "Nothing to be done" in output


def test_a_second_suite_inherits_nothing_from_the_default(finished):
    code, output = finished.snakemake("all", "-n", "--forceall")
    assert code == 0
    trained = set(re.findall(r"/runs/([^/]+)/", output))
    assert trained == {"faster_rcnn", "samp1000_lw5.0"}


def test_a_typo_in_the_suite_is_an_error_that_names_it(finished):
    text = (finished.folder / "tiny.yaml").read_text()
    (finished.folder / "typo.yaml").write_text(text.replace("seeds:", "sedes:"))
    done = subprocess.run(
        [*finished.command("all", "-n"), "--configfile", str(finished.folder / "typo.yaml")],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode != 0
    assert "'sedes' was unexpected" in done.stdout + done.stderr


def test_two_at_once_are_refused_on_one_suite_and_not_on_two(finished, tmp_path):
    (finished.folder / "tiny_iounet.py").write_text(
        (finished.folder / "tiny_iounet.py").read_text() + "seed_of_test = 1\n"
    )
    other = finished.folder / "other.yaml"
    other.write_text((finished.folder / "tiny.yaml").read_text().replace("suite: tiny", "suite: other"))
    here, elsewhere = finished.folder, tmp_path
    process = finished.start("all", "--cores")
    try:
        # the first is at work, and has the rest of a training, an evaluation and a report before it
        finished.wait_for(process, finished.run_folder("samp1000_lw5.0") / "epoch_1.pth")
        for folder, results in ((here, "results"), (elsewhere, finished.results.parent)):
            code, output = finished.snakemake(
                "all", "--cores", "--directory", str(folder), "--config", f"results={results}"
            )
            assert code != 0
            (holder,) = children(process.pid)
            assert f"another snakemake is at work on {finished.results} (process {holder} on host" in output
            assert process.poll() is None
        code, output = finished.snakemake("data", "--cores", suite="other.yaml")
        assert code == 0, output
        assert (finished.folder / "results/other/data/dataset.json").is_file()
        assert process.poll() is None
    finally:
        signal_all(tree(process.pid), signal.SIGKILL)
        process.wait()
