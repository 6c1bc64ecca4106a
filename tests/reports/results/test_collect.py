import gzip
import json
from pathlib import Path

import pytest

from reports.errors import MissingResult, ReportError
from reports.results.collect import Results, collect
from reports.results.readers import METRICS
from suite.errors import NotInSuite
from suite.suite import load_suite

EVALUATION = "evaluations/samp1000_lw5.0/seed1/val/rank_refine0.25.json"
RUN = "runs/samp1000_lw5.0/seed1/run.json"


def gather(folder: Path, **options) -> Results:
    return collect(load_suite(folder / "shapes.yaml"), folder / "results" / "shapes", **options)


def change(folder: Path, file: str, key: str, value) -> Path:
    """Set (or with `...` remove) a dotted key in a JSON file of the results."""
    path = folder / "results" / "shapes" / file
    data = json.loads(path.read_text())
    inner = data
    *parents, last = key.split(".")
    for parent in parents:
        inner = inner[parent]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    path.write_text(json.dumps(data))
    return path


def test_frames_are_tidy(results, made):
    frame = results.evaluations
    assert len(frame) == 3 * (1 + 5 * 13)  # seeds × (baseline's setting + five variants' settings)
    assert not frame.duplicated(["variant", "seed", "split", "setting"]).any()
    assert set(METRICS) <= set(frame.columns)
    assert (frame["stale"] == "").all()
    for source in frame["source"]:
        assert (made / "results" / "shapes" / source).is_file()
    assert len(results.runs) == 6 * 3
    assert set(results.histories["source"]) == set(results.runs["history_source"])


def test_values_are_those_of_the_file(results, made):
    row = results.evaluation("samp1000_lw5.0", 1, "rank_refine0.25")
    data = json.loads((made / "results" / "shapes" / EVALUATION).read_text())
    assert row["source"] == EVALUATION
    assert {name: row[name] for name in METRICS if data["metrics"][name] is not None} == {
        name: value for name, value in data["metrics"].items() if value is not None
    }
    assert row["checkpoint_sha256"] == data["checkpoint_sha256"]


def test_undefined_metric_becomes_nan(copy):
    change(copy, EVALUATION, "metrics.APl", None)
    value = gather(copy).evaluation("samp1000_lw5.0", 1, "rank_refine0.25")["APl"]
    assert value != value


def test_a_missing_evaluation_is_an_error_once_asked_for(copy):
    (copy / "results" / "shapes" / EVALUATION).unlink()
    results = gather(copy)
    with pytest.raises(MissingResult, match=r"seed1/val/rank_refine0.25.json: no such file"):
        results.evaluation("samp1000_lw5.0", 1, "rank_refine0.25")
    with pytest.raises(NotInSuite, match="not in suite 'shapes': samp1000_lw5.0_bce"):
        results.evaluation("samp1000_lw5.0_bce", 1, "off")


def test_a_missing_run_is_an_error_once_asked_for(copy):
    (copy / "results" / "shapes" / RUN).unlink()
    with pytest.raises(MissingResult, match=r"runs/samp1000_lw5.0/seed1/run.json: no such file; run the training"):
        gather(copy).run("samp1000_lw5.0", 1)


def test_other_variants_and_seeds_in_the_folder_are_ignored(copy, made):
    results = gather(copy, variants=["faster_rcnn"])
    assert set(results.evaluations["variant"]) == {"faster_rcnn"}
    (copy / "results/shapes" / EVALUATION).with_name("summary.json").write_text("{}")
    suite = load_suite(copy / "shapes.yaml").changed(seeds=[2])
    assert set(collect(suite, copy / "results" / "shapes").evaluations["seed"]) == {2}


@pytest.mark.parametrize(
    ("file", "key", "value", "message"),
    [
        (EVALUATION, "metrics.AP90", ..., "key 'metrics.AP90' is missing"),
        (EVALUATION, "metrics.AP", 74.1, r"key 'metrics.AP' must be in \[0, 1\] or null, found 74.1"),
        (EVALUATION, "metrics.AP", "0.5", r"key 'metrics.AP' must be in \[0, 1\] or null, found '0.5'"),
        (EVALUATION, "checkpoint_sha256", ..., "key 'checkpoint_sha256' is missing"),
        (EVALUATION, "seed", 2, "belongs to another place: key 'seed' is 2, expected 1"),
        (EVALUATION, "suite", "coco", "belongs to another place: key 'suite' is 'coco', expected 'shapes'"),
        (EVALUATION, "split", "tune", "key 'split' is 'tune', expected 'val'"),
        (EVALUATION, "setting.step_size", 0.5, "key 'setting' describes 'rank_refine0.5', not 'rank_refine0.25'"),
        (EVALUATION, "dataset_fingerprint", "0" * 64, "another dataset: key 'dataset_fingerprint' is 000000000000…"),
        (RUN, "inputs.dataset_fingerprint", "0" * 64, "another dataset: key 'inputs.dataset_fingerprint'"),
        (RUN, "variant", "faster_rcnn", "key 'variant' is 'faster_rcnn', expected 'samp1000_lw5.0'"),
        (RUN, "checkpoint.sha256", ..., "key 'checkpoint.sha256' is missing"),
    ],
)
def test_bad_files_are_refused_by_file_and_key(copy, file, key, value, message):
    path = change(copy, file, key, value)
    with pytest.raises(ReportError, match=message) as caught:
        gather(copy)
    assert str(path) in str(caught.value)


def test_an_evaluation_of_another_checkpoint_is_stale(copy):
    change(copy, EVALUATION, "checkpoint_sha256", "0" * 64)
    results = gather(copy)
    stale = results.evaluation("samp1000_lw5.0", 1, "rank_refine0.25")["stale"]
    assert stale.startswith("evaluated from checkpoint 000000000000…, the run beside it has ")
    assert results.evaluation("samp1000_lw5.0", 1, "off")["stale"] == ""


def test_seeds_with_another_config_than_the_latest_run_are_stale(copy):
    change(copy, RUN, "config_hash", "0" * 64)
    change(copy, EVALUATION.replace("seed1", "seed0"), "config_hash", "1" * 64)
    change(copy, RUN.replace("seed1", "seed2"), "started", "2026-01-02T00:00:00Z")
    results = gather(copy)
    stale = {seed: results.evaluation("samp1000_lw5.0", seed, "rank_refine0.25")["stale"] for seed in range(3)}
    assert stale[0].startswith("evaluated with config 111111111111…, seed 2 has ")
    assert stale[1].startswith("trained with config 000000000000…, seed 2 has ")
    assert stale[2] == ""
    assert results.evaluation("faster_rcnn", 0, "off")["stale"] == ""


def test_damaged_files(copy):
    root = copy / "results" / "shapes"
    path = root / EVALUATION
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ReportError, match=r"rank_refine0.25.json: damaged, cannot be read"):
        gather(copy)
    path.unlink()
    history = root / "runs/faster_rcnn/seed0/history.csv"
    text = history.read_text()
    history.write_text(text.replace("step,epoch", "steps,epoch"))
    with pytest.raises(ReportError, match=r"faster_rcnn/seed0/history.csv: column 'step' is missing"):
        gather(copy)
    history.write_text(text.replace("0.003", "oops", 1))
    with pytest.raises(ReportError, match=r"history.csv: column 'lr' holds something that is not a number"):
        gather(copy)
    history.unlink()
    with pytest.raises(MissingResult, match=r"history.csv: no such file"):
        gather(copy)


def test_truncated_matches(copy):
    path = copy / "results" / "shapes" / EVALUATION.replace(".json", ".matches.json.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ReportError, match=r"rank_refine0.25.matches.json.gz: damaged"):
        gather(copy).matches("samp1000_lw5.0", 1, "rank_refine0.25")


def test_matches_of_another_evaluation_are_refused(copy):
    path = copy / "results" / "shapes" / EVALUATION.replace(".json", ".matches.json.gz")
    data = json.loads(gzip.decompress(path.read_bytes()))
    data["detections"]["matched"] = [0] * len(data["detections"]["matched"])
    path.write_bytes(gzip.compress(json.dumps(data).encode()))
    with pytest.raises(ReportError, match=r"AP 0.0000 from the matches, but metrics.AP is 0\.\d+ in evaluations/"):
        gather(copy).matches("samp1000_lw5.0", 1, "rank_refine0.25")


def test_no_results_folder(copy):
    with pytest.raises(MissingResult, match="nowhere: no such results folder"):
        collect(load_suite(copy / "shapes.yaml"), copy / "nowhere")
    with pytest.raises(NotInSuite, match="not in suite 'shapes': other"):
        gather(copy, variants=["other"])
