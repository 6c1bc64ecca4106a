"""Whatever is killed and called again: a finished stage is one run with one id, and its results are left alone."""

import json
import signal
import subprocess
import sys

import pytest

from experiments.config import resolve_config
from experiments.finished import Finished
from experiments.tracking import runs
from experiments.tracking.evaluation import log_evaluation
from experiments.tracking.offline import is_whole, offline_runs, read_run
from experiments.tracking.track import main, track, track_all, track_finished
from experiments.tracking.trial import log_trial
from suite import records
from suite.files import read_json, write_json
from tests.experiments.tracking import tracked
from tests.experiments.tracking.tracked import HISTORY, RESULTS, VARIANT

TRIAL = {"study": "tiny__main", "number": 7, "params": {"loss_weight": 5.0}, "state": "complete", "value": 0.3}


class Case:
    """A finished stage of every kind: its record, its result file, its place, and how it is made anew."""

    def __init__(self, suite, kind):
        layout, self.suite, self.kind = suite.layout, suite, kind
        run, evaluation = layout.run(VARIANT, 3), layout.evaluation(VARIANT, 0, "val")
        self.record, self.result, self.path = {
            "data": (layout.data.record, layout.data.manifest, layout.data.path),
            "training": (run.record, run.run, run.path),
            "evaluation": (evaluation.record, evaluation.index, evaluation.path),
            "speed": (layout.speed_record("cpu"), layout.speed("cpu"), layout.speed("cpu")),
            "report": (layout.report.record, layout.report.provenance, layout.report.path),
            "trial": (layout.sweep.trial_record("tiny__main__t7"), None, None),
        }[kind]
        self.trial = TRIAL
        self.write()

    def write(self, is_other=False):
        """The files; other results with `is_other`."""
        suite, layout = self.suite, self.suite.layout
        match self.kind:
            case "data":
                tracked.write_data(layout.data)
                manifest = read_json(layout.data.manifest)
                write_json(layout.data.manifest, {**manifest, "fingerprint": "e" * 64} if is_other else manifest)
            case "training":
                weights = b"new weights" if is_other else b"the weights"
                tracked.write_training(suite, self.record.parent, weights=weights)
            case "evaluation":
                results = RESULTS if not is_other else {"off": tracked.result(None, None, 0.5)}
                if is_other:
                    results["off"]["setting"]["name"] = "off"
                tracked.write_evaluation(suite, self.record.parent, results=results)
            case "speed":
                tracked.write_speed(suite, fps=25.0 if is_other else 20.0)
            case "report":
                tracked.write_report(layout.report)
                layout.report.readme.write_text("# Another report" if is_other else "# A report")
            case "trial":
                self.trial = {**TRIAL, "value": 0.4} if is_other else TRIAL

    def log(self):
        if self.kind == "trial":
            return log_trial(self.suite, self.record, self.trial, {1: 0.1, 2: 0.2})
        return track_finished(Finished(self.suite, self.path))

    @property
    def runs(self):
        """The offline runs of the suite."""
        return offline_runs(self.suite.layout.root.parent)


KINDS = ("data", "training", "evaluation", "speed", "report", "trial")


@pytest.fixture(params=KINDS)
def stage(suite, request):
    return Case(suite, request.param)


class Killed(BaseException):
    """Passes through what catches exceptions, as a kill does."""


def kill(*args, **kwargs):
    raise Killed


def kill_in(stage, monkeypatch, owner, name):
    """Logs a stage until a function is called."""
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, kill)
        with pytest.raises(Killed):
            stage.log()


def tear(run):
    """What a kill leaves of a whole run: its log ends in the middle."""
    (log,) = run.glob("*.wandb")
    log.write_bytes(log.read_bytes()[:-20])
    assert not is_whole(run)


def test_a_stage_that_is_logged_twice_is_one_run(stage):
    run_id = stage.log()
    (run,) = stage.runs
    (log,) = run.glob("*.wandb")
    before = log.stat().st_mtime_ns
    assert stage.log() == run_id == read_run(run)["id"]
    assert stage.runs == [run]
    assert log.stat().st_mtime_ns == before, "it is not written again"
    record = read_json(stage.record)
    assert (record["run_id"], record["is_logged"]) == (run_id, True)


def test_other_results_are_another_run(stage):
    first = stage.log()
    stage.write(is_other=True)
    second = stage.log()
    assert first != second
    assert {read_run(run)["id"] for run in stage.runs} == {first, second}


def test_killed_between_claim_and_run(stage, monkeypatch):
    kill_in(stage, monkeypatch, runs, "_write")
    claimed = read_json(stage.record)
    assert (stage.runs, claimed["is_logged"]) == ([], False)
    assert stage.log() == claimed["run_id"]
    (run,) = stage.runs
    assert read_run(run)["id"] == claimed["run_id"]
    assert read_json(stage.record) == {**claimed, "is_logged": True}


def test_killed_between_run_and_mark_the_whole_run_stays(stage, monkeypatch):
    kill_in(stage, monkeypatch, records, "mark_as_logged")
    (run,) = stage.runs
    claimed = read_json(stage.record)
    monkeypatch.setattr(runs, "_write", kill)
    assert stage.log() == claimed["run_id"]
    assert stage.runs == [run]
    assert read_json(stage.record) == {**claimed, "is_logged": True}


@pytest.mark.parametrize("is_empty", [False, True], ids=["a log without an end", "no log"])
def test_killed_within_the_run_what_it_left_gives_way_to_a_whole_one(stage, monkeypatch, is_empty):
    kill_in(stage, monkeypatch, records, "mark_as_logged")
    (torn,) = stage.runs
    tear(torn)
    if is_empty:
        next(torn.glob("*.wandb")).unlink()
    (torn / "of the killed").touch()
    claimed = read_json(stage.record)["run_id"]
    assert stage.log() == claimed
    (run,) = stage.runs
    assert is_whole(run) and read_run(run)["id"] == claimed
    assert not (run / "of the killed").exists()


def test_a_whole_run_of_which_it_is_not_known_that_it_holds_these_results_is_written_again(suite):
    stage = Case(suite, "training")
    run_id = stage.log()
    begun = {key: value for key, value in read_json(stage.record)["identity"].items() if key != "checkpoint"}
    write_json(stage.record, {"identity": begun, "run_id": run_id, "is_logged": False})
    (stage.runs[0] / "of another training").touch()
    assert stage.log() == run_id
    (run,) = stage.runs
    assert not (run / "of another training").exists()


def test_a_whole_run_of_results_that_were_never_logged_stays_and_a_torn_one_goes(stage, monkeypatch):
    kill_in(stage, monkeypatch, records, "mark_as_logged")
    (first,) = stage.runs
    stage.write(is_other=True)
    kill_in(stage, monkeypatch, records, "mark_as_logged")
    (second,) = [run for run in stage.runs if run != first]
    tear(second)
    stage.write()
    stage.log()
    assert first in stage.runs and second not in stage.runs
    assert len(stage.runs) == 2


def test_interrupted_by_its_user_no_run_is_left(suite, monkeypatch):
    stage = Case(suite, "training")
    kill_in(stage, monkeypatch, runs, "wait_until_whole")
    assert stage.runs == []


def test_really_killed_while_it_is_written(suite, tmp_path):
    stage = Case(suite, "training")
    code = f"""
import time
from pathlib import Path
from experiments.finished import Finished
from experiments.tracking import training
from experiments.tracking.track import track_finished
from suite.suite import load_suite

def log_some_rows(run, rows):
    run.log({{"iteration": 10, "loss": 2.0}}, step=10)
    print("begun", flush=True)
    time.sleep(600)

training.log_rows = log_some_rows
track_finished(Finished(load_suite({str(suite.layout.suite_file)!r}), Path({str(stage.path)!r})))
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=runs.environment(), text=True) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGKILL)
    (torn,) = stage.runs
    claimed = read_json(stage.record)
    assert not is_whole(torn) and not claimed["is_logged"]
    assert track(suite) == 1
    (run,) = stage.runs
    assert is_whole(run) and read_run(run)["id"] == claimed["run_id"]
    assert [row["_step"] for row in read_run(run)["history"]] == [10, 20, 30, 40]
    assert track(suite) == 0


def test_only_the_record_is_added_to_a_stages_folder(stage):
    def files():
        own = [path for path in stage.suite.layout.root.rglob("*") if path.is_file()]
        return {
            path: (path.read_bytes(), path.stat().st_mtime_ns)
            for path in own
            if not path.is_relative_to(stage.suite.layout.wandb)
        }

    before = files()
    assert stage.log() is not None
    after = files()
    assert after.keys() - before.keys() == {stage.record}
    assert {path: after[path] for path in before} == before


@pytest.mark.parametrize("kind", ["training", "evaluation", "speed"])
def test_results_of_the_first_release_are_not_logged_again(suite, kind, capsys):
    stage = Case(suite, kind)
    write_json(stage.result, {**read_json(stage.result), "wandb_run_id": "abcd1234"})
    suite.layout.data.manifest.unlink(missing_ok=True)  # of the evaluation: it is to be the only stage
    assert stage.log() == "abcd1234"
    assert track(suite) == 0
    assert stage.runs == []
    assert not stage.record.exists()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["data", "report"])
def test_data_and_report_of_the_first_release_are_known_by_the_name_of_their_run(suite, kind):
    stage = Case(suite, kind)
    stage.log()
    stage.record.unlink()
    assert track(suite) == 0
    (run,) = stage.runs
    tear(run)
    assert track(suite) == 1, "no run that was logged"


def test_a_trial_of_the_first_release_is_known_by_its_run(suite):
    stage = Case(suite, "trial")
    run_id = stage.log()
    stage.record.unlink()
    assert stage.log() == run_id
    assert len(stage.runs) == 1
    stage.trial = {**TRIAL, "params": {"loss_weight": 6.0}}
    assert stage.log() not in (None, run_id), "another study's trial of this number"
    assert len(stage.runs) == 2


def test_untracked_results_of_the_first_release_are_logged(suite):
    stage = Case(suite, "training")
    write_json(stage.result, {**read_json(stage.result), "wandb_run_id": None})
    before = stage.result.read_bytes()
    assert track(suite) == 1
    assert records.run_id(stage.record, read_json(stage.result)) == read_run(stage.runs[0])["id"]
    assert stage.result.read_bytes() == before


def test_what_ran_while_disabled_is_logged_later_all_of_it_by_one_call(suite, tmp_path, monkeypatch):
    stages = [Case(suite, kind) for kind in KINDS]
    stages.append(pretraining := Case(suite, "training"))
    tracked.write_training(suite, suite.layout.pretraining.path, variant="pretraining", seed=0)
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        assert [stage.log() for stage in stages] == [None] * len(stages)
        assert track_all(tmp_path / "results") == 0
    assert not suite.layout.wandb.exists()
    assert list(tmp_path.rglob("*wandb_run.json")) == []

    assert track_all(tmp_path / "results") == 6
    names = {read_run(run)["name"] for run in pretraining.runs}
    stems = ("data", f"{VARIANT}__s3", f"{VARIANT}__s0__val", "speed__cpu", "report", "pretraining__s0")
    assert names == {f"tiny__{stem}" for stem in stems}
    assert track_all(tmp_path / "results") == 0


def test_results_that_were_made_again_while_disabled_are_logged_later(suite, monkeypatch):
    stage = Case(suite, "training")
    first = stage.log()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    stage.write(is_other=True)
    assert stage.log() is None
    assert records.run_id(stage.record, read_json(stage.result)) is None, "the known run is of other weights"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert track(suite) == 1
    assert records.run_id(stage.record, read_json(stage.result)) not in (None, first)


def test_a_trial_whose_worker_was_killed_is_logged_from_its_record(suite, monkeypatch):
    stage = Case(suite, "trial")
    kill_in(stage, monkeypatch, runs, "_write")
    assert track(suite) == 1
    (run,) = map(read_run, stage.runs)
    assert run["id"] == read_json(stage.record)["run_id"]
    assert [(row["_step"], row["trial/intermediate"]) for row in run["history"]] == [(1, 0.1), (2, 0.2)]
    assert (run["summary"]["trial/value"], run["config"]["trial"]) == (0.3, 7)
    assert track(suite) == 0


def test_an_evaluation_of_a_sweeps_trial_needs_its_config_and_has_no_checkpoint_artifact(suite, capsys):
    sweep = {"base": VARIANT, "space": {"loss_weight": [1, 20]}, "guides": ["rank"], "step_sizes": [0, 1]}
    suite = suite.changed(sweep={**sweep, "split": "tune"})
    config = resolve_config(suite, VARIANT, {"model.roi_head.iou_head.loss_iou.loss_weight": 7.0})
    folder = tracked.write_evaluation(suite, suite.layout.sweep.evaluation("winner").path, variant="sweep_winner")
    assert log_evaluation(suite, folder) is None
    assert "no variant 'sweep_winner'" in capsys.readouterr().err
    run_id = log_evaluation(suite, folder, config=config)
    (run,) = map(read_run, offline_runs(suite.layout.root.parent))
    assert (run["id"], run["name"], run["group"]) == (run_id, "tiny__sweep_winner__s0__val", "sweep_winner")
    assert run["config"]["uses"] == ["tiny__data:" + "f" * 16]
    assert (run["config"]["variant"], run["config"]["entry"]["family"]) == (VARIANT, "iounet")
    assert run["config"]["mmdet"]["model"]["roi_head"]["iou_head"]["loss_iou"]["loss_weight"] == 7.0
    assert run["config"]["mmdet"]["model"]["roi_head"]["bbox_head"]["num_classes"] == 2
    assert config.model.roi_head.bbox_head.num_classes == 5, "the caller's config is left as it is"
    assert track(suite) == 1, "the data alone"
    with pytest.raises(SystemExit, match="is part of a sweep"):
        main([str(folder.path)])


def test_the_command_logs_what_it_is_given_of_the_suite_above(suite, tmp_path, capsys):
    stages = {kind: Case(suite, kind) for kind in ("training", "speed", "report", "data")}
    assert main([str(stages["training"].record.parent), str(stages["speed"].result)]) == 0
    assert capsys.readouterr().out == "2 runs written\n"
    assert {read_run(run)["job_type"] for run in stages["data"].runs} == {"train", "speed"}
    assert main([str(stages["report"].result)]) == 0
    assert main(["--results", str(tmp_path / "results")]) == 0
    assert capsys.readouterr().out == "1 runs written\n1 runs written\n"
    assert main(["--suite", str(suite.layout.suite_file)]) == 0
    assert capsys.readouterr().out == "0 runs written\n"


def test_a_path_without_a_suite_is_told_what_to_do(tmp_path):
    with pytest.raises(SystemExit, match=r"no suite\.yaml above it: name the suite with --suite"):
        main([str(tmp_path)])


def test_a_suite_in_a_folder_of_another_name_is_told_and_the_others_are_tracked(suite, tmp_path, capsys):
    Case(suite, "training")
    other = tmp_path / "results/renamed"
    other.mkdir()
    (other / "suite.yaml").write_text(suite.text)
    assert track_all(tmp_path / "results") == 1
    assert "renamed/suite.yaml is of suite 'tiny'" in capsys.readouterr().err


def test_what_cannot_be_logged_is_told_and_logged_when_it_can(suite, capsys):
    stage = Case(suite, "training")
    folder = suite.layout.run(VARIANT, 3)
    folder.metrics.write_text(json.dumps({"loss": 1.0}) + "\n")
    assert track(suite) == 0
    assert f"this stage goes untracked (SuiteError: {folder.metrics}, line 1" in capsys.readouterr().err
    claimed = read_json(stage.record)
    folder.metrics.unlink()
    tracked.write_log(folder.metrics, HISTORY)
    assert track(suite) == 1
    assert read_json(stage.record) == {**claimed, "is_logged": True}
