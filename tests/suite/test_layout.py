"""Where results lie: names that results on disk depend on, and what belongs into a folder."""

from pathlib import Path

from suite.layout import EvaluationFolder, Layout, ReportFolder, RunFolder, SweepFolder

ROOT = Path("results/shapes")


def test_names_on_disk():
    layout = Layout(ROOT)
    evaluation = layout.evaluation("samp1000_lw5.0", 0, "val")
    places = [
        layout.suite_file,
        layout.data.manifest,
        layout.data.annotations("val"),
        layout.pretraining.checkpoint,
        *layout.run("faster_rcnn", 2).outputs,
        layout.run("faster_rcnn", 2).metrics,
        *layout.refiner("per_class", 1).outputs,
        layout.refiner("per_class", 1).kept.checkpoint,
        evaluation.index,
        evaluation.setting("rank_refine0.15"),
        evaluation.matches("rank_refine0.15"),
        evaluation.detections,
        evaluation.diagnostics,
        layout.speed("cpu"),
        layout.sweep.journal,
        layout.sweep.worker(1),
        layout.sweep.trial("abc", 0).path,
        layout.sweep.evaluation("winner").index,
        layout.report.readme,
        layout.ablation.readme,
        layout.pooling.readme,
        layout.measured_pooling,
        layout.swapped("align2", 0, "val").index,
        layout.log("train_faster_rcnn_seed2"),
        layout.benchmark("data"),
    ]
    assert [layout.relative(place) for place in places] == [
        "suite.yaml",
        "data/dataset.json",
        "data/val.json",
        "pretraining/checkpoint.pth",
        "runs/faster_rcnn/seed2/checkpoint.pth",
        "runs/faster_rcnn/seed2/run.json",
        "runs/faster_rcnn/seed2/history.csv",
        "runs/faster_rcnn/seed2/metrics.jsonl",
        "refiners/per_class/seed1/refiner.pth",
        "refiners/per_class/seed1/run.json",
        "refiners/per_class/seed1/history.csv",
        "refiners/per_class/seed1/.result/refiner.pth",
        "evaluations/samp1000_lw5.0/seed0/val/evaluation.json",
        "evaluations/samp1000_lw5.0/seed0/val/rank_refine0.15.json",
        "evaluations/samp1000_lw5.0/seed0/val/rank_refine0.15.matches.json.gz",
        "evaluations/samp1000_lw5.0/seed0/val/detections.json.gz",
        "evaluations/samp1000_lw5.0/seed0/val/diagnostics.json",
        "speed/cpu.json",
        "sweep/journal.log",
        "sweep/workers/1.json",
        "sweep/trials/abc_seed0",
        "sweep/val/winner/evaluation.json",
        "report/README.md",
        "ablation/README.md",
        "pooling/README.md",
        "pooling_data/measured.json",
        "pooling_data/align2/seed0/val/evaluation.json",
        "logs/train_faster_rcnn_seed2.log",
        "benchmarks/data.tsv",
    ]


def test_the_pretraining_is_a_run_of_its_own_place():
    assert Layout(ROOT).run("pretraining", 3) == RunFolder(ROOT / "pretraining")


def test_wildcards_are_names_like_others():
    path = Layout(ROOT).run("{variant}", "{seed}").checkpoint
    assert path.as_posix() == "results/shapes/runs/{variant}/seed{seed}/checkpoint.pth"


def test_the_results_around_a_file(tmp_path):
    folder = tmp_path / "results/mine/runs/a/seed0"
    folder.mkdir(parents=True)
    assert Layout.around(folder) is None
    (tmp_path / "results/mine/suite.yaml").touch()
    found = Layout.around(folder / "run.json")
    assert found is not None and found.root == tmp_path / "results/mine"
    assert Layout.all_below(tmp_path / "results") == [Layout(tmp_path / "results/mine")]


def test_what_is_no_part_of_an_evaluation(tmp_path):
    folder = EvaluationFolder(tmp_path)
    assert EvaluationFolder(tmp_path / "none").foreign() == []
    own = ["evaluation.json", "off.json", "none_refine1e-05.matches.json.gz", "detections.json.gz", "diagnostics.json"]
    for name in [*own, ".lock", "wandb_run.json", ".off.json.123.part"]:
        (tmp_path / name).touch()
    assert folder.foreign() == []
    for name in ("notes.json", "rank.json.bak", "train.json", "offset.json"):
        (tmp_path / name).touch()
    assert folder.foreign() == ["notes.json", "offset.json", "rank.json.bak", "train.json"]
    assert folder.setting_of(folder.matches("weight_refine0.6")) == "weight_refine0.6"


def test_what_is_no_part_of_a_report(tmp_path):
    for name in ("README.md", "tables", "wandb_run.json", "mine.txt"):
        (tmp_path / name).touch()
    assert ReportFolder(tmp_path).foreign() == ["mine.txt"]


def test_states_are_newest_first(tmp_path):
    for epoch in (2, 10, 9):
        (tmp_path / f"epoch_{epoch}.pth").touch()
    assert [path.name for path in RunFolder(tmp_path).states()] == ["epoch_10.pth", "epoch_9.pth", "epoch_2.pth"]


def test_what_a_sweep_declares():
    names = "sweep.json trials.csv curves.csv profiles.csv importance.json best.json best.py best_variant.py best.yaml"
    assert [path.name for path in SweepFolder(ROOT).outputs] == names.split()
