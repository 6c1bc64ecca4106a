"""The speed table on a file of round numbers."""

import json
import shutil

import pytest

from reports.document.assemble import assemble
from reports.errors import ReportError
from reports.results.collect import collect
from reports.results.published import load_published
from reports.tables.speed import speed_table
from reports.tables.table import format_cell
from suite.errors import NotInSuite
from suite.suite import load_suite
from tests.reports.synthetic import make_speed, write_json

PUBLISHED = load_published()
LABELS = ["Faster R-CNN", "IoUNet_RCNN", "+ IoU-guided NMS", "replace with regular NMS", "+ Refine"]
OWN_LABELS = [*LABELS, "+ Refine, FC in bfloat16"]


@pytest.fixture
def timed(copy):
    """Reads the two-variant copy again, with the speed files that a test puts there."""

    def read(**files):
        for device, data in files.items():
            write_json(copy / "results" / "shapes" / "speed" / f"{device}.json", data)
        return collect(load_suite(copy / "shapes.yaml"), copy / "results" / "shapes")

    return read


def test_published_rows_come_first_and_ratios_follow_from_latencies(results):
    table = speed_table(results, PUBLISHED)
    assert [row.label for row in table.rows] == LABELS + OWN_LABELS * 2
    texts = [[format_cell(row.cells[c]) for c in ("FPS", "latency, ms", "ratio", "AP")] for row in table.rows[:5]]
    assert texts == [
        ["20.0", "50.00", "1.000", "37.6"],
        ["18.9", "52.91", "1.058", "37.8"],
        ["16.1", "62.11", "1.242", "38.7"],
        ["16.3", "61.35", "1.227", "37.7"],
        ["11.8", "84.75", "1.695", "39.3"],
    ]
    assert [format_cell(row.cells["adds, ms"]) for row in table.rows[1:5]] == ["+2.91", "+9.20", "−0.76", "+22.64"]
    assert all(source.is_published for row in table.rows[:5] for source in row.sources)


def test_own_rows(results):
    table = speed_table(results, PUBLISHED)
    assert [row.group for row in table.rows[5:]] == ["This run"] * 6 + ["This run, 4 images at once"] * 6
    refine = table.rows[9].cells
    shown = {column: format_cell(cell) for column, cell in refine.items() if column != "AP"}
    assert shown == {
        "FPS": "41.7",
        "latency, ms": "24.00",
        "quartiles, ms": "23.50 to 24.50",
        "ratio": "1.200",
        "quartiles": "1.190 to 1.210",
        "ratio without RoI pooling": "1.533",
        "adds, ms": "+6.00",
    }
    own = [results.evaluation("samp1000_lw5.0", seed, "rank_refine0.25")["AP"] for seed in range(3)]
    assert refine["AP"].value == pytest.approx(100 * sum(own) / 3)
    regular = [results.evaluation("samp1000_lw5.0", seed, "none")["AP"] for seed in range(3)]
    assert table.rows[8].cells["AP"].value == pytest.approx(100 * sum(regular) / 3)
    assert format_cell(table.rows[8].cells["adds, ms"]) == "−0.50"
    assert "Test CPU (1 thread), torch 2.11.0" in table.caption
    assert "flatters" in table.caption
    assert refine["ratio"].sources[0].file == "speed/cpu.json"
    assert refine["ratio"].sources[0].key == "blocks.0.rows.refine.ratio.median"


def test_the_row_in_reduced_precision_is_ours_and_says_what_it_costs(results):
    table = speed_table(results, PUBLISHED)
    for row in (table.rows[10], table.rows[16]):
        assert row.label == "+ Refine, FC in bfloat16"
        assert format_cell(row.cells["AP"]) == "49.9"  # of the seed that was timed
        assert row.cells["AP"].seeds == row.cells["AP difference"].seeds == 1
        assert format_cell(row.cells["AP difference"]) == "\N{MINUS SIGN}0.12"
        assert row.cells["AP difference"].sources[0].key == "reduced_precision.AP_difference"
        assert row.sources[0].file == "speed/cpu.json"
        assert len(row.sources) == 1
    assert format_cell(table.rows[10].cells["adds, ms"]) == "\N{MINUS SIGN}2.00"
    assert all("AP difference" not in row.cells for row in table.rows if row.label != "+ Refine, FC in bfloat16")
    assert "*+ Refine, FC in bfloat16* is an addition of ours" in table.caption


def test_a_file_without_reduced_precision_speaks_of_none(timed):
    data = make_speed()
    del data["reduced_precision"]
    with pytest.raises(ReportError, match="key 'reduced_precision.fc_dtype' is missing"):
        speed_table(timed(cpu=data), PUBLISHED)
    data["reduced_precision"] = None
    for block in data["blocks"]:
        del block["rows"]["refine_bfloat16"]
    table = speed_table(timed(cpu=data), PUBLISHED)
    assert [row.label for row in table.rows] == LABELS * 3
    assert "addition of ours" not in table.caption


def test_an_ap_that_is_not_defined_is_a_dash(timed):
    data = make_speed()
    data["reduced_precision"]["metrics"]["refine_bfloat16"]["AP"] = data["reduced_precision"]["AP_difference"] = None
    cells = speed_table(timed(cpu=data), PUBLISHED).rows[10].cells
    assert format_cell(cells["AP"]) == format_cell(cells["AP difference"]) == "–"


def test_every_key_leads_to_its_number(results):
    data = json.loads((results.root / "speed" / "cpu.json").read_text())
    for row in speed_table(results, PUBLISHED).rows[5:]:
        for column, cell in row.cells.items():
            if cell.kind == "text" or cell.sources[0].file != "speed/cpu.json":
                continue
            value = data
            for part in cell.sources[0].key.split("."):
                value = value[int(part)] if part.isdigit() else value[part]
            assert (100 * value if column.startswith("AP") else value) == cell.value


def test_without_a_file_the_table_is_left_out_with_a_line(timed):
    results = timed()
    with pytest.raises(NotInSuite, match="snakemake speed"):
        speed_table(results, PUBLISHED)
    report = assemble(results, PUBLISHED)
    assert "speed" not in [table.key for table in report.tables]
    left_out = report.blocks[-1].items
    assert [line for line in left_out if "Inference speed" in line and "inference was not timed" in line]


def test_a_row_that_was_not_timed_is_no_row(timed):
    data = make_speed()
    for block in data["blocks"]:
        del block["rows"]["regular_nms"]
    labels = [row.label for row in speed_table(timed(cpu=data), PUBLISHED).rows[5:]]
    assert labels == [label for label in OWN_LABELS if "regular" not in label] * 2


def test_two_devices_are_named(timed):
    table = speed_table(timed(cpu=make_speed(), cuda=make_speed("cuda")), PUBLISHED)
    assert list(dict.fromkeys(row.group for row in table.rows))[1:] == [
        "This run, cpu",
        "This run, cpu, 4 images at once",
        "This run, cuda",
        "This run, cuda, 4 images at once",
    ]
    assert "Test CPU (1 thread), torch 2.11.0; Test GPU, torch 2.11.0" in table.caption


def test_a_gpu_alone_is_not_warned_about(timed):
    assert "flatters" not in speed_table(timed(cuda=make_speed("cuda")), PUBLISHED).caption


def test_times_of_another_checkpoint_are_stale(timed):
    data = make_speed()
    data["checkpoints"]["samp1000_lw5.0"]["sha256"] = "0" * 64
    results = timed(cpu=data)
    assert "samp1000_lw5.0: timed with checkpoint_sha256 000000000000…" in results.speeds["stale"].iloc[0]
    row = speed_table(results, PUBLISHED).rows[5]
    assert format_cell(row.cells["FPS"]) == "50.0 †"
    assert not timed(cpu=make_speed()).speeds["stale"].iloc[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "cuda"}, "key 'device' is 'cuda', expected 'cpu'"),
        ({"suite": "other"}, "key 'suite' is 'other'"),
        ({"dataset_fingerprint": "e" * 64}, "another dataset"),
        ({"hardware": {}}, "key 'hardware.cpu' is missing"),
        ({"blocks": [{"batch_size": 1, "rows": {"nms": {"fps": 1.0}}}]}, "key 'latency_ms.median' is missing"),
    ],
)
def test_files_that_belong_elsewhere_or_lack_a_key_are_refused(timed, change, message):
    with pytest.raises(ReportError, match=message):
        speed_table(timed(cpu={**make_speed(), **change}), PUBLISHED)


def test_a_damaged_file_is_named(copy, timed):
    timed(cpu=make_speed())
    path = copy / "results" / "shapes" / "speed" / "cpu.json"
    shutil.copy(path, path.with_suffix(".bak"))
    path.write_text(path.read_text()[:100])
    with pytest.raises(ReportError, match=r"cpu.json: damaged"):
        timed()
