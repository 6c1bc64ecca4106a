from reports.figures import validation


def test_values_are_points_per_epoch(results):
    frame = validation.frame(results)
    assert set(frame["metric"]) == {"AP", "AP90"}
    assert sorted(frame["epoch"].unique()) == [1, 2, 3]
    assert len(frame) == 2 * 3 * 6 * 3
    assert frame["value"].between(1, 100).all()
