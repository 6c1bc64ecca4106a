"""Verdicts on hand-made numbers: every value here can be checked with pencil and paper."""

import numpy as np
import pytest

from reports.claims import judge, judge_claims, load_claims, metric_of
from reports.context import Context
from reports.document.summary import summary
from reports.errors import ReportError
from reports.results.published import load_published
from reports.tables.claims import scoreboard
from reports.tables.table import MINUS
from suite.suite import load_suite
from tests.reports.hand_made import ABLATION, results_of
from tests.reports.synthetic import variants_of, write_suite

PUBLISHED = load_published()


@pytest.mark.parametrize(
    ("interval", "expected", "verdict"),
    [
        ((0.1, 2.0), "+", "reproduced"),
        ((0.1, 2.0), "-", "contradicted"),
        ((-2.0, -0.1), "-", "reproduced"),
        ((-2.0, -0.1), "+", "contradicted"),
        ((-0.1, 2.0), "+", "inconclusive"),
        ((0.0, 2.0), "+", "inconclusive"),
        (None, "+", "inconclusive"),
    ],
)
def test_verdicts(interval, expected, verdict):
    assert judge(interval, expected) == verdict


def test_claims_are_judged_on_paired_differences(suite):
    clear = dict(ABLATION)
    clear[("samp1000_lw5.0", "rank_refine0.25")] = (72.0, 73.1, 74.0)  # differences 2, 2.1, 2 to the baseline
    clear[("samp1000_lw5.0", "rank")] = (73.0, 74.0, 75.1)  # refinement: -1, -0.9, -1.1
    results = results_of(clear, suite)
    wanted = [claim for claim in load_claims() if claim.id in ("iounet_ap", "refine", "iounet_ap50")]
    verdicts, left_out = judge_claims(results, PUBLISHED, wanted, None)
    assert not left_out
    by_id = {verdict.claim.id: verdict for verdict in verdicts}
    assert by_id["iounet_ap"].verdict == "reproduced"
    assert by_id["iounet_ap"].published == {"paper": 1.7, "reproduction": 1.7}
    assert by_id["refine"].verdict == "contradicted"
    assert by_id["refine"].interval.mean == pytest.approx(-1.0)
    assert by_id["iounet_ap50"].verdict == "contradicted"
    lines = "\n".join(summary(Context(results, PUBLISHED, verdicts=verdicts)))
    assert "**1 are reproduced at this scale, 2 contradicted and 0 inconclusive**" in lines
    assert f"Refinement raises AP on top of IoU-guided NMS – AP {MINUS}1.0 here (95 % interval" in lines
    table = scoreboard(verdicts, PUBLISHED)
    assert [row.cells["verdict"].value for row in table.rows] == ["reproduced", "contradicted", "contradicted"]


def test_a_claim_about_several_experiments_is_judged_on_their_mean(suite):
    four = ("samp1000_lw5.0", "max1000_lw5.0_periou30", "max1000_lw5.0_periou50", "max1000_lw10.0_periou50")
    gains = ((1.0, 2.0), (1.0, 2.0), (-2.0, -1.0), (4.0, 5.0))  # by experiment and seed; their mean: 1 and 2
    values = {(variant, "rank_refine0.25"): (70.0, 71.0) for variant in four}
    values |= {
        (variant, "rank_refine1"): (70.0 + first, 71.0 + second)
        for variant, (first, second) in zip(four, gains, strict=True)
    }
    results = results_of(values, suite.changed(variants=variants_of(four), seeds=[0, 1]))
    wanted = [claim for claim in load_claims() if claim.id == "step_size"]
    [verdict], left_out = judge_claims(results, PUBLISHED, wanted, None)
    assert not left_out
    assert verdict.interval.mean == pytest.approx(1.5)
    assert verdict.interval.n == 2
    assert verdict.published == {"reproduction": pytest.approx(0.15)}  # of 0.1, 0.2, 0.1 and 0.2
    assert len(verdict.sources) == 2 * 4 * 2


def test_claims_outside_the_suite_are_left_out(tmp_path):
    small = load_suite(write_suite(tmp_path / "small.yaml", variants=variants_of(["faster_rcnn"])))
    verdicts, left_out = judge_claims(results_of({}, small), PUBLISHED, load_claims(), None)
    assert not verdicts
    assert len(left_out) == len(load_claims())
    assert left_out[0][1] == "not in suite 'shapes': samp1000_lw5.0"


def test_bad_claims_file_is_named(tmp_path):
    path = tmp_path / "claims.yaml"
    entry = "id: x, text: t, short: s, metric: AP, expected: up, left: {variant: a}, right: {variant: a}, published: {}"
    path.write_text(f"claims: [{{{entry}}}]")
    with pytest.raises(ReportError, match=r"claims.yaml: claim x: 'expected' must be '\+' or '-', found 'up'"):
        load_claims(path)
    path.write_text("claims: [{id: x}]")
    with pytest.raises(ReportError, match=r"claims.yaml: claim x: 'text'"):
        load_claims(path)


def test_metric_of_thresholds():
    ap = np.array([[0.8, 0.4]])
    assert metric_of(ap, (0.5, 0.9), "AP") == pytest.approx([0.6])
    assert metric_of(ap, (0.5, 0.9), "AP90") == pytest.approx([0.4])
    with pytest.raises(ReportError, match="metric AP75 cannot be computed"):
        metric_of(ap, (0.5, 0.9), "AP75")
