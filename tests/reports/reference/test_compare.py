"""A run beside the reference distribution: unchanged code passes, a planted change is found."""

from dataclasses import replace

import numpy as np
import pytest

from reports.errors import ReportError
from reports.reference.compare import FALSE_ALARM, compare
from reports.reference.trainings import DIAGNOSTICS, METRICS, Recipe, Trainings, joined, read_trainings, write_trainings

VARIANTS = ("faster_rcnn", "samp1000_lw5.0", "samp1000_lw5.0_bce", "max1000_lw5.0_periou30")
MOVED = "boxes moved by every step"
EFFECTS = {"off": 50.0, "none": 0.0, "rank": 1.8, "rank_refine0.15": 2.5}


def trainings(rng, number, spreads=(1.0, 1.0, 1.0, 1.0), **effects):
    """Trainings with a common level (sd 0.2) and own differences (sd 0.08), times a factor of each variant.

    The share of boxes that every step of a refinement moves: 25 % (sd 3), or as `effects` says.
    """
    moved = effects.pop("moved", 25.0)
    values = {}
    for variant, spread in zip(VARIANTS, spreads, strict=True):
        level = rng.normal(EFFECTS["off"], 0.2 * spread, number)
        for setting, effect in (EFFECTS | effects).items():
            if variant == "faster_rcnn" and setting != "off":
                continue
            for metric in METRICS:
                own = 0.0 if setting == "off" else effect + rng.normal(0, 0.08 * spread, number)
                values[variant, setting, metric] = level + own
        if variant != "faster_rcnn":
            values[variant, DIAGNOSTICS, MOVED] = rng.normal(moved, 3 * spread, number)
    recipe = Recipe("f" * 64, dict.fromkeys(VARIANTS, "1234"))
    return Trainings("shapes", recipe, values, ({"seeds": list(range(number))},))


@pytest.mark.parametrize("spreads", [(1.0, 1.0, 1.0, 1.0), (1.0, 2.0, 1.0, 1.0), (2.0, 1.0, 1.0, 1.0)])
@pytest.mark.parametrize("number", [1, 3])
def test_unchanged_code_passes(spreads, number):
    rng = np.random.default_rng(7)
    alarms = [
        any(not row.fits for row in compare(trainings(rng, number, spreads), trainings(rng, 10, spreads)))
        for _ in range(600)
    ]
    assert np.mean(alarms) < 2 * FALSE_ALARM  # of 600 at most 6 are expected; 12 or more have a chance of 2 %


@pytest.mark.parametrize(
    ("setting", "effect"),
    [("rank", 0.0), ("rank_refine0.15", 1.8), ("none", 1.0), ("moved", 0.3)],
    ids=[
        "guided NMS ranks by class score",
        "the step size is ignored",
        "regular NMS ranks by IoU",
        "boxes stop where they gained less than 0.01",
    ],
)
def test_a_planted_change_is_found(setting, effect):
    rng = np.random.default_rng(1)
    rows = compare(trainings(rng, 3, **{setting: effect}), trainings(rng, 10))
    outside = {(row.variant, row.setting) for row in rows if not row.fits}
    place = DIAGNOSTICS if setting == "moved" else setting
    assert outside == {(variant, place) for variant in VARIANTS[1:]}


def test_another_recipe_is_refused():
    rng = np.random.default_rng(2)
    run, reference = trainings(rng, 3), trainings(rng, 10)
    with pytest.raises(ReportError, match=r"the run's images \(fingerprint 000000000000…\) are not the reference's"):
        compare(replace(run, recipe=replace(run.recipe, dataset_fingerprint="0" * 64)), reference)
    with pytest.raises(ReportError, match=r"samp1000_lw5.0: the run's config \(5678\) is not the reference's \(1234\)"):
        compare(
            replace(run, recipe=replace(run.recipe, configs={**run.recipe.configs, VARIANTS[1]: "5678"})), reference
        )
    with pytest.raises(ReportError, match="the run is of suite 'coco'"):
        compare(replace(run, suite="coco"), reference)
    del run.values["samp1000_lw5.0", "rank", "AP90"]
    with pytest.raises(
        ReportError, match="the run lacks 1 figures of the reference, the first: samp1000_lw5.0 rank AP90"
    ):
        compare(run, reference)


def test_an_undefined_figure_does_not_fit():
    rng = np.random.default_rng(3)
    run = trainings(rng, 3)
    run.values["faster_rcnn", "off", "AP90"][:] = np.nan
    outside = [row for row in compare(run, trainings(rng, 10)) if not row.fits]
    assert [(row.variant, row.metric) for row in outside] == [("faster_rcnn", "AP90")]


def test_a_reference_is_what_was_written(tmp_path):
    reference = trainings(np.random.default_rng(4), 10)
    write_trainings(tmp_path / "r.json", reference)
    read = read_trainings(tmp_path / "r.json")
    for name in ("suite", "recipe", "made"):
        assert getattr(read, name) == getattr(reference, name)
    for key, values in reference.values.items():
        np.testing.assert_allclose(read.values[key], values, atol=6e-5)


def test_a_reference_needs_ten_trainings():
    rng = np.random.default_rng(5)
    with pytest.raises(ReportError, match="the reference has 9 trainings of a variant so far; run the suite until 10"):
        compare(trainings(rng, 3), trainings(rng, 9))


def test_a_value_is_missing(tmp_path):
    reference = trainings(np.random.default_rng(6), 10)
    reference.values["samp1000_lw5.0", "rank", "AP"] = np.zeros(9)
    write_trainings(tmp_path / "r.json", reference)
    with pytest.raises(ReportError, match=r"points\.samp1000_lw5\.0\.rank\.AP: 9 values, and 10 of 'off'"):
        read_trainings(tmp_path / "r.json")


def test_a_reference_grows_by_trainings_that_it_does_not_have():
    rng = np.random.default_rng(7)
    first, second = trainings(rng, 3), trainings(rng, 4)
    both = joined(first, second)
    assert both.number == 7
    assert both.made == (*first.made, *second.made)
    for key, values in both.values.items():
        np.testing.assert_array_equal(values, [*first.values[key], *second.values[key]])
    again = joined(both, second)
    assert (again.number, again.made) == (7, both.made)
    more = joined(
        both, replace(second, values={key: [99.0, *own[1:]] * np.ones(4) for key, own in second.values.items()})
    )
    assert (more.number, more.values["faster_rcnn", "off", "AP"][-1]) == (8, 99)
    with pytest.raises(ReportError, match="the run is of suite 'coco'"):
        joined(first, replace(second, suite="coco"))
