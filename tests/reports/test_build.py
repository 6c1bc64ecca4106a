"""The whole report, built once from synthetic results."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml

from reports.build import build, main
from reports.document.blocks import Report
from reports.document.html import inline_html
from reports.errors import ReportError
from reports.tables.table import Cell, cells_of, format_number
from tests.locales import in_locale
from tests.reports.synthetic import write_record, write_suite


@pytest.fixture
def undrawn(monkeypatch):
    """Builds without drawing: figures are covered by `built`, and take most of the time."""

    def touch(report: Report, folder: Path, dpi: int, svg: bool) -> None:
        for illustration in report.illustrations:
            for suffix in ("png", "svg"):
                (folder / "figures" / f"{illustration.key}.{suffix}").write_bytes(b"")

    monkeypatch.setattr("reports.writing.write_figures", touch)


def links(text: str) -> list[str]:
    return re.findall(r"(?<!!)\[[^\]]*(?:\[[^\]]*\])?[^\]]*\]\(([^()\s]+)\)", text)


def images(text: str) -> list[tuple[str, str]]:
    return re.findall(r"!\[([^\]]*)\]\(([^()\s]+)\)", text)


@pytest.mark.parametrize("which", [1, 2], ids=["report", "example"])
def test_every_link_and_image_leads_to_a_file(built, which):
    folder = built[which]
    text = (folder / "README.md").read_text()
    local = [target for target in links(text) if not target.startswith("https://")]
    assert any("rank_refine0.25.json" in target for target in local)
    for target in [*local, *(path for _, path in images(text))]:
        assert (folder / target).exists(), target


def test_the_example_stands_alone_and_is_light(built):
    example = built[2]
    text = (example / "README.md").read_text()
    outside = {target for target in links(text) if target.startswith("..")}
    assert all("experiments/configs" in target for target in outside)
    assert sum(path.stat().st_size for path in example.rglob("*") if path.is_file()) < 2_500_000
    assert not list(example.rglob("*.svg"))


def test_no_hole_in_the_text(built):
    for name in ("README.md", "index.html"):
        text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", (built[1] / name).read_text())
        for hole in ("nan", "NaN", "None", "{", "}"):
            if hole in "{}" and name == "index.html":
                continue  # the style sheet
            assert not re.search(rf"(?<![A-Za-z]){re.escape(hole)}(?![A-Za-z])", text), (name, hole)


def test_scale_is_stated_first(built):
    lines = (built[1] / "README.md").read_text().splitlines()
    first = next(line for line in lines if line.startswith("> "))
    assert lines.index(first) < 6
    assert "miniature, not COCO" in first
    assert "Compare the improvements" in first
    assert "16 images in `val`" in first
    assert "96×96" in first


def test_figures_have_text_for_those_who_cannot_see_them(built):
    found = images((built[1] / "README.md").read_text())
    assert len(found) == 13
    assert all(len(alt) > 60 for alt, _ in found)
    for _, path in found:
        assert (built[1] / path).stat().st_size > 5000
        if "samples" not in path and "nms" not in path:
            assert (built[1] / path).with_suffix(".svg").exists()


def markdown_tables(text: str) -> list[list[list[str]]]:
    tables, current = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            current.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif current:
            tables.append(current)
            current = []
    return tables


def test_csv_files_hold_the_tables_shown(built):
    report, out, _ = built
    shown = markdown_tables((out / "README.md").read_text())
    assert len(shown) == len(report.tables) == 16
    for table, rows in zip(report.tables, shown, strict=True):
        frame = pd.read_csv(out / "tables" / f"{table.key}.csv")
        assert len(frame) == len(rows) - 2
        header = rows[0]
        for column in table.columns:
            for value, row, line in zip(frame[column], table.rows, rows[2:], strict=True):
                cell = row.cells.get(column)
                if cell is None or not isinstance(cell.value, float):
                    continue
                text = line[header.index(column)].strip("*").split(" ±")[0]
                assert text == format_number(float(value), cell.digits, cell.kind == "difference"), (table.key, column)


def test_provenance_covers_every_cell(built, made):
    report, out, _ = built
    data = json.loads((out / "provenance.json").read_text())
    traced = {(cell["table"], cell["row"], cell["column"]): cell for cell in data["cells"]}
    for table, row, column, cell in cells_of(report.tables):
        if cell.value is None:
            continue
        trace = traced[(table.key, " / ".join(filter(None, (row.group, row.label))), column)]
        assert trace["sources"] or column in ("metric", "objects"), (table.key, row.label, column)
        for source in trace["sources"]:
            if "url" not in source:
                entry = data["files"][source["file"]]
                assert (made / "results" / "shapes" / source["file"]).exists()
                assert {"seed", "checkpoint_sha256", "config_hash", "git_commit", "wandb_run_id"} <= set(entry)
    path = "evaluations/samp1000_lw5.0/seed1/val/rank_refine0.25.json"
    evaluation = json.loads((made / "results" / "shapes" / path).read_text())
    assert data["files"][path]["checkpoint_sha256"] == evaluation["checkpoint_sha256"]
    record = (made / "results" / "shapes" / path).with_name("wandb_run.json")
    assert data["files"][path]["wandb_run_id"] == json.loads(record.read_text())["run_id"] == "val1samp"


class Page(HTMLParser):
    VOID = ("meta", "img", "link", "br", "wbr")

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str]] = []
        self.links: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(found)
        if tag == "a":
            self.links.append(found["href"])
        if tag in ("script", "link", "iframe"):
            self.loads.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_well_formed_and_self_contained(built):
    page = Page()
    page.feed((built[1] / "index.html").read_text())
    assert not page.open
    assert not page.loads
    assert len(page.images) == 13
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in page.images)
    for target in page.links:
        assert target.startswith("https://") or (built[1] / target).exists(), target


def test_html_and_markdown_say_the_same(built):
    html = (built[1] / "index.html").read_text()
    text = (built[1] / "README.md").read_text()
    assert html.count("<table") == len(markdown_tables(text))
    for line in text.splitlines():
        if line.startswith(("- ", "#")):
            assert inline_html(line.lstrip("#- ")) in html


def test_inline_markup():
    assert inline_html("a < b & `x<y` **bold** *em* 2 * 3") == (
        "a &lt; b &amp; <code>x&lt;y</code> <strong>bold</strong> <em>em</em> 2 * 3"
    )
    assert inline_html("[a [b]](x/y.json?a&b)") == '<a href="x/y.json?a&amp;b">a [b]</a>'
    assert inline_html("+ BCE loss, max1000_lw5.0_periou50") == "+ BCE loss, max1000_lw5.0_periou50"


@pytest.mark.parametrize("name", ["C", "ISO-8859"])
def test_a_locale_that_is_not_utf8_changes_nothing(copy, name):
    data = yaml.safe_load((copy / "shapes.yaml").read_text(encoding="utf-8")) | {"title": "Größe ☃ 報告"}
    (copy / "shapes.yaml").write_text(yaml.safe_dump(data, allow_unicode=True, sort_keys=False), encoding="utf-8")
    words = ["--suite", str(copy / "shapes.yaml"), "--results", str(copy / "results/shapes"), "--only", "models"]
    command = [sys.executable, "-m", "reports.build", *words, "--out", str(copy / "報告"), "--resamples", "0"]
    done = subprocess.run(command, capture_output=True, env=in_locale(name))
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{copy}/報告/README.md: 1 table, 0 figures\n"
    assert (copy / "報告/README.md").read_bytes().startswith("# Größe ☃ 報告\n".encode())


@pytest.mark.usefixtures("undrawn")
def test_missing_evaluation_leaves_the_old_report_alone(copy, capsys):
    root = copy / "results" / "shapes"
    out = root / "report"
    arguments = ["--suite", str(copy / "shapes.yaml"), "--results", str(root), "--out", str(out), "--resamples", "0"]
    arguments += ["--only", "main"]
    assert main(arguments) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert "README.md: 1 table, 2 figures" in capsys.readouterr().out
    (root / "evaluations/samp1000_lw5.0/seed2/val/rank_refine0.25.json").unlink()
    assert main(arguments) == 1
    assert "samp1000_lw5.0/seed2/val/rank_refine0.25.json: no such file" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in root.iterdir() if path.name.startswith(".report")] == []


@pytest.mark.usefixtures("undrawn")
def test_tables_outside_the_suite_are_left_out_with_a_line(copy):
    report = build(copy / "shapes.yaml", copy / "results" / "shapes", copy / "out", resamples=0)
    tables = [table.key for table in report.tables]
    own = ["variants", "by_class", "step_size", "models", "training_cost"]
    assert tables == ["claims", "power", "main", "ablation", "confidence", *own]
    text = (copy / "out" / "README.md").read_text()
    assert "## Left out" in text
    bce = "not in suite 'shapes': samp1000_lw5.0_bce (role `bce`)."
    assert f"- Table “Binary cross-entropy in place of SmoothL1”: {bce}" in text
    missing = "max1000_lw10.0_periou50 (role `loss_weight_10`), max1000_lw5.0_periou50 (role `per_iou_50`)"
    claims = "“Loss weight 10 is below loss weight 5”, “Loss weight 10 is below loss weight 5 in AP50”"
    assert f"- Claims {claims}: not in suite 'shapes': {missing}." in text


@pytest.mark.usefixtures("undrawn")
def test_stale_rows_are_marked_and_explained(copy):
    path = copy / "results/shapes/evaluations/faster_rcnn/seed0/val/off.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "checkpoint_sha256": "0" * 64}))
    build(copy / "shapes.yaml", copy / "results" / "shapes", copy / "out", only=["main"])
    text = (copy / "out" / "README.md").read_text()
    row = next(line for line in text.splitlines() if "| Faster R-CNN |" in line and "This run" in line)
    assert row.count("†") == 6
    assert "## Stale results (†)" in text
    assert "faster_rcnn/seed0/val/off.json`: evaluated from checkpoint 000000000000…" in text


@pytest.mark.usefixtures("undrawn")
def test_one_seed_says_so(copy):
    build(copy / "shapes.yaml", copy / "results" / "shapes", copy / "out", seeds=[1], resamples=50)
    text = (copy / "out" / "README.md").read_text()
    assert "are of one training each (seed 1): there are no intervals over trainings" in text
    assert "With one training of each variant no difference is decided" in text
    assert "- One training of each variant decides nothing" in text
    assert "**0 reproduced" in text
    measured = text.split("## Registered before the run")[0]  # which speaks of margins
    assert " ± " not in measured.replace(" ± half of it", "")


@pytest.mark.usefixtures("undrawn")
def test_wall_time_counts_the_pretraining(copy):
    folder = copy / "results" / "shapes" / "pretraining"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"wall_time_s": 325.0}))
    build(copy / "shapes.yaml", copy / "results" / "shapes", copy / "out", only=["main"])
    text = (copy / "out" / "README.md").read_text()
    assert "side by side); the pretraining before them 5 min 25 s; evaluations on `val`" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ["mian"]}, r"--only mian: unknown; choose from main, ablation"),
        ({"only": ["bce"]}, "no table of the report has its variants in this suite"),
    ],
)
def test_bad_options(copy, options, message):
    with pytest.raises(ReportError, match=message):
        build(copy / "shapes.yaml", copy / "results" / "shapes", copy / "out", **options)


def test_a_folder_with_other_things_is_not_replaced(copy):
    (copy / "precious.txt").write_text("x")
    with pytest.raises(ReportError, match=r"holds '.+', which is no part of a report; choose another folder"):
        build(copy / "shapes.yaml", copy / "results" / "shapes", copy)
    assert (copy / "precious.txt").exists()


def test_suite_of_another_name_is_refused(copy):
    write_suite(copy / "shapes.yaml", suite="coco")
    with pytest.raises(ReportError, match="key 'suite' is 'shapes', expected 'coco'"):
        build(copy / "shapes.yaml", copy / "results" / "shapes", copy / "out")


@pytest.mark.usefixtures("undrawn")
def test_the_record_of_the_report_outlives_its_replacement(copy):
    arguments = (copy / "shapes.yaml", copy / "results" / "shapes", copy / "out")
    build(*arguments, only=["main"])
    write_record(copy / "out" / "wandb_run.json", "r00")
    before = (copy / "out" / "wandb_run.json").read_bytes()
    (copy / "out" / "README.md").unlink()
    build(*arguments, only=["main"])
    assert (copy / "out" / "wandb_run.json").read_bytes() == before
    assert (copy / "out" / "README.md").exists()


def test_a_suite_that_cannot_be_used_ends_with_its_error(copy, capsys):
    write_suite(copy / "shapes.yaml", seeds=[])
    arguments = ["--suite", str(copy / "shapes.yaml"), "--results", str(copy / "results/shapes")]
    assert main([*arguments, "--out", str(copy / "out")]) == 1
    assert "error: " in (message := capsys.readouterr().err) and "seeds: [] should be non-empty" in message
    assert not (copy / "out").exists()


def models(report: Report) -> dict[str, Cell]:
    (table,) = (table for table in report.tables if table.key == "models")
    return {
        f"{row.key}/{row.cells['seed'].value}": row.cells["W&B run"]
        for row in table.rows
        if row.group == "This run" and "W&B run" in row.cells
    }


@pytest.mark.usefixtures("undrawn")
def test_wandb_runs_come_from_the_sidecars_or_from_results_of_the_first_release(copy):
    root = copy / "results" / "shapes"
    write_record(root / "runs/samp1000_lw5.0/seed1/wandb_run.json", "begun", is_logged=False)
    path = root / "runs/faster_rcnn/seed2/run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "wandb_run_id": "old2"}))
    found = models(build(copy / "shapes.yaml", root, copy / "out", only=["models"]))
    assert {key: cell.value for key, cell in found.items()} == {
        "faster_rcnn/2": "`old2`",
        "samp1000_lw5.0/0": "`run0samp`",
        "samp1000_lw5.0/2": "`run2samp`",
    }
    (old,), (new,) = found["faster_rcnn/2"].sources, found["samp1000_lw5.0/0"].sources
    assert (old.file, old.key) == ("runs/faster_rcnn/seed2/run.json", "wandb_run_id")
    assert (new.file, new.key) == ("runs/samp1000_lw5.0/seed0/wandb_run.json", "run_id")
    files = json.loads((copy / "out" / "provenance.json").read_text())["files"]
    assert files[old.file]["wandb_run_id"] == "old2"
    assert files[new.file]["wandb_run_id"] == "run0samp"
    assert files["runs/samp1000_lw5.0/seed1/run.json"]["wandb_run_id"] is None
