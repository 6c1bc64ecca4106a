"""The runs of RoI poolings, and of the pages beside the report."""

import pytest

from experiments.finished import Finished
from experiments.tracking.offline import read_run
from experiments.tracking.track import track, track_finished
from suite.files import write_json
from tests.experiments.tracking.test_stages import offline_runs
from tests.experiments.tracking.tracked import FINGERPRINT, VARIANT, write_data, write_evaluation, write_report

MACHINE = {"versions": {"torch": "2.11"}, "hardware": {"cores": 2}}


@pytest.fixture
def measured(suite):
    """The file of `python -m experiments pooling`, of two seeds, as short as it is read."""
    write_data(suite.layout.data)
    ratio = {"median": 1.0, "q1": 1.0, "q3": 1.0}
    result = {
        **{"suite": suite.name, "variant": VARIANT, "split": "val", "seeds": [0, 1], "settings": ["off"]},
        **{"exact": "prroi", "samples": {"align1": 1, "align2": 2}, "git_commit": None, **MACHINE},
        "dataset_fingerprint": FINGERPRINT,
        "checkpoints": {"0": {"sha256": "5" * 64}, "1": {"sha256": "6" * 64}},
        "measured": {"images": 2, "rows": ["0 to 1", "own"]},
        "values": [
            {"error": {"prroi": [0.0, 0.0], "align1": [None, 0.25], "align2": [None, None]}},
            {"error": {"prroi": [0.0, 0.0], "align1": [None, 0.75], "align2": [None, 0.5]}},
        ],
        "times": {"timed": {"forward": {k: {"ratio": ratio} for k in ("prroi", "align1", "align2")}}},
    }
    write_json(suite.layout.measured_pooling, result)
    return suite.layout.measured_pooling


def test_an_evaluation_with_another_pooling_is_a_run_of_its_own(suite):
    for folder in (suite.layout.evaluation(VARIANT, 0, "val"), suite.layout.swapped("align2", 0, "val")):
        write_evaluation(suite, folder.path)
        track_finished(Finished(suite, folder.path))
    runs = {run["name"]: run for run in map(read_run, offline_runs(suite.layout.root.parent))}
    assert runs.keys() == {f"tiny__{VARIANT}__s0__val", f"tiny__{VARIANT}__align2__s0__val"}
    own, swapped = (
        run["config"]["mmdet"]["model"]["roi_head"]["bbox_roi_extractor"]
        for _, run in sorted(runs.items(), reverse=True)
    )
    assert own["type"] == "PrRoIExtractor"
    assert (swapped["type"], swapped["roi_layer"]["sampling_ratio"]) == ("SampledRoIExtractor", 2)
    run = runs[f"tiny__{VARIANT}__align2__s0__val"]
    assert run["config"]["uses"] == [f"tiny__{VARIANT}__s0:5555555555555555", "tiny__data:ffffffffffffffff"]
    assert run["name"] in {artifact["name"] for artifact in run["artifacts"]}


def test_what_was_measured_is_a_run_with_its_figures(suite, measured):
    track_finished(Finished(suite, measured))
    (run,) = map(read_run, offline_runs(suite.layout.root.parent))
    assert (run["name"], run["group"], run["job_type"]) == ("tiny__pooling__measured", "pooling", "measure")
    assert run["config"]["uses"] == [
        "tiny__data:ffffffffffffffff",
        f"tiny__{VARIANT}__s0:5555555555555555",
        f"tiny__{VARIANT}__s1:6666666666666666",
    ]
    assert run["summary"]["pooling/align1/value_error"] == 0.5
    assert "pooling/align2/value_error" not in run["summary"], "a seed has none"
    assert run["summary"]["pooling/align2/forward_ratio"] == 1.0


@pytest.mark.parametrize(
    ("page", "file", "used"),
    [
        ("ablation", f"evaluations/{VARIANT}/seed0/val/off.json", f"{VARIANT}__s0__val"),
        ("pooling", "pooling_data/align2/seed0/val/off.json", f"{VARIANT}__align2__s0__val"),
        ("anydetector", "treatments/cascade/seed0/val/evaluation.json", f"{VARIANT}__treated__s0__val"),
    ],
)
def test_a_page_beside_the_report_is_a_run_of_its_own(suite, page, file, used):
    write_report(suite.layout.report)
    folder = getattr(suite.layout, page)
    write_report(folder)
    entry = {"variant": VARIANT, "seed": 0, "split": "val", "wandb_run_id": "abcd"}
    write_json(folder.provenance, {"files": {file: entry, "pooling_data/measured.json": {"seed": [0]}}})
    track_finished(Finished(suite, folder.path))
    (run,) = map(read_run, offline_runs(suite.layout.root.parent))
    assert run["name"] == f"tiny__{page}"
    assert run["config"]["uses"] == [f"tiny__{used}:abcd"]


def test_what_was_not_tracked_is_found(suite, measured):
    write_evaluation(suite, suite.layout.swapped("align1", 0, "val").path)
    for page in (suite.layout.report, suite.layout.pooling):
        write_report(page)
    assert track(suite) == 5  # and the data
    assert track(suite) == 0
