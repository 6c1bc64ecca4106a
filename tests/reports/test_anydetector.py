"""The page on a refiner with the boxes of any detector, from made-up results."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reports.anydetector import build, main
from reports.comparison import difference, mean_difference
from reports.document.anydetector import answers, assemble, counted, premise, time_sentence
from reports.errors import MissingResult, ReportError
from reports.figures import treated_gains, treated_lines
from reports.results.collect import collect
from reports.results.published import load_published
from reports.results.treated import TreatedSide
from reports.results.treatments import with_treatments
from reports.statements import statements
from reports.statistics import Term, estimate, holm
from reports.tables import treated as tables
from reports.verdicts import judge, judge_claims
from suite.suite import load_suite
from suite.treatments import CLASS_AGNOSTIC, PLAIN, Treatment, guided
from tests.reports.pages import check_parts
from tests.reports.synthetic import linked_results, make_results, variants_of, write_suite
from tests.reports.synthetic_anydetector import BASELINE, DETECTORS, make_anydetector, treatments_of

PUBLISHED = load_published()
LABELS = ["Faster R-CNN", "Cascade R-CNN", "RetinaNet"]


def suite_file(folder: Path, **changes) -> Path:
    variants = variants_of([BASELINE, "samp1000_lw5.0"])
    return write_suite(folder / "shapes.yaml", **{"variants": variants, "detectors": DETECTORS, **changes})


@pytest.fixture(scope="module")
def treated_folder(made, tmp_path_factory) -> Path:
    """The shared results with treatments, in a folder of their own."""
    folder = tmp_path_factory.mktemp("anydetector")
    root = linked_results(made, folder)
    (root / "runs").unlink()  # detectors are added
    shutil.copytree(made / "results/shapes/runs" / BASELINE, root / "runs" / BASELINE)
    suite_file(folder)
    make_anydetector(root)
    return folder


def load(folder: Path, root: Path, resamples: int = 0):
    suite = load_suite(folder / "shapes.yaml")
    return with_treatments(collect(suite, root, suite.treated, resamples))


@pytest.fixture(scope="module")
def loaded(treated_folder):
    """Results and detectors."""
    return load(treated_folder, treated_folder / "results/shapes", 60)


@pytest.fixture(scope="module")
def page(treated_folder):
    """The report, its folder, and its example."""
    out, example = treated_folder / "results/shapes/anydetector", treated_folder / "example"
    place = (treated_folder / "shapes.yaml", treated_folder / "results/shapes", out)
    return build(*place, example=example, resamples=60), out, example


def copied(treated_folder, tmp_path) -> Path:
    """Results that a test may damage."""
    source, root = treated_folder / "results/shapes", tmp_path / "results/shapes"
    for part in ("treatments", "refiners"):
        shutil.copytree(source / part, root / part)
    for part in ("runs", "data"):
        (root / part).symlink_to(source / part)
    return root


def rewrite(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def stored(folder: Path, detector: str, seed: int, treatment: Treatment) -> dict:
    path = folder / f"results/shapes/treatments/{detector}/seed{seed}/val/{treatment.name}.json"
    return json.loads(path.read_text())


# --- the page


def test_the_page_has_its_tables_and_figures(page):
    report, out, _ = page
    assert [table.key for table in report.tables] == [
        *("treatments", "treatment_gains", "treatment_claims", "treatment_nms", "treatment_heads"),
        *("treatment_iterations_ap", "treatment_iterations_ap90", "treatment_times"),
    ]
    assert [f.key for f in report.illustrations] == [
        *("treatment_gains", "treatment_nms", "treatment_iterations_ap", "treatment_iterations_ap90"),
    ]
    text = check_parts(report, out)
    assert text.startswith("# IoU-Net for any detector\n")
    assert re.findall(r"^## (.*)$", text, re.M) == [
        *("In short", "Three detectors", "NMS by threshold", "One IoU per class, or one for all"),
        *("Again and again: box regression against refinement", "Time", "How the numbers are made"),
        "Machine, versions, seeds",
    ]
    assert "15 trainings" in text  # three detectors and two refiners, three seeds each
    assert "All variants start from one checkpoint" in text


@pytest.mark.parametrize("which", [1, 2], ids=["page", "example"])
def test_every_link_leads_to_a_file(page, which):
    folder = page[which]
    text = (folder / "README.md").read_text()
    local = [t for t in re.findall(r"\]\(([^()\s]+)\)", text) if not t.startswith("https://")]
    assert any(target.endswith("treatments/cascade_rcnn/seed1/val/guided0.5.json") for target in local)
    assert any(target.endswith("treatments/retinanet/seed2/val/evaluation.json") for target in local)
    assert all((folder / target).exists() for target in local)
    (row,) = [line for line in text.splitlines() if line.startswith("| One IoU per class is better")]
    assert all(f"{detector} [0](" in row for detector in (BASELINE, *DETECTORS))
    if which == 2:
        assert not [target for target in local if target.startswith("..")]


def test_the_example_is_light(page):
    _, _, example = page
    files = [path for path in example.rglob("*") if path.is_file()]
    assert not [path for path in files if "matches" in path.name or path.suffix in (".svg", ".html")]
    thinned = json.loads((example / "treatments/faster_rcnn/seed0/val/guided0.5.json").read_text())
    assert thinned["treatment"] == {"name": "guided0.5"} and "refiner_sha256" in thinned
    assert "APs" not in thinned["metrics"] and "per_class" not in thinned
    by_seed = [sum(p.stat().st_size for p in files if f"seed{seed}" in p.as_posix()) for seed in (0, 1, 2)]
    assert max(by_seed) < 100_000


def test_every_cell_is_traced(page):
    report, out, _ = page
    traces = json.loads((out / "provenance.json").read_text())
    shown = sum(c.value is not None for table in report.tables for row in table.rows for c in row.cells.values())
    assert len(traces["cells"]) == shown - sum("published size" in row.cells for row in report.tables[2].rows)
    assert all(cell["sources"] for cell in traces["cells"] if cell["column"] != "metric")
    assert traces["files"]["treatments/retinanet/seed2/val/hard0.5.json"]["setting"] == "hard0.5"
    assert traces["files"]["treatments/retinanet/seed2/val/evaluation.json"]["seed"] == 2
    verdicts = json.loads((out / "verdicts.json").read_text())
    assert len(verdicts) == 13
    assert [verdict["id"] for verdict in verdicts if not verdict["in_family"]] == ["heads"]  # our own


# --- the numbers


def test_numbers_are_those_of_the_files(treated_folder, loaded):
    results, treated = loaded
    table = tables.accuracy_table(results, treated)
    assert list(dict.fromkeys(row.group for row in table.rows)) == LABELS
    assert len(table.rows) == 3 * 6
    for row in table.rows:
        detector = [BASELINE, *DETECTORS][LABELS.index(row.group)]
        treatment = treated.rows[row.label]
        values = [100 * stored(treated_folder, detector, s, treatment)["metrics"]["AP75"] for s in (0, 1, 2)]
        assert row.cells["AP75"].value == pytest.approx(np.mean(values))
    nms = tables.nms_table(results, treated)
    assert len(nms.rows) == 16
    (gaussian,) = [row for row in nms.rows if row.group == "Gaussian Soft-NMS"]
    own = [
        100 * stored(treated_folder, BASELINE, s, Treatment("soft_gaussian", None))["metrics"]["AP"] for s in (0, 1, 2)
    ]
    assert (gaussian.label, gaussian.cells["AP"].value) == ("σ = 0.5", pytest.approx(np.mean(own)))


def test_differences_are_the_projects(loaded):
    results, treated = loaded
    refined = TreatedSide("cascade_rcnn", treated.refined())
    expected = difference(results, refined, TreatedSide("cascade_rcnn", PLAIN), "AP90")
    rows = {(row.group, row.label): row for row in tables.gains_table(results, treated).rows}
    cell = rows["Cascade R-CNN", "+ refinement, λ = 0.5"].cells["AP90"]
    assert (cell.value, cell.half_width) == (expected.mean, expected.half_width)
    assert expected.images is not None and expected.trainings is not None
    assert [s.setting for s in cell.sources] == ["guided0.5_refined5_step0.25"] * 3 + ["hard0.5"] * 3
    (heads,) = [row for row in tables.heads_table(results, treated).rows if row.key == "retinanet"]
    pair = (TreatedSide("retinanet", guided()), TreatedSide("retinanet", guided(CLASS_AGNOSTIC)))
    assert heads.cells["guided NMS, AP"].value == difference(results, *pair, "AP").mean > 0


def test_detectors_are_peers_in_the_same_treatment(loaded):
    results, _ = loaded
    values = {
        name: np.array([results.evaluation(name, seed, "guided0.5")["AP"] for seed in (0, 1, 2)])
        - np.array([results.evaluation(name, seed, "hard0.5")["AP"] for seed in (0, 1, 2)])
        for name in (BASELINE, *DETECTORS)
    }
    bare = replace(results, resamples=0, intervals={})
    found = difference(bare, TreatedSide(BASELINE, guided()), TreatedSide(BASELINE, PLAIN), "AP")
    own = 100 * values[BASELINE]
    expected = estimate([Term(own, peers=[100 * values[name] for name in DETECTORS])])
    assert (found.mean, found.error) == (pytest.approx(expected.mean), pytest.approx(expected.error))
    assert expected.error != pytest.approx(estimate([Term(own)]).error)


def test_a_mean_over_detectors_is_paired_by_seed_as_they_share_the_refiners(loaded):
    results, treated = loaded
    bare = replace(results, resamples=0, intervals={})
    pairs = [
        (TreatedSide(name, treated.refined()), TreatedSide(name, treated.refined(head=CLASS_AGNOSTIC)))
        for name in treated.labels
    ]
    per_seed = np.mean([np.subtract(*(list(s.per_seed(bare, "AP").values()) for s in pair)) for pair in pairs], axis=0)
    found, expected = mean_difference(bare, pairs, "AP"), estimate([Term(per_seed)])
    assert (found.mean, found.error) == (pytest.approx(expected.mean), pytest.approx(expected.error))


def test_iterations_start_at_the_detectors_own_boxes(loaded):
    results, treated = loaded
    table = tables.iterations_table(results, treated, "AP")
    rows = {(row.group, row.label): row.cells for row in table.rows}
    assert ("RetinaNet", "box regression") not in rows and len(rows) == 3 + 3 + 2
    assert rows["Cascade R-CNN", "box regression"]["2"].value == 0
    assert rows["Cascade R-CNN", "box regression"]["5"].value < 0 < rows["RetinaNet", "refinement, λ = 2"]["5"].value
    data = treated_lines.iterations_frame(results, treated, "AP")
    assert len(data) == (3 + 3 + 2) * 6 * 3
    start = data[(data["panel"] == "RetinaNet") & (data["x"] == 0) & (data["seed"] == 1)]["value"]
    assert set(start) == {100 * results.evaluation("retinanet", 1, "hard0.5")["AP"]}


def test_frames_of_the_other_figures(loaded):
    results, treated = loaded
    gains = treated_gains.frame(results, treated)
    assert len(gains) == 3 * 5 * 3 and gains["half_width"].notna().all()
    nms = treated_lines.nms_frame(results, treated)
    assert len(nms) == 3 * 4 * 5 * 3
    level = nms[(nms["line"] == "Gaussian Soft-NMS") & (nms["panel"] == "AP90")]
    assert (level.groupby("seed")["value"].nunique() == 1).all()


def test_times_are_per_500_images(loaded):
    _, treated = loaded
    (first, *_) = tables.times_table(treated).rows
    assert first.cells["detector, to its boxes"].value == 2.0 * 500 / 16
    assert first.cells["boxes per image"].value == pytest.approx(np.mean([10, 11, 12]))
    assert [source.key for source in first.cells["refinement"].sources] == ["seconds.refine"] * 3
    assert "adds 40 % (Faster R-CNN), 40 % (Cascade R-CNN), 40 % (RetinaNet)" in time_sentence(treated)
    assert time_sentence(treated).endswith("refinement another 50 %, 50 %, 50 %.")


# --- the verdicts


def test_statements_are_judged_together(loaded):
    results, treated = loaded
    claims = statements(treated)
    assert [claim.is_published for claim in claims] == [True] * (3 * 3 + 1 + 2) + [False]  # the last is our own
    verdicts, untested = judge_claims(results, PUBLISHED, claims)
    assert not untested
    family, own = verdicts[:-1], verdicts[-1]
    assert own.in_family is None
    adjusted = holm([judge(v.claim, [v.interval])[1] for v in family])
    for verdict, p in zip(family, adjusted, strict=True):
        assert verdict.in_family == (verdict.verdict if p < 0.05 else "inconclusive")
    by_id = {verdict.claim.id: verdict for verdict in verdicts}
    below = by_id["cascade_rcnn_iterated"]
    assert below.verdict == "reproduced" and below.interval.mean < 0 and "retinanet_iterated" not in by_id
    assert by_id["heads"].claim.text.endswith("mean over 3 detectors)")


def test_verdicts_have_the_words_of_the_report(loaded):
    results, treated = loaded
    claims = [replace(claim, expected="+" if claim.expected == "-" else "-") for claim in statements(treated)]
    verdicts, _ = judge_claims(results, PUBLISHED, claims)
    words = {row.cells["verdict"].value for row in tables.statements_table(verdicts, PUBLISHED, results).rows}
    assert words == {"opposite sign here", "inconclusive"}


def test_answers_name_every_detector_and_no_number_is_fixed(loaded):
    results, treated = loaded
    first = answers(results, treated)
    assert all(label in first[0] and label in first[-1] for label in LABELS)
    worse = results.evaluations.assign(AP=results.evaluations["AP"] / 2, AP90=results.evaluations["AP90"] / 2)
    second = answers(replace(results, evaluations=worse, resamples=0, intervals={}), treated)
    assert all(before != after for before, after in zip(first[:4], second[:4], strict=True))


def test_words():
    assert [counted(number, "detector") for number in (1, 3, 9)] == ["One detector", "Three detectors", "9 detectors"]


def test_the_premise_says_how_refiners_start(loaded):
    results, _ = loaded
    runs = [{**run, "inputs": {}} for run in results.runs["data"]]
    scratch = replace(results, runs=results.runs.assign(data=runs))
    assert "It starts from random weights" in premise(scratch)
    runs = [{**run, "inputs": {"backbone_sha256": "0676ba61"}} for run in runs]
    named = replace(results, runs=results.runs.assign(data=runs))
    assert "Its backbone starts from the weights that the config names" in premise(named)
    pretraining = {"config": "experiments/configs/shapes/pretraining.py"}
    suite = results.suite.changed(pretraining=pretraining)
    assert "the same pretraining as the detectors" in premise(replace(results, suite=suite))


# --- less than all


def test_one_seed_decides_nothing_and_is_shown(tmp_path):
    root = make_results(tmp_path / "results/shapes", variants=(BASELINE,), seeds=(0,))
    suite_file(tmp_path, seeds=[0], variants=variants_of([BASELINE, "samp1000_lw5.0"]))
    make_anydetector(root, (0,))
    found = load(tmp_path, root, 20)
    text = " ".join(answers(*found))
    assert "(+" not in text and "(−" not in text
    report = assemble(*found, PUBLISHED)
    gains = next(table for table in report.tables if table.key == "treatment_gains")
    assert not [cell for row in gains.rows for cell in row.cells.values() if cell.half_width is not None]
    assert {verdict.verdict for verdict in report.context.verdicts} == {"inconclusive"}
    said = " ".join(item for block in report.blocks for item in getattr(block, "items", ()))
    assert "Nothing is decided." in said and "One training of each variant decides nothing" in said


def test_a_suite_without_further_detectors_has_a_page_of_its_baseline(treated_folder, tmp_path):
    suite_file(tmp_path, detectors={})
    results, treated = load(tmp_path, treated_folder / "results/shapes")
    report = assemble(results, treated, PUBLISHED)
    assert [block.text for block in report.blocks if getattr(block, "text", "").startswith("One detector")]
    (heads,) = [v.claim for v in report.context.verdicts if v.claim.id == "heads"]
    assert heads.text == "One IoU per class is better than one for all classes (guided NMS and refinement)"


def test_detectors_that_were_not_iterated_have_no_lines(treated_folder, tmp_path):
    root = copied(treated_folder, tmp_path)
    for index in root.glob("treatments/*/seed*/val/evaluation.json"):
        data = json.loads(index.read_text())
        kept = {name: ap for name, ap in data["AP"].items() if not name.startswith("hard0.5_re")}
        rewrite(index, AP=data["AP"] if index.parents[2].name == "cascade_rcnn" else kept)
    results, treated = load(treated_folder, root)
    assert (treated.iterated, treated.regressed) == (("cascade_rcnn",), ("cascade_rcnn",))
    figure = treated_lines.make_iterations(results, treated, "AP")
    assert "Faster R-CNN and RetinaNet: not moved again and again." in figure.caption
    none = replace(treated, iterated=(), regressed=())
    assert treated_lines.make_iterations(results, none, "AP") is tables.iterations_table(results, none) is None
    assert not [line for line in answers(results, none) if line.startswith("**Iterations")]
    titles = [getattr(block, "text", "") for block in assemble(results, none, PUBLISHED).blocks]
    assert "Time" in titles and not [title for title in titles if title.startswith("Again and again")]


def test_claims_about_a_detector_that_found_nothing_are_not_tested(loaded):
    results, treated = loaded
    rows = results.evaluations.copy()
    rows.loc[rows["variant"] == "retinanet", list(tables.METRICS)] = 0.0
    report = assemble(replace(results, evaluations=rows, resamples=0, intervals={}), treated, PUBLISHED)
    said = [item for block in report.blocks for item in getattr(block, "items", ())]
    untested = [item for item in said if item.startswith("Not tested: ")]
    assert len(untested) == 4 and all("retinanet found nothing, AP is 0" in item for item in untested)
    assert len(report.context.verdicts) == 9


def test_a_detector_without_regression_is_named_below_the_figure(loaded):
    figure = treated_lines.make_iterations(*loaded, "AP90")
    assert "RetinaNet: no box head that could be asked again, so refinement alone." in figure.caption


# --- what is wrong with files


@pytest.mark.parametrize(
    "remove",
    [
        "treatments/retinanet/seed1/val/evaluation.json",
        "treatments/retinanet/seed1/val/guided0.5.json",
        "treatments/cascade_rcnn/seed2/val/hard0.5_regressed3.json",
        "treatments/faster_rcnn/seed0/val/soft_linear0.3.json",
        "treatments/faster_rcnn/seed0/val/hard0.5.matches.json.gz",
        "refiners/class_agnostic/seed1/run.json",
    ],
)
def test_what_is_missing_is_named_with_what_to_do(treated_folder, tmp_path, remove):
    root = copied(treated_folder, tmp_path)
    (root / remove).unlink()
    with pytest.raises(MissingResult, match=rf"{remove}: no such file; `snakemake anydetector` makes"):
        build(treated_folder / "shapes.yaml", root, tmp_path / "out", resamples=20)
    assert not (tmp_path / "out").exists()


def test_evaluations_of_other_data_do_not_matter(treated_folder, tmp_path):
    root = copied(treated_folder, tmp_path)
    shutil.copytree(treated_folder / "results/shapes/evaluations", root / "evaluations")
    for path in (root / "evaluations").rglob("*.json"):
        rewrite(path, dataset_fingerprint="0" * 64)
    build(treated_folder / "shapes.yaml", root, tmp_path / "out", resamples=0)


def test_refiners_of_another_variant_are_not_those_of_the_page(treated_folder, tmp_path):
    root = copied(treated_folder, tmp_path)
    rewrite(root / "refiners/per_class/seed0/run.json", variant="samp1000_lw5.0_bce")
    with pytest.raises(ReportError, match=r"per_class/seed0/run.json: belongs to another place: key 'variant'"):
        build(treated_folder / "shapes.yaml", root, tmp_path / "out", resamples=0)


def test_a_detector_that_was_not_trained_is_named(treated_folder, tmp_path, capsys):
    more = {**DETECTORS, "other": {"label": "Other", "config": DETECTORS["retinanet"]["config"]}}
    suite = suite_file(tmp_path, detectors=more)
    place = ["--suite", str(suite), "--results", str(treated_folder / "results/shapes"), "--out", str(tmp_path / "out")]
    assert main([*place, "--resamples", "0"]) == 1
    error = capsys.readouterr().err
    assert "runs/other/seed0/run.json: no such file" in error and "snakemake anydetector" in error


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("evaluation.json", {"suite": "other"}, r"evaluation.json: belongs to another place: key 'suite'"),
        ("evaluation.json", {"seconds": {"detect": 1.0}}, r"evaluation.json: key 'seconds.maps' is missing"),
        ("evaluation.json", {"refiners": {}}, r"evaluation.json: key 'refiners.per_class.sha256' is missing"),
        ("evaluation.json", {"dataset_fingerprint": "0" * 64}, r"evaluation.json: made with another dataset"),
        ("guided0.5.json", {"metrics": {"AP": 2.0}}, r"guided0.5.json: key 'metrics.AP' must be in \[0, 1\]"),
        ("guided0.5.json", {"treatment": {"nms": "hard"}}, r"guided0.5.json: key 'treatment' is damaged"),
        ("guided0.5.json", {"treatment": PLAIN.described()}, r"key 'treatment' describes 'hard0.5', not 'guided0.5'"),
        ("guided0.5.json", {"seed": 7}, r"guided0.5.json: belongs to another place: key 'seed' is 7"),
    ],
)
def test_a_damaged_file_is_named_with_its_key(treated_folder, tmp_path, file, changes, message):
    root = copied(treated_folder, tmp_path)
    rewrite(root / "treatments/cascade_rcnn/seed1/val" / file, **changes)
    with pytest.raises(ReportError, match=message + r".*; `snakemake anydetector` makes"):
        build(treated_folder / "shapes.yaml", root, tmp_path / "out", resamples=0)


def test_a_refiner_of_another_head_is_refused(treated_folder, tmp_path):
    root = copied(treated_folder, tmp_path)
    rewrite(root / "refiners/class_agnostic/seed1/run.json", head="per_class")
    with pytest.raises(ReportError, match=r"run.json: belongs to another place: key 'head' is 'per_class'"):
        load(treated_folder, root)


def test_a_file_that_is_cut_short_is_named(treated_folder, tmp_path):
    root = copied(treated_folder, tmp_path)
    (root / "treatments/cascade_rcnn/seed1/val/guided0.5.json").write_text('{"suite": ')
    with pytest.raises(ReportError, match=r"guided0.5.json.*; `snakemake anydetector` makes"):
        build(treated_folder / "shapes.yaml", root, tmp_path / "out", resamples=0)


def test_what_was_made_with_others_is_stale(treated_folder, tmp_path):
    root = copied(treated_folder, tmp_path)
    rewrite(root / "treatments/retinanet/seed0/val/hard0.5.json", checkpoint_sha256="1" * 64)
    run = root / "refiners/class_agnostic/seed2/run.json"
    rewrite(run, checkpoint={"bytes": 1, "sha256": "2" * 64})
    results, treated = load(treated_folder, root)
    accuracy = {(row.group, row.key): row.cells["AP"] for row in tables.accuracy_table(results, treated).rows}
    assert accuracy["RetinaNet", "hard0.5"].stale and not accuracy["RetinaNet", "guided0.5"].stale
    assert all(cell.stale for row in tables.heads_table(results, treated).rows for cell in row.cells.values())
    assert all(cell.stale for row in tables.times_table(treated).rows for cell in row.cells.values())
    report = assemble(results, treated, PUBLISHED)
    said = [item for block in report.blocks for item in getattr(block, "items", ())]
    assert [item for item in said if "evaluated from checkpoint 111111111111…" in item and "hard0.5.json" in item]
    assert [item for item in said if "guided0.5_class_agnostic.json`: refiner (class_agnostic) evaluated with" in item]
    assert [item for item in said if "evaluation.json`: refiner (class_agnostic)" in item]
    rewrite(run, config_hash="3" * 64, started="2027-01-01T00:00:00Z")
    results, treated = load(treated_folder, root)
    row = results.evaluation("retinanet", 0, "guided0.5_class_agnostic")
    assert "refiner (class_agnostic) trained with config" in row["stale"] and "that of seed 2 has" in row["stale"]


def test_a_suite_without_a_baseline_is_refused_in_a_line(treated_folder, tmp_path, capsys):
    suite = write_suite(tmp_path / "alone.yaml", variants=variants_of(["samp1000_lw5.0"]))
    out = ["--results", str(treated_folder / "results/shapes"), "--out", str(tmp_path / "out")]
    assert main(["--suite", str(suite), *out]) == 1
    assert "error: not in suite 'shapes': faster_rcnn" in capsys.readouterr().err


def test_treatments_are_what_the_suite_compares():
    names = [treatment.name for treatment in treatments_of(BASELINE)]
    assert len(names) == 11 + 16 + 15
