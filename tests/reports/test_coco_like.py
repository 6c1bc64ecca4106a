"""The report of a suite on a folder of real images: no miniature, no scaling, one seed, models that are not trained."""

import json

import pytest
import yaml

from drawing.colours import OF_CLASSES
from reports.document.assemble import assemble
from reports.document.blocks import Heading
from reports.document.links import Links
from reports.document.markdown import markdown
from reports.figures.samples.choose import load_sheet
from reports.figures.samples.sheet import class_colours, draw
from reports.results.collect import collect
from reports.results.published import load_published
from reports.results.sides import BASELINE, FIRST_VERSION
from suite.suite import load_suite
from tests.reports import synthetic

SUITE = yaml.safe_load((synthetic.Path(__file__).parents[2] / "experiments/coco.yaml").read_text())


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Synthetic results under the coco suite's own YAML, with its variants, settings, 80 classes and 2 image sizes."""
    folder = tmp_path_factory.mktemp("coco")
    root = folder / "results"
    (folder / "coco.yaml").write_text(yaml.safe_dump(SUITE))
    own = load_suite(folder / "coco.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "STEPS", tuple(step.actual for step in own.inference.step_sizes["rank"]))
        patch.setattr(synthetic, "PARTS_OF", tuple(step.actual for step in own.inference.parts.values()))
        synthetic.make_results(root, images=10, variants=tuple(SUITE["variants"]), seeds=tuple(SUITE["seeds"]))
    for path in root.rglob("*.json"):
        path.write_text(path.read_text().replace('"suite": "shapes"', '"suite": "coco"'))
    names = [*synthetic.CLASSES, *(f"class {n}" for n in range(4, 81))]
    change(root / "data/val.json", categories=[{"id": n, "name": name} for n, name in enumerate(names, 1)])
    splits = {"train": {"images": 118287}, "val": {"images": 5000}, "tune": {"images": 5000}}
    manifest = {"format": "coco", "download": "coco2017", "fingerprint": synthetic.FINGERPRINT, "splits": splits}
    (root / "data/dataset.json").write_text(json.dumps({**manifest, "categories": names}))
    for path in root.glob("runs/*/seed0/run.json"):
        run = json.loads(path.read_text())
        mapped = {**run["mapped"], "lr": {"published": 0.02, "actual": 0.005}}
        inputs = {"dataset_fingerprint": synthetic.FINGERPRINT, "backbone_sha256": "0676ba61"}
        trained_on = {"split": "train", "images": 117266, "seen": ["train", "tune"]}
        change(path, mapped=mapped, inputs=inputs, trained_on=trained_on, epochs=12)
    return folder


@pytest.fixture(scope="module")
def text(folder):
    results = collect(load_suite(folder / "coco.yaml"), folder / "results", resamples=20)
    return markdown(assemble(results, load_published()), Links(folder / "results", folder / "report"))


def test_it_says_what_the_data_are(text):
    assert text.startswith("# IoU-Net on COCO 2017\n")
    assert "80 classes; trained for 12 epochs on 118287 images of `train`, reported on the 5000 images of `val`" in text
    assert "These are the images of the publications" in text
    assert "**Data:** format `coco`, fingerprint `ffffffffffff`." in text
    assert "**Learning rate**, scaled to the images of a batch: 0.005." in text


def test_nothing_in_it_speaks_of_a_miniature_or_of_scaled_settings(text):
    for word in (
        "miniature",
        "generated images",
        "generator",
        "different data",
        "(here ",
        "Scale of published settings",
    ):
        assert word not in text, word
    assert "of 96×96 pixels" not in text and "median box side" not in text


def test_every_part_is_in_it(text):
    for heading in ("Main result", "Ablation", "Loss, and training RoIs", "Step size of the refinement", "Runs"):
        assert f"\n## {heading}\n" in text
    assert "## Left out" not in text


def test_models_that_are_not_trained_are_listed(text):
    section = text.split("## Not trained\n")[1].split("\n## ")[0]
    for entry in SUITE["untrained"].values():
        assert f"**{entry['label']}** (`{entry['config']}`): {entry['reason']}." in section
    assert section.count("\n- ") == len(SUITE["untrained"]) == 2


def test_curves_on_images_that_were_trained_on_say_so(folder, text):
    assert "on 5000 images of `tune`, not on the report split." in text
    assert "These images are among those trained on" in text


def test_other_data_than_the_published_are_not_compared(folder, tmp_path):
    results = collect(load_suite(folder / "coco.yaml"), folder / "results")
    from reports.document.facts import scale_statement
    from reports.tables.accuracy import main_table

    published = load_published()
    assert "different data" not in main_table(results, published).caption
    results.dataset["download"] = None  # a folder of one's own
    assert "These are not the images of the publications" in scale_statement(results, published)
    assert "the APs belong to different data" in main_table(results, published).caption


def test_the_sheet_names_the_classes_drawn_and_no_others(folder):
    models = {"Faster R-CNN": BASELINE, "IoU-Net": FIRST_VERSION}
    sheet = load_sheet(collect(load_suite(folder / "coco.yaml"), folder / "results"), models, failures=True)
    assert len(sheet.category_names) == 80 > len(OF_CLASSES)
    drawn = {c for s in (*sheet.typical, *sheet.failures) for b in (s.truth, *s.found) for c in b.categories}
    assert set(class_colours(sheet)) == drawn and len(drawn) > 0
    (legend,) = draw(sheet).legends
    assert {text.get_text() for text in legend.get_texts()} > {sheet.category_names[c] for c in drawn}


def test_a_suite_without_a_description_has_no_empty_line_for_it(folder, tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**SUITE, "description": "", "untrained": {}}))
    results = collect(load_suite(tmp_path / "mine.yaml"), folder / "results")
    report = assemble(results, load_published())
    assert report.blocks[0] == Heading("IoU-Net on COCO 2017", 1)
    assert report.blocks[1].aside and report.blocks[1].text.startswith("**Scale.**")
    assert Heading("Not trained") not in report.blocks
