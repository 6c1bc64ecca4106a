import dataclasses

import pandas as pd
import pytest

from reports.figures import speed
from reports.figures.style import styled
from reports.results.published import load_published
from tests.reports.synthetic import make_speed

PUBLISHED = load_published()


def test_ratios_published_and_own(results):
    frame = speed.frame(results, PUBLISHED)
    published = frame[frame["source"] == "Published reproduction"].set_index("key")
    assert published.loc["refine", "ratio"] == pytest.approx(84.75 / 50)
    assert published["q1"].isna().all()
    own = frame[frame["source"] == "This run"].set_index("key").loc["refine"]
    assert (own["ratio"], own["q1"], own["q3"]) == (1.2, 1.19, 1.21)
    assert own["without_pooling"] == pytest.approx(23 / 15)
    assert "This run 1.20" in speed.make(results, PUBLISHED).alt


def test_there_may_be_more_blocks_than_markers(results):
    rows = [
        {"device": device, "source": f"speed/{device}.json", "stale": "", "data": make_speed(device)}
        for device in ("cpu", "cuda", "other")
    ]
    figure = speed.make(dataclasses.replace(results, speeds=pd.DataFrame(rows)), PUBLISHED)
    assert figure.frame["source"].nunique() == 7
    with styled():
        (panel,) = figure.draw().axes
    assert len(panel.get_legend().get_texts()) == 7
