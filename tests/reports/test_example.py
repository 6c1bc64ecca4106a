"""The committed example: no more of each result file than its report shows."""

import json

from reports.example import IDENTITY, copy_thinned, thinned

DATA = {
    "suite": "shapes",
    "seed": 1,
    "metrics": {"AP": 0.5, "AP50": 0.75, "APs": None},
    "blocks": [
        {"batch_size": 1, "rows": {"nms": {"fps": 1.0, "rounds": [1, 2]}}},
        {"batch_size": 4, "rows": {"nms": {"fps": 2.0, "rounds": [3]}}},
    ],
    "per_class": {"circle": 0.5},
}


def test_thinned_keeps_what_paths_lead_to():
    assert thinned(DATA, [["seed"], ["metrics", "AP"], ["metrics", "APs"], ["nowhere", "to", "be"]]) == {
        "seed": 1,
        "metrics": {"AP": 0.5, "APs": None},
    }


def test_a_path_that_ends_keeps_all_below_it():
    assert thinned(DATA, [["metrics", "AP"], ["metrics"]]) == {"metrics": DATA["metrics"]}


def test_items_of_a_list_keep_their_places():
    kept = thinned(DATA, [["blocks", "1", "rows", "nms", "fps"]])
    assert kept["blocks"][1] == {"rows": {"nms": {"fps": 2.0}}}
    assert kept["blocks"][0] == {}
    every = thinned(DATA, [["blocks", "*", "rows", "nms", "rounds"], ["blocks", "1", "rows", "nms", "fps"]])
    assert [block["rows"]["nms"] for block in every["blocks"]] == [{"rounds": [1, 2]}, {"fps": 2.0, "rounds": [3]}]


def test_a_copy_has_a_line_for_each_top_level_key(tmp_path):
    (tmp_path / "rank.json").write_text(json.dumps(DATA, indent=1))
    copy_thinned(tmp_path / "rank.json", tmp_path / "copy" / "rank.json", ["metrics.AP50"])
    text = (tmp_path / "copy" / "rank.json").read_text()
    assert text.splitlines() == [
        "{",
        '"suite": "shapes",',
        '"seed": 1,',
        '"metrics": {"AP50": 0.75},',
        '"blocks": [{"batch_size": 1}, {"batch_size": 4}]',
        "}",
    ]


def test_other_files_are_copied_whole(tmp_path):
    (tmp_path / "trials.csv").write_text("number,state\n0,complete\n")
    copy_thinned(tmp_path / "trials.csv", tmp_path / "copy.csv", [])
    assert (tmp_path / "copy.csv").read_text() == "number,state\n0,complete\n"


def at(data, key):
    for part in key.split("."):
        data = data[int(part)] if isinstance(data, list) else data[part]
    return data


def test_every_cell_finds_its_value_in_the_copy(built, made):
    report, _, example = built
    found = 0
    for cell in (cell for table in report.tables for row in table.rows for cell in row.cells.values()):
        for source in cell.sources:
            if source.file.endswith(".json") and (example / source.file).is_file():
                original = json.loads((made / "results" / "shapes" / source.file).read_text())
                copy = json.loads((example / source.file).read_text())
                assert at(copy, source.key) == at(original, source.key), source
                assert {key: copy[key] for key in IDENTITY if key in original} == {
                    key: original[key] for key in IDENTITY if key in original
                }
                found += 1
    assert found > 500


def test_the_copies_are_short(built):
    copies = [path for path in built[2].rglob("*.json") if path.parent != built[2]]
    assert len(copies) > 80
    assert max(len(path.read_text().splitlines()) for path in copies) <= 20
    thin = {frozenset(json.loads(path.read_text())) - {"per_class"} for path in copies if path.name == "off.json"}
    assert thin == {
        frozenset(
            {
                *("suite", "variant", "seed", "split", "setting", "metrics"),
                *("checkpoint_sha256", "config_hash", "git_commit", "dataset_fingerprint"),
            }
        )
    }
