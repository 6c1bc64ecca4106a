"""The recipe that is run is the one that was registered, and so are the claims."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from experiments.registration import main, recipe
from reports.claims import claims_digest
from reports.registration import load_registration
from suite.suite import load_suite

FILES = sorted(Path("experiments/registered").glob("*.yaml"))
REGISTERED = yaml.safe_load(Path("experiments/registered/shapes.yaml").read_text())


@pytest.fixture(scope="module")
def suite():
    return load_suite("experiments/shapes.yaml")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_recipe_is_the_registered_one(file):
    registered = load_registration(file)
    own = load_suite(f"experiments/{file.stem}.yaml")
    images = None if own.is_generated else registered["recipe"]["dataset_fingerprint"]
    assert registered["suite"] == own.name
    assert recipe(own, images) == registered["recipe"], (
        f"the recipe of experiments/{file.name} is not the registered one: a changed recipe needs a new dataset seed, "
        f"where images are made, a new registration in {file} (`python -m experiments.registration --suite …` prints "
        "the recipe) and a new run"
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_claims_are_the_registered_ones(file):
    assert claims_digest() == load_registration(file)["claims"], (
        "reports/claims.yaml was changed since it was registered: register it anew, with a new dataset seed and a new "
        "run"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": [0, 1]},
        {"scale": {"rois": 0.2}},
        {"inference": {"step_sizes": {"rank": [0.5]}}},
        {"report_split": "tune", "validation": {"split": "val", "images": 100}},
    ],
)
def test_whatever_decides_results_changes_the_recipe(suite, changes):
    assert recipe(suite.changed(**changes))["hash"] != recipe(suite)["hash"]


def test_a_new_draw_of_the_data_is_a_new_recipe(suite):
    drawn = replace(suite, dataset=replace(suite.dataset, seed=1))
    assert recipe(drawn)["hash"] != recipe(suite)["hash"]


def test_images_of_a_folder_are_told_by_their_fingerprint(tmp_path):
    suite = load_suite("experiments/coco.yaml")
    with pytest.raises(ValueError, match="suite 'coco': its images lie in a folder; give their fingerprint"):
        recipe(suite)
    assert recipe(suite, "1")["hash"] != recipe(suite, "2")["hash"]
    with pytest.raises(SystemExit, match="error: .*coco/data/dataset.json is missing"):
        main(["--suite", "experiments/coco.yaml"])


def test_the_command_prints_what_is_registered(capsys):
    main(["--suite", "experiments/shapes.yaml"])
    assert yaml.safe_load(capsys.readouterr().out)["recipe"] == REGISTERED["recipe"]
