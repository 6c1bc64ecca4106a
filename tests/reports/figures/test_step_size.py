import dataclasses
import json

import pytest

from reports.figures import step_size
from reports.figures.step_size import apart
from reports.results.published import load_published
from reports.tables.accuracy import NO_REFINEMENT, step_size_table
from suite.errors import NotInSuite

PUBLISHED = load_published()


def test_optimum_of_each_curve(results):
    frame = step_size.frame(results, PUBLISHED)
    best = frame[frame["best"] & (frame["source"] == "Published reproduction")]
    assert best[best["variant"] == "max1000_lw10.0_periou50"]["step_size"].tolist() == [2.0]
    assert best[best["variant"] == "samp1000_lw5.0"]["step_size"].tolist() == [1.0, 2.0]


def test_the_frame_is_the_tables_numbers(results):
    frame, table = step_size.frame(results, PUBLISHED), step_size_table(results, PUBLISHED)
    steps = [column for column in table.columns if column != NO_REFINEMENT]
    cells = [(row, column, row.cells[column]) for row in table.rows for column in steps if column in row.cells]
    groups = [f"{s}, {g}" if s == "This run" else s for s, g in zip(frame["source"], frame["guide"], strict=True)]
    assert groups == [row.group for row, _, _ in cells]
    assert frame["variant"].tolist() == [row.key for row, _, _ in cells]
    assert frame["step_size"].tolist() == [float(column) for _, column, _ in cells]
    assert frame["AP"].tolist() == [cell.value for _, _, cell in cells]
    own = frame["source"] == "This run"
    assert own.sum() == 3 * 5 * 3  # guides, IoU-Nets, step sizes
    halves = [cell.half_width for row, _, cell in cells if row.group.startswith("This run")]
    assert frame.loc[own, "half_width"].tolist() == halves


def test_guides_with_two_steps_have_panels(results, suite):
    inference = {**suite.raw["inference"], "step_sizes": {"rank": [0.5], "none": [0.5, 2]}, "parts": {}}
    frame = step_size.frame(dataclasses.replace(results, suite=suite.changed(inference=inference)), PUBLISHED)
    assert set(frame.loc[frame["source"] == "This run", "guide"]) == {"none"}
    titles = [panel.get_title() for panel in step_size.draw(frame, box_side=None).axes]
    assert titles == ["Published reproduction, rank", "This run, none"]


def test_a_suite_with_one_step_has_no_such_figure(results, suite):
    inference = {**suite.raw["inference"], "step_sizes": {"weight": [0.5]}, "parts": {}}
    other = dataclasses.replace(results, suite=suite.changed(inference=inference))
    with pytest.raises(NotInSuite, match="has no IoU-Net with an NMS guide and two values of λ"):
        step_size.frame(other, PUBLISHED)


def test_median_box_side(results):
    index = json.loads((results.root / "data" / "val.json").read_text())
    sides = sorted((a["bbox"][2] * a["bbox"][3]) ** 0.5 for a in index["annotations"] if not a["iscrowd"])
    assert sides[(len(sides) - 1) // 2] <= step_size.median_box_side(results) <= sides[len(sides) // 2]


def test_labels_of_a_logarithmic_axis_have_room():
    assert apart([0.15, 0.3, 0.5, 0.6, 0.9, 1, 2, 3]) == [0.15, 0.3, 0.5, 0.9, 2, 3]
    assert apart([0.5, 1, 2, 3]) == [0.5, 1, 2, 3]
    assert apart([]) == []
