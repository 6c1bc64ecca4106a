"""The tables of all variants, and reports on suites whose names are their own."""

import dataclasses

import numpy as np
import pytest

from reports.comparison import class_metric, difference, metric_values
from reports.document.assemble import assemble
from reports.results.collect import collect
from reports.results.matches import average_precision, whole
from reports.results.published import load_published
from reports.results.sides import BASELINE, FIRST_VERSION, headline
from reports.tables import variants
from reports.tables.accuracy import main_table
from reports.tables.variants import by_class_table, every_variant_table
from suite.suite import load_suite
from tests.reports import synthetic

PUBLISHED = load_published()


def test_every_variant_has_its_rows(results):
    table = every_variant_table(results)
    rows = {(row.label, row.cells["setting"].value): row.cells for row in table.rows}
    assert {label for label, _ in rows} == set(results.suite.variants)
    step = "λ = 0.5"
    expected = ["branch off", f"rank, {step}", f"rank, {step}, movement only", "rank, score only"]
    own = [setting for label, setting in rows if label == "samp1000_lw5.0"]
    assert own[:2] == expected[:2] and len(own) in (2, 4)
    assert "to the baseline" not in rows["faster_rcnn", ""]
    found = rows["samp1000_lw5.0", f"rank, {step}"]["to the baseline"]
    assert found.value == difference(results, FIRST_VERSION, BASELINE, "AP").mean


def test_the_classes_of_a_variant_have_its_ap_as_their_mean(results):
    table = by_class_table(results)
    for variant in results.suite.variants:
        cells = [row.cells["AP"].value for row in table.rows if row.group == variant]
        whole_ap = np.mean(list(headline(results, variant).per_seed(results, "AP").values()))
        assert np.mean(cells) == pytest.approx(whole_ap, abs=1e-6)


def test_the_interval_of_a_class_is_that_of_its_own_matches(results):
    category = results.matches("faster_rcnn", 0, "off").category_ids[0]
    matches = {key: found.of_class(category) for key, found in _all_matches(results).items()}
    own = dataclasses.replace(results, _matches=matches, _resampled={}, intervals={})
    alone = [own.matches("faster_rcnn", seed, "off") for seed in results.suite.seeds]
    ap = [100 * average_precision(found, whole(found)).mean() for found in alone]
    np.testing.assert_allclose(metric_values(results, "faster_rcnn", "off", class_metric(category)), ap)
    found = difference(results, FIRST_VERSION, BASELINE, class_metric(category))
    for seed in results.suite.seeds:
        setting = FIRST_VERSION.setting(results)
        np.testing.assert_array_equal(
            results.resampled("samp1000_lw5.0", seed, setting, category), own.resampled("samp1000_lw5.0", seed, setting)
        )
    assert found.decides and found.images is not None


def _all_matches(results):
    sides = [("faster_rcnn", "off"), ("samp1000_lw5.0", FIRST_VERSION.setting(results))]
    return {(v, seed, s): results.matches(v, seed, s) for v, s in sides for seed in results.suite.seeds}


def test_many_classes_are_shown_of_two_variants(results, monkeypatch):
    monkeypatch.setattr(variants, "MOST_ROWS", 5)
    table = by_class_table(results)
    assert list(dict.fromkeys(row.group for row in table.rows)) == ["faster_rcnn", "samp1000_lw5.0"]
    assert "`samp1000_lw5.0_bce`" in table.caption


@pytest.fixture(scope="module")
def own_names(tmp_path_factory):
    """Results of a suite that calls its two variants as it likes."""
    folder = tmp_path_factory.mktemp("own")
    root = folder / "results"
    names = {"faster_rcnn": "plain", "samp1000_lw5.0": "ours"}
    synthetic.make_results(root, images=10, variants=tuple(names), seeds=(0, 1))
    for old, new in names.items():
        for place in ("runs", "evaluations"):
            (root / place / old).rename(root / place / new)
    for path in root.rglob("*.json"):
        text = path.read_text()
        for old, new in names.items():
            text = text.replace(f'"variant": "{old}"', f'"variant": "{new}"')
        path.write_text(text)
    known = synthetic.variants_of(list(names))
    path = synthetic.write_suite(
        folder / "mine.yaml", variants={names[name]: entry for name, entry in known.items()}, seeds=[0, 1]
    )
    return collect(load_suite(path), root)


def test_a_report_does_not_depend_on_names(own_names):
    report = assemble(own_names, PUBLISHED)
    tables = [table.key for table in report.tables]
    assert {"claims", "main", "ablation", "variants", "by_class", "step_size"} <= set(tables)
    assert {"samples", "step_size", "improvement"} <= {figure.key for figure in report.illustrations}
    assert "Faster R-CNN is `plain`, IoU-Net `ours`" in main_table(own_names, PUBLISHED).caption
    judged = {verdict.claim.id for verdict in report.context.verdicts}
    assert {"iounet_ap", "nms", "refine", "correlation"} <= judged
