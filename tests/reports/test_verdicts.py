"""Verdicts on hand-made numbers: each kind's test, the family, the size beside the published one."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from reports.claims import load_claims
from reports.context import Context
from reports.document.summary import claim_notes, summary
from reports.results.published import load_published
from reports.statistics import Interval
from reports.tables.claims import effects_table, power_table, scoreboard
from reports.tables.table import MINUS
from reports.verdicts import Effect, equivalence, judge, judge_claims
from suite.suite import load_suite
from tests.reports.hand_made import ABLATION, results_of
from tests.reports.synthetic import make_speed, variants_of, write_suite

PUBLISHED = load_published()
CLAIMS = {claim.id: claim for claim in load_claims()}
FOUR = ("samp1000_lw5.0", "max1000_lw5.0_periou30", "max1000_lw5.0_periou50", "max1000_lw10.0_periou50")


def interval(mean, half, n=3):
    """95 % interval mean ± half, of so many degrees of freedom that it is a normal one."""
    error = half / 1.959964
    return Interval(mean, n, error, math.inf, trainings=error)


@pytest.mark.parametrize(
    ("claim", "mean", "half", "verdict"),
    [
        ("iounet_ap", 1.0, 0.9, "reproduced"),
        ("iounet_ap", 1.0, 1.1, "inconclusive"),
        ("iounet_ap", -1.0, 0.9, "contradicted"),
        ("iounet_ap50", -1.0, 0.9, "reproduced"),
        ("iounet_ap50", 1.0, 0.9, "contradicted"),
        ("sampling", 0.05, 0.1, "reproduced"),
        ("sampling", -0.15, 0.1, "inconclusive"),
        ("sampling", -0.5, 0.1, "contradicted"),
        ("step_size_optimum", -0.02, 0.05, "reproduced"),  # within the margin of 0.1
        ("step_size_optimum", -0.08, 0.05, "inconclusive"),
        ("step_size_optimum", -0.3, 0.05, "contradicted"),
    ],
)
def test_verdicts(claim, mean, half, verdict):
    assert judge(CLAIMS[claim], [interval(mean, half)])[0] == verdict


def test_a_claim_about_several_holds_only_when_each_does():
    guide = CLAIMS["guide"]
    good, bad, open_ = interval(1.0, 0.5), interval(-1.0, 0.5), interval(0.1, 0.5)
    assert judge(guide, [good] * 4)[0] == "reproduced"
    assert judge(guide, [good, good, open_, good])[0] == "inconclusive"
    assert judge(guide, [good, good, good, bad])[0] == "contradicted"
    barely = interval(-0.52, 0.5)  # below zero alone, but one of four may be by chance
    assert judge(guide, [barely])[0] == "contradicted"
    assert judge(guide, [barely, good, good, good])[0] == "inconclusive"


def test_one_training_decides_nothing():
    alone = Interval(5.0, 1, 0.1, images=0.1)
    assert judge(CLAIMS["iounet_ap"], [alone]) == ("inconclusive", 1.0)
    assert equivalence(CLAIMS["iounet_ap"], Effect("", alone, {"paper": 1.7}, (), {})) == ""


@pytest.mark.parametrize(
    ("claim", "mean", "half", "size"),
    [
        ("iounet_ap", 3.0, 0.5, "within reach"),  # the paper's 1.7 ± 0.85 reaches 2.55
        ("iounet_ap", 3.2, 0.5, "larger here"),
        ("iounet_ap", 0.2, 0.5, "smaller here"),
        ("iounet_ap50", -0.8, 0.3, "within reach"),
        ("iounet_ap50", -2.0, 0.3, "larger here"),
        ("iounet_ap50", 0.1, 0.3, "smaller here"),
    ],
)
def test_the_size_beside_the_published_one(claim, mean, half, size):
    published = {"paper": 1.7} if claim == "iounet_ap" else {"reproduction": -0.8, "paper": -1.7}
    assert equivalence(CLAIMS[claim], Effect("", interval(mean, half), published, (), {})) == size


def judged(results, *names):
    verdicts, left_out = judge_claims(results, PUBLISHED, [CLAIMS[name] for name in names])
    assert not left_out
    return {verdict.claim.id: verdict for verdict in verdicts}


def test_claims_are_judged_on_the_run(suite):
    clear = dict(ABLATION)
    clear["faster_rcnn", "off"] = (71.0, 71.1, 71.2)
    clear["samp1000_lw5.0", "rank_refine0.25"] = (72.9, 73.1, 73.2)
    clear["samp1000_lw5.0", "rank"] = (73.9, 74.1, 74.3)  # refinement: -1, -1, -1.1
    results = replace(results_of(clear, suite), dataset={"format": "coco", "download": "coco2017"})
    by_id = judged(results, "iounet_ap", "refine", "iounet_ap50", "refine_ap90")
    assert by_id["iounet_ap"].verdict == by_id["iounet_ap"].in_family == "reproduced"
    assert by_id["iounet_ap"].published == {"paper": 1.7, "reproduction": 1.7}
    assert by_id["refine"].verdict == "contradicted"
    assert by_id["refine"].interval.mean == pytest.approx(-1.033333)
    assert by_id["iounet_ap50"].verdict == "contradicted"
    assert by_id["refine_ap90"].in_family is None, "not a published claim"
    verdicts = list(by_id.values())
    lines = "\n".join(summary(Context(results, PUBLISHED, verdicts=verdicts)))
    assert "Of 3 published claims" in lines
    assert "**1 reproduced, 2 contradicted, 0 inconclusive**. One set of images: another may" in lines
    assert f"Refinement raises AP on top of IoU-guided NMS – AP {MINUS}1.0 here (95 % interval" in lines
    table = scoreboard(verdicts, PUBLISHED, results)
    assert [row.cells["verdict"].value for row in table.rows] == ["reproduced", *["contradicted"] * 3]
    assert table.rows[-1].label.endswith("(not a published claim)")
    power = power_table(verdicts, results)
    assert [row.key for row in power.rows] == ["iounet_ap", "refine", "iounet_ap50"]


@pytest.mark.parametrize(
    ("dataset", "where"),
    [
        ({"generator": "shapes"}, "at miniature scale"),
        ({"format": "voc", "download": "bccd"}, "on these images"),
        ({"format": "coco"}, "on these images"),
    ],
)
def test_other_images_do_not_contradict_coco(suite, dataset, where):
    results = replace(results_of(ABLATION, suite), dataset=dataset)
    values = dict(ABLATION) | {("samp1000_lw5.0", "rank_refine0.25"): (61.0, 61.1, 61.2)}
    verdicts = list(judged(replace(results_of(values, suite), dataset=results.dataset), "refine").values())
    [row] = scoreboard(verdicts, PUBLISHED, results).rows
    assert row.cells["verdict"].value == row.cells["in the family"].value == "opposite sign here"
    lines = "\n".join(summary(Context(results, PUBLISHED, verdicts=verdicts)))
    assert f"**0 reproduced {where}, 1 with the opposite sign here, 0 inconclusive**" in lines


def test_the_family_can_take_a_verdict_back(suite):
    values = {("faster_rcnn", "off"): (70.0, 70.1, 70.2), ("samp1000_lw5.0", "off"): (70.0, 70.1, 70.2)}
    values["samp1000_lw5.0", "rank"] = (70.45, 70.50, 70.80)
    values["samp1000_lw5.0", "rank_refine0.25"] = (70.5, 70.5, 70.9)
    by_id = judged(results_of(values, suite), "iounet_ap", "branch_off", "nms", "refine")
    taken = [v for v in by_id.values() if v.verdict != v.in_family]
    assert taken and all(v.in_family == "inconclusive" for v in taken)


def test_the_mean_of_four_experiments(suite):
    gains = ((1.0, 2.0), (1.0, 2.0), (-2.0, -1.0), (4.0, 5.0))  # by experiment and seed; their mean: 1 and 2
    values = {(variant, "rank_refine0.25"): (70.0, 71.0) for variant in FOUR}
    values |= {
        (variant, "rank_refine1"): (70.0 + first, 71.0 + second)
        for variant, (first, second) in zip(FOUR, gains, strict=True)
    }
    results = results_of(values, suite.changed(variants=variants_of(FOUR), seeds=[0, 1]))
    verdict = judged(results, "step_size")["step_size"]
    assert verdict.interval.mean == pytest.approx(1.5)
    assert verdict.interval.n == 2
    assert verdict.interval.error == pytest.approx(math.sqrt(4 * 0.5 / 2) / 4)  # each gain has variance 1/2
    assert verdict.published == {"reproduction": pytest.approx(0.15)}  # of 0.1, 0.2, 0.1 and 0.2
    assert len(verdict.sources) == 2 * 4 * 2


def test_each_of_four_experiments(suite):
    values = {(variant, "rank_refine1"): (70.0, 70.1, 70.2) for variant in FOUR}
    values |= {(variant, "weight_refine1"): (71.0, 71.1, 71.2 + place) for place, variant in enumerate(FOUR)}
    results = results_of(values, suite.changed(variants=variants_of(FOUR)))
    verdict = judged(results, "guide")["guide"]
    assert [round(effect.interval.mean, 2) for effect in verdict.effects] == [1.0, 1.33, 1.67, 2.0]
    assert [effect.published["reproduction"] for effect in verdict.effects] == pytest.approx([0.1, 0.3, 0.2, 0.5])
    table = effects_table([verdict])
    assert len(table.rows) == 4 and table.rows[0].label.startswith(
        "samp1000_lw5.0, weight, λ = 2 − samp1000_lw5.0, rank"
    )


def test_speed_is_judged_on_ratios_of_rounds(suite):
    speeds = pd.DataFrame(
        [{"device": "cpu", "source": "speed/cpu.json", "wandb_run_id": None, "stale": "", "data": make_speed()}]
    )
    by_id = judged(replace(results_of(ABLATION, suite), speeds=speeds), *(name for name in CLAIMS if "speed" in name))
    verdicts = {name: verdict.verdict for name, verdict in by_id.items()}
    assert verdicts == {
        "speed_branch_off": "contradicted",  # 16 against 20 ms
        "speed_nms": "reproduced",
        "speed_regular_nms": "reproduced",
        "speed_refine": "reproduced",
    }
    table = scoreboard(list(by_id.values()), PUBLISHED, results_of(ABLATION, suite))
    row = next(row for row in table.rows if row.key == "speed_refine")
    assert row.cells["this run"].value == "× 1.333"
    assert row.cells["reproduction"].value == "× 1.365"


def test_correlations_are_judged_over_trainings(results):
    verdict = judged(results, "correlation")["correlation"]
    assert verdict.interval.n == 3 and verdict.published == {"paper": pytest.approx(0.4)}
    assert verdict.verdict == "reproduced"


def test_what_must_be_known_of_a_claim_is_said(results):
    verdicts, _ = judge_claims(results, PUBLISHED, list(CLAIMS.values()))
    notes = "\n".join(claim_notes(Context(results, PUBLISHED, verdicts=verdicts)))
    assert "PrRoIPool in place of RoIAlign" in notes
    assert "AdamW makes a head nearly insensitive" in notes


def test_claims_outside_the_suite_are_left_out(tmp_path):
    small = load_suite(write_suite(tmp_path / "small.yaml", variants=variants_of(["faster_rcnn"])))
    verdicts, left_out = judge_claims(results_of({}, small), PUBLISHED, load_claims())
    assert not verdicts
    assert len(left_out) == len(load_claims())
    assert left_out[0][1] == "not in suite 'shapes': samp1000_lw5.0 (role `main`)"
