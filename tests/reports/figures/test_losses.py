import pytest

from reports.figures import losses


def test_the_branch_is_separated(results):
    frame = losses.frame(results)
    assert set(frame.loc[frame["variant"] == "faster_rcnn", "series"]) == {"detection"}
    assert set(frame.loc[frame["variant"] == "samp1000_lw5.0", "series"]) == {
        "detection",
        "IoU branch",
        "IoU error",
    }
    own = frame[(frame["variant"] == "samp1000_lw5.0") & (frame["seed"] == 0)]
    history = results.histories[
        (results.histories["variant"] == "samp1000_lw5.0") & (results.histories["seed"] == 0)
    ].dropna(subset="loss")
    # equal stretches: the mean over the curve is the mean over the training
    total = own.groupby("series")["value"].mean()
    assert total["IoU branch"] == pytest.approx(history["loss_iou"].mean())
    assert total["IoU branch"] + total["detection"] == pytest.approx(history["loss"].mean())
    assert total["IoU error"] == pytest.approx(history["iou_error"].mean())
    assert len(own) == 3 * losses.POINTS_OF_A_CURVE
