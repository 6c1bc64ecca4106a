"""The table of sections fits together, and says what a report has."""

from reports.document.sections import PARTS, SECTIONS, TABLES
from reports.figures.catalogue import FIGURES


def test_only_can_name_the_tables_that_need_no_more_than_results():
    assert (
        *("main", "ablation", "variants", "by_class", "bce", "loss_weight", "step_size", "guide", "improved"),
        *("speed", "models", "training_cost"),
    ) == PARTS
    assert set(TABLES) - set(PARTS) == {"claims", "claim_effects", "power", "confidence", "sweep_val", "sweep_trials"}


def test_every_figure_is_in_one_section_and_goes_with_a_table_there_is():
    shown = [key for section in SECTIONS for key in section.figures]
    assert sorted(shown) == sorted(FIGURES)
    assert {figure.table for figure in FIGURES.values()} <= {"", *TABLES}


def test_keys_and_titles_are_those_of_what_is_made(built):
    report = built[0]
    assert [table.title for table in report.tables] == [TABLES[table.key].title for table in report.tables]
    made = [figure.key for figure in report.illustrations]
    assert made == [key for section in SECTIONS for key in section.figures if key in made]
    assert len(made) == 13


def test_sections_are_in_the_order_of_the_table(built):
    titles = [section.title for section in SECTIONS]
    headings = [line[3:] for line in (built[1] / "README.md").read_text().splitlines() if line.startswith("## ")]
    assert [title for title in titles if title in headings] == [title for title in headings if title in titles]
    assert headings[0] == "In short"
