"""The runs of refiners, and of the treatments of a detector's boxes."""

import pytest

from experiments.finished import Finished
from experiments.tracking.offline import read_run
from experiments.tracking.track import track, track_finished
from suite.files import read_json, write_json
from suite.layout import RunFolder
from suite.treatments import CLASS_AGNOSTIC, GUIDED, HEADS, PLAIN, Treatment
from tests.experiments.tracking.test_stages import offline_runs, table
from tests.experiments.tracking.tracked import FINGERPRINT, write_data, write_training


def write_refiner(suite, head):
    """A finished training of a refiner, where the workflow puts it."""
    folder = suite.layout.refiner(head, 3)
    folder.path.mkdir(parents=True)
    written = write_training(suite, folder.path, seed=3, weights=f"weights of {head}".encode())
    written.checkpoint.rename(folder.checkpoint)
    write_json(folder.run, {**read_json(RunFolder(folder.path).run), "head": head})
    return folder


@pytest.fixture
def treated(suite):
    """Two treatments of a detector's boxes, where the workflow puts them."""
    folder = suite.layout.treated("cascade_rcnn", 3, "val")
    folder.path.mkdir(parents=True)
    write_data(suite.layout.data)
    place = {"suite": suite.name, "variant": "cascade_rcnn", "seed": 3, "split": "val"}
    origin = {"checkpoint_sha256": "5" * 64, "config_hash": "c0ffee", "git_commit": None}
    origin |= {"dataset_fingerprint": FINGERPRINT}
    ap = {}
    for one, value in ((PLAIN, 0.25), (Treatment(GUIDED, head="per_class"), 0.5)):
        metrics = {"metrics": {"AP": value, "AP90": None}, "per_class": {"cat": value, "dog": None}}
        write_json(folder.setting(one.name), {**place, **origin, "treatment": one.described(), **metrics, "images": 2})
        ap[one.name] = value
    write_json(folder.detections, {"images": [1, 2], "settings": {}})
    refiners = {head: {"sha256": str(number) * 64} for number, head in enumerate(HEADS)}
    counted = {"images": 2, "candidates": 50, "seconds": {"detect": 1.5}, "versions": {}, "hardware": {}}
    write_json(folder.index, {**place, **origin, "refiners": refiners, **counted, "AP": ap})
    return folder


@pytest.mark.parametrize("head", HEADS)
def test_a_refiner_is_a_training_with_a_name_of_its_own(suite, head):
    folder = write_refiner(suite, head)
    track_finished(Finished(suite, folder.path))
    (run,) = map(read_run, offline_runs(suite.layout.root.parent))
    assert (run["name"], run["group"], run["job_type"]) == (f"tiny__refiner_{head}__s3", f"refiner_{head}", "train")
    config = run["config"]
    assert config["head"] == head
    assert config["mmdet"]["model"]["roi_head"]["iou_head"]["class_agnostic"] == (head == CLASS_AGNOSTIC)
    assert len(run["history"]) == 4


def test_treatments_are_one_run_that_names_what_it_was_made_from(suite, treated):
    track_finished(Finished(suite, treated.path))
    (folder,) = offline_runs(suite.layout.root.parent)
    run = read_run(folder)
    assert (run["name"], run["job_type"]) == ("tiny__cascade_rcnn__treated__s3__val", "treat")
    assert run["config"]["uses"] == [
        "tiny__cascade_rcnn__s3:5555555555555555",
        "tiny__refiner_per_class__s3:0000000000000000",
        "tiny__refiner_class_agnostic__s3:1111111111111111",
        "tiny__data:ffffffffffffffff",
    ]
    assert run["config"]["candidates"] == 50
    columns, rows = table(folder, "average_precision")
    assert columns[:2] == ["setting", "AP"]
    assert [row[:2] for row in rows] == [["hard0.5", 0.25], ["guided0.5", 0.5]]
    assert run["summary"]["guided0.5/AP"] == 0.5


def test_what_was_not_tracked_is_found(suite, treated):
    for head in HEADS:
        write_refiner(suite, head)
    assert track(suite) == 4  # and the data
    assert track(suite) == 0
