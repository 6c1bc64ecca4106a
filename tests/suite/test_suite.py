"""A suite: its defaults, what it refuses and how, what follows from its keys."""

from pathlib import Path

import pytest
import yaml

from suite.blocks import FolderData, GeneratedData, Inference, Scale
from suite.errors import NotInSuite, SuiteError, exits_on_error
from suite.reader import laid_over
from suite.settings import Setting, StepSize
from suite.suite import check_suite, load_suite

TINY = Path("tests/workflow/tiny.yaml")
SHAPES = Path("experiments/shapes.yaml")


def tiny(**changes):
    """The tests' suite as plain data."""
    return {**yaml.safe_load(TINY.read_text()), **changes}


@pytest.mark.parametrize("path", [TINY, SHAPES, Path("experiments/coco.yaml"), Path("experiments/bccd.yaml")])
def test_suites_of_the_project_are_valid(path):
    suite = load_suite(path)
    assert {"faster_rcnn", "samp1000_lw5.0"} <= set(suite.variants)


def test_defaults_are_filled_in():
    suite = check_suite({k: v for k, v in tiny().items() if k not in ("scale", "inference")})
    assert suite.scale == Scale(loss_weight=1.0, smooth_l1_beta=1.0, rois=1.0, rois_per_iou=1.0, step_size=1.0)
    steps = tuple(StepSize(float(step), float(step)) for step in (0.5, 1, 2, 3))
    assert suite.inference == Inference(dict.fromkeys(("rank", "weight", "none"), steps), {}, 5, 16)
    assert suite.sweep is None and suite.training.epochs is None


def test_it_is_typed_and_frozen():
    suite = load_suite(SHAPES)
    assert isinstance(suite.dataset, GeneratedData) and suite.dataset.splits["val"].images == 2000
    assert suite.variants["samp1000_lw5.0"].has_iou_branch and not suite.variants["faster_rcnn"].has_iou_branch
    assert suite.sweep is not None and suite.sweep.space["loss_weight"] == (1, 20)
    with pytest.raises(AttributeError):
        suite.seeds = (7,)
    with pytest.raises(TypeError):
        suite.variants["other"] = suite.variants["faster_rcnn"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sedes": [0]}, r"'sedes' was unexpected\); did you mean 'seeds'\?"),
        ({"seeds": []}, r"seeds: \[\] should be non-empty"),
        ({"seeds": ["a"]}, "seeds.0: 'a' is not of type 'integer'"),
        ({"inference": {"step_sizes": {"rnak": []}}}, r"step_sizes: 'rnak' is not one of \['rank', 'weight', 'none'\]"),
        ({"inference": {"guides": {"rnak": []}}}, r"step_sizes: 'rnak' is not one of \['rank', 'weight', 'none'\]"),
        ({"inference": {"guides": {}, "step_sizes": {"rank": []}}}, "both `step_sizes` and its old name `guides`"),
        ({"inference": {"guides": {"rank": ["a"]}}}, "inference.step_sizes.rank.0: 'a' is not of type 'number'"),
        (
            {"inference": {"step_sizes": {"rank": [0.5, 0.50000001]}}},
            r"step_sizes.rank has two values that are both 0.25 here: their results would have one name",
        ),
        *(
            ({"variants": {name: {"family": "iounet", "config": "nowhere.py"}}}, "variants: .* does not match")
            for name in ("..", ".", "-h", "a\n", "a/b", "a b", "", "$(x)")
        ),
        ({"suite": "tiny\n"}, "suite: 'tiny.n' does not match"),
        ({"results": "a{b}"}, "results: 'a{b}' does not match"),
        ({"results": ""}, "results: '' "),
        ({"variants": {"x": {"family": "iounet", "config": "nowhere.py"}}}, "config of 'x' does not exist: nowhere.py"),
        (
            {
                "sweep": {
                    "base": "samp1000_lw5.0",
                    "space": {"loss_weight": [1, 2]},
                    "step_sizes": [0.25, 0.2500000001],
                }
            },
            "sweep.step_sizes has two values that are both",
        ),
        ({"report_split": "tset"}, "report_split is 'tset', but dataset.splits has no such split"),
        ({"validation": {"split": "tnue"}}, "validation.split is 'tnue', but dataset.splits has no such split"),
        ({"report_split": "tune"}, "validation.split and report_split are both 'tune'"),
        (
            {"sweep": {"base": "samp1000_lw5.0", "space": {"loss_wieght": [1, 2]}}},
            "sweep.space.loss_wieght: no such parameter; there are loss_weight, per_img, per_iou",
        ),
        (
            {"sweep": {"base": "samp1000_lw5.0", "space": {"loss_weight": [20, 1]}}},
            r"sweep.space.loss_weight is \[20, 1\]: the first must be the smaller",
        ),
        (
            {"sweep": {"base": "samp1000_lw5.0", "space": {"per_iou": [1.5, 2]}}},
            r"sweep.space.per_iou is \[1.5, 2\]: expected two whole numbers",
        ),
    ],
)
def test_a_mistake_is_named(change, message):
    with pytest.raises(SuiteError, match=message):
        check_suite(tiny(**change), source="mine.yaml")


def test_a_file_laid_over_a_suite_can_take_the_sweep_and_variants_away():
    whole, over = yaml.safe_load(SHAPES.read_text()), yaml.safe_load(Path("experiments/quick.yaml").read_text())
    merged = {**whole, **over, "variants": {**whole["variants"], **over["variants"]}}
    suite = check_suite(laid_over(merged))
    assert suite.sweep is None
    assert suite.seeds == (0,)
    assert list(suite.variants) == ["faster_rcnn", "samp1000_lw5.0", "samp1000_lw5.0_bce"]
    with pytest.raises(SuiteError, match="variants.max1000_lw10.0_periou50: None is not of type 'object'"):
        check_suite(merged)


def test_a_missing_suite_names_those_that_exist(tmp_path):
    with pytest.raises(SuiteError, match="no such suite file; experiments/ has .*shapes.yaml"):
        load_suite(tmp_path / "none.yaml")


def test_unknown_variant_lists_the_known():
    with pytest.raises(SuiteError, match="no variant 'faster'; it has faster_rcnn, samp1000_lw5.0"):
        load_suite(TINY).variant("faster")


def test_the_settings_of_a_variant():
    suite = load_suite(TINY)
    assert [s.name for s in suite.settings("samp1000_lw5.0")] == ["off", "rank", "rank_refine0.25"]
    assert [s.name for s in suite.settings("faster_rcnn")] == ["off"]
    assert [s.name for s in suite.settings("pretraining")] == ["off"]


def test_the_setting_that_stands_for_a_published_one():
    suite = load_suite(TINY)
    assert suite.setting(None) == Setting()
    assert suite.setting("rank") == Setting("rank")
    assert suite.setting("rank", 0.5) == Setting("rank", StepSize(0.5, 0.25), 2)
    with pytest.raises(NotInSuite, match=r"λ = 2 \(here 1\) is not in inference.step_sizes.rank of suite 'tiny'"):
        suite.setting("rank", 2.0)
    with pytest.raises(NotInSuite, match="guide 'weight' is not in inference.step_sizes of suite 'tiny'"):
        suite.setting("weight")
    with pytest.raises(NotInSuite, match="not in suite 'tiny': other, another"):
        suite.require("faster_rcnn", "other", "another")


def test_the_parts_of_a_refinement():
    inference = {"step_sizes": {"rank": [0.5, 2], "none": [2]}, "parts": {"rank": 0.5}, "num_steps": 3}
    suite = check_suite({**tiny(), "inference": inference})
    step = suite.scale.step(0.5)
    movement = Setting("rank", step, 3, "movement")
    assert suite.settings("samp1000_lw5.0")[-2:] == [movement, Setting("rank", part="score")]
    assert suite.setting("rank", 0.5, "movement") == movement
    assert suite.setting("rank", 0.5, "score").name == "rank_score"
    with pytest.raises(NotInSuite, match=r"λ = 2 \(here 1\) is not in inference.parts.rank of suite 'tiny'"):
        suite.setting("rank", 2.0, "movement")
    with pytest.raises(SuiteError, match="inference.parts.none is 0.5, which inference.step_sizes.none lacks: add it"):
        check_suite({**tiny(), "inference": {**inference, "parts": {"none": 0.5}}})


def test_a_suite_of_the_first_release_keeps_its_settings():
    new = load_suite(SHAPES)
    actual = {guide: [step.actual for step in steps] for guide, steps in new.inference.step_sizes.items()}
    raw = {**new.raw, "inference": {"guides": actual, "num_steps": 5, "batch_size": 25}}
    old = check_suite(raw)
    names = [setting.name for setting in new.settings("samp1000_lw5.0") if setting.part is None]
    assert [setting.name for setting in old.settings("samp1000_lw5.0")] == names
    assert old.setting("rank", 2.0) == new.setting("rank", 2.0)
    assert check_suite(old.raw) == old, "read once more, it is in published units"


def test_a_changed_suite_is_checked_anew():
    suite = load_suite(TINY)
    assert suite.changed(pretraining=None).pretraining is None
    assert suite.changed(results="elsewhere").layout.root == Path("elsewhere/tiny")
    with pytest.raises(SuiteError, match="suite 'tiny', changed"):
        suite.changed(seeds=[])


def test_the_split_that_shows_nothing_of_another_one():
    dataset = load_suite("experiments/coco.yaml").dataset
    assert isinstance(dataset, FolderData)
    assert dataset.without("train", "tune") == "trainwithouttune"
    assert dataset.without("train", "val") == "train"
    assert dataset.without("val", "tune") == "val"


def test_its_text_is_the_suite_again(tmp_path):
    suite = load_suite(SHAPES)
    (tmp_path / "suite.yaml").write_text(suite.text)
    assert load_suite(tmp_path / "suite.yaml") == suite


def test_a_command_ends_with_the_message(monkeypatch):
    @exits_on_error
    def main(text):
        raise SuiteError(text)

    with pytest.raises(SystemExit, match=r"^error: no such thing$"):
        main("no such thing")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as ended:
        main("said by rank 0 already")
    assert ended.value.code == 1
