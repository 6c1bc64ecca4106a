import numpy as np
import pytest

from reports.figures import thresholds


def test_the_frame_agrees_with_the_evaluation_files(results):
    frame = thresholds.frame(results)
    own = frame[(frame["step"] == "refine") & (frame["threshold"] == 0.9)].iloc[0]
    files = [results.evaluation("samp1000_lw5.0", seed, "rank_refine0.25")["AP90"] for seed in range(3)]
    base = [results.evaluation("faster_rcnn", seed, "off")["AP90"] for seed in range(3)]
    assert own["AP"] == pytest.approx(100 * np.mean(files))
    assert own["difference"] == pytest.approx(100 * (np.mean(files) - np.mean(base)))
    assert (frame.loc[frame["step"] == "faster_rcnn", "difference"] == 0).all()
