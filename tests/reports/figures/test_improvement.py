from reports.figures import improvement
from reports.results.published import load_published
from reports.tables.accuracy import main_table

PUBLISHED = load_published()


def test_the_frame_is_the_main_tables_rows(results):
    main = main_table(results, PUBLISHED)
    frame = improvement.frame(results, PUBLISHED)
    assert list(frame["source"].unique()) == ["Paper", "Published reproduction", "This run"]
    assert frame.loc[frame["source"] == "Paper", "value"].tolist() == [1.7, -1.7, -0.7, 1.4, 3.9, 5.7]
    own = frame[frame["source"] == "This run"]
    assert own["value"].tolist() == [cell.value for cell in main.rows[-1].cells.values()]
    assert own["half_width"].tolist() == [cell.half_width for cell in main.rows[-1].cells.values()]
