"""What a row says of the files behind it."""

import pytest

from reports.document.layout import rows_of
from reports.document.links import Links, evidence
from reports.results.source import Source
from reports.tables.table import Cell, Row, Table


def source(variant, seed, setting, key="metrics.AP"):
    file = f"evaluations/{variant}/seed{seed}/val/{setting}.json"
    return Source(file, key, "evaluation", str(seed), variant, seed, setting)


@pytest.fixture
def links(tmp_path):
    for variant in ("a", "b"):
        for seed in (0, 1):
            folder = tmp_path / f"results/evaluations/{variant}/seed{seed}/val"
            folder.mkdir(parents=True)
            for setting in ("off", "rank", "weight"):
                (folder / f"{setting}.json").touch()
    (tmp_path / "results/runs/a/seed0").mkdir(parents=True)
    (tmp_path / "results/runs/a/seed0/history.csv").touch()
    return Links(tmp_path / "results", tmp_path / "results/report")


def row(*cells):
    return Row("", "x", {str(index): cell for index, cell in enumerate(cells)})


def test_seeds_of_a_setting_and_publications(links):
    paper = Cell(1.0, sources=(Source("p.yaml", "t/r/c", "published", "paper", url="https://p"),))
    ours = Cell(1.0, sources=(source("a", 0, "off"), source("a", 1, "off")))
    shown = "[0](../evaluations/a/seed0/val/off.json) [1](../evaluations/a/seed1/val/off.json)"
    assert evidence(row(paper, ours), links) == f"[paper](https://p), {shown}"


def test_a_difference_has_two_sides(links):
    cell = Cell(1.0, kind="difference", sources=(source("a", 0, "rank"), source("b", 0, "rank")))
    left, right = (f"[0](../evaluations/{variant}/seed0/val/rank.json)" for variant in "ab")
    assert evidence(row(cell), links) == f"seed {left} − {right}"


def test_two_settings_are_named_and_many_are_a_folder(links):
    cells = [Cell(1.0, sources=(source("a", 0, setting),)) for setting in ("off", "rank", "weight")]
    two = "off [0](../evaluations/a/seed0/val/off.json), rank [0](../evaluations/a/seed0/val/rank.json)"
    assert evidence(row(*cells[:2]), links) == two
    assert evidence(row(*cells), links) == "seed [0](../evaluations/a/seed0/val/)"


def test_a_folder_of_an_example_is_its_own_and_the_files_in_it_are_copied(links):
    links.copied = True
    cells = [Cell(1.0, sources=(source("a", 0, setting),)) for setting in ("off", "rank", "weight")]
    assert evidence(row(*cells), links) == "seed [0](evaluations/a/seed0/val/)"
    assert links.used == {f"evaluations/a/seed0/val/{setting}.json" for setting in ("off", "rank", "weight")}


def test_many_settings_of_several_variants_are_a_folder_of_each(links):
    text = [
        Cell("x", kind="text", sources=(source(variant, seed, setting),))
        for variant in ("a", "b")
        for seed in (0, 1)
        for setting in ("off", "rank")
    ]
    folders = [" ".join(f"[{seed}](../evaluations/{v}/seed{seed}/val/)" for seed in (0, 1)) for v in ("a", "b")]
    assert evidence(row(*text), links) == f"a {folders[0]}, b {folders[1]}"


def test_other_kinds_are_named_and_histories_are_not_copied(links):
    cell = Cell(1.0, sources=(Source("runs/a/seed0/history.csv", "time", "history", "0", "a", 0),))
    assert evidence(row(cell), links) == "history [0](../runs/a/seed0/history.csv)"
    links.copied = True
    assert evidence(row(cell), links) == "history 0"


def test_names_are_set_in_code_font_whatever_they_look_like(links):
    rows = (Row("", "periou", {}, is_name=True), Row("", "a_label_with_underscores", {}))
    shown = [texts[0] for _, texts in rows_of(Table("t", "T", "", (), rows), links)]
    assert shown == ["`periou`", "a_label_with_underscores"]
