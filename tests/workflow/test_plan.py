"""What would run, and how long."""

import csv
from pathlib import Path

from suite.files import write_json
from suite.layout import Layout
from suite.suite import load_suite
from workflow import times as module
from workflow.plan import parse_dry_run, render
from workflow.times import Job, Sizes, estimate, measured, read_recorded, record, trainings
from workflow.work import measured_work, planned_work

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = {"faster_rcnn": "baseline", "samp1000_lw5.0": "iounet"}
DRY_RUN = """Building DAG of jobs...
Job stats:
[today]
rule pretraining:
    output: results/s/pretraining/checkpoint.pth
    benchmark: results/s/benchmarks/pretraining.tsv
    threads: 2
    resources: mem_mb=3000

rule train:
    benchmark: results/s/benchmarks/train_faster_rcnn_seed0.tsv
    wildcards: variant=faster_rcnn, seed=0
    resources: tmpdir=/tmp, gpu=1
rule train:
    benchmark: results/s/benchmarks/train_samp1000_lw5.0_seed0.tsv
    wildcards: variant=samp1000_lw5.0, seed=0
    resources: tmpdir=/tmp, gpu=1
rule train:
    benchmark: results/s/benchmarks/train_samp1000_lw5.0_seed1.tsv
    wildcards: variant=samp1000_lw5.0, seed=1
    resources: tmpdir=/tmp, gpu=1
localrule all:
    input: results/s/report/README.md
"""


def test_jobs_are_read_off_a_dry_run():
    jobs = parse_dry_run(DRY_RUN, FAMILIES)
    assert [job.kind for job in jobs] == ["pretraining", "train, baseline", "train, iounet", "train, iounet", "all"]
    assert [job.threads for job in jobs] == [2, 1, 1, 1, 1]
    assert [job.gpus for job in jobs] == [0, 1, 1, 1, 0]


def test_jobs_of_one_thread_share_the_cores():
    jobs = parse_dry_run(DRY_RUN, FAMILIES)
    own = {"train, baseline": [90.0, 100.0, 300.0]}
    rows = estimate(jobs, own, {"pretraining": 400.0, "train, baseline": 1.0, "train, iounet": 60.0}, cores=2, gpus=2)
    assert [(row.kind, row.jobs, row.seconds, row.wall) for row in rows] == [
        ("pretraining", 1, 400.0, 400.0),
        ("train, baseline", 1, 100.0, 100.0),  # this machine's own median, not the recorded time
        ("train, iounet", 2, 60.0, 60.0),  # side by side
    ]
    text = render(rows, 2)
    assert "all of it: about 9 min on 2 cores" in text
    assert "GPU-hours: about 0" in text  # 220 s


def test_what_was_never_measured_is_said():
    rows = estimate([Job("train", "train, iounet", "b.tsv")], {}, {}, cores=2)
    text = render(rows, 2)
    assert "all of it: not known yet, on 2 cores" in text
    assert "not measured yet: train, iounet" in text
    assert render([], 2).startswith("nothing to run")


def test_benchmarks_are_grouped_by_kind(tmp_path):
    files = {
        "train_faster_rcnn_seed0": 10,
        "train_samp1000_lw5.0_seed0": 20,
        "train_samp1000_lw5.0_seed1": 30,
        "evaluate_samp1000_lw5.0_seed1_val": 5,
        "pretraining": 7,
        "sweep_worker_0": 9,
        "swap_align2_seed0": 40,
        "swap_align4_seed1": 50,
        "train_cascade_rcnn_seed0": 60,
        "train_refiner_class_agnostic_seed0": 70,
        "train_refiner_per_class_seed1": 80,
        "treat_cascade_rcnn_seed0_val": 90,
        "treat_torchvision_faster_rcnn_seed0_val": 95,
    }
    for name, seconds in files.items():
        with (tmp_path / f"{name}.tsv").open("w", newline="") as file:
            csv.writer(file, delimiter="\t").writerows([["s", "max_rss"], [seconds, 1]])
    (tmp_path / "data.tsv").write_text("s\tmax_rss\n")  # killed before its row was written
    detectors = {name: name for name in ("cascade_rcnn", "torchvision_faster_rcnn")}
    assert measured(tmp_path, {**FAMILIES, **detectors}) == {
        "treat, torchvision_faster_rcnn": [95.0],
        "evaluate, iounet": [5.0],
        "pretraining": [7.0],
        "swap": [40.0, 50.0],
        "sweep_worker": [9.0],
        "train, baseline": [10.0],
        "train, cascade_rcnn": [60.0],
        "train, iounet": [20.0, 30.0],
        "train_refiner": [70.0, 80.0],
        "treat, cascade_rcnn": [90.0],
    }


def test_recording_keeps_the_other_suites(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RECORDED", tmp_path / "recorded.yaml")
    record("other", {"train": [1.0]}, gpus=0, work={})
    record("mine", {"train, iounet": [1.0, 3.0]}, gpus=2, work={"train, iounet": 5.0})
    found = read_recorded()
    assert found["mine"]["seconds"] == {"train, iounet": 2.0}
    assert found["other"]["seconds"] == {"train": 1.0}
    assert found["mine"]["machine"] and found["mine"]["gpus"] == 2


def test_jobs_with_gpus_run_side_by_side_as_far_as_the_gpus_last():
    jobs = [Job("train", "train, iounet", "b.tsv", threads=4, gpus=2)] * 6
    for cores, gpus, at_once in [(64, 4, 2), (64, 1, 1), (64, 0, 1), (4, 16, 1), (64, 64, 6)]:
        (row,) = estimate(jobs, {"train, iounet": [3600.0]}, {}, cores, gpus)
        assert (row.at_once, row.wall) == (at_once, 3600 * 6 / at_once)
    assert "GPU-hours: about 12" in render([row], 64, 64)
    assert "on 64 cores and 64 GPUs" in render([row], 64, 64)


def test_a_training_on_more_gpus_than_were_recorded_takes_as_much_less_time():
    jobs = [Job("train", "train, iounet", "b.tsv", gpus=4), Job("evaluate", "evaluate, iounet", "c.tsv", gpus=1)]
    recorded = {"train, iounet": 8000.0, "evaluate, iounet": 100.0}
    seconds = [[row.seconds for row in estimate(jobs, {}, recorded, 8, 8, trained_on)] for trained_on in (1, 2)]
    assert seconds == [[2000.0, 100.0], [4000.0, 100.0]]
    own = {"train, iounet": [500.0]}  # measured here, on as many as are asked for
    assert estimate(jobs, own, recorded, 8, 8)[0].seconds == 500.0


def test_a_trainings_time_is_its_own_not_that_of_its_last_job(tmp_path):
    for folder, variant, seconds in [("pretraining", "pretraining", 9), ("runs/a/seed0", "faster_rcnn", 100)]:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "run.json").write_text(f'{{"variant": "{variant}", "wall_time_s": {seconds}}}')
    (tmp_path / "runs/a/seed1").mkdir()
    (tmp_path / "runs/a/seed1/run.json").write_text("{")
    assert trainings(Layout(tmp_path), FAMILIES) == {"pretraining": [9.0], "train, baseline": [100.0]}


def test_times_are_scaled_to_the_planned_size():
    jobs = [
        Job("train", "train, iounet", "b.tsv"),
        Job("evaluate", "evaluate, iounet", "b.tsv"),
        Job("data", "data", "d"),
    ]
    own, work = {"train, iounet": [60.0], "data": [5.0]}, {"train, iounet": 10.0}
    recorded, elsewhere = {"evaluate, iounet": 30.0}, {"evaluate, iounet": 4.0}
    sizes = Sizes({"train, iounet": 800.0, "evaluate, iounet": 2.0}, work, elsewhere)
    rows = {row.kind: row for row in estimate(jobs, own, recorded, cores=1, sizes=sizes)}
    assert {kind: row.seconds for kind, row in rows.items()} == {
        "train, iounet": 4800.0,
        "evaluate, iounet": 15.0,
        "data": 5.0,
    }
    assert rows["train, iounet"].source == "median of 1 here, x 80 for images and epochs"
    (unknown,) = estimate(jobs[:1], own, {}, cores=1, sizes=Sizes({}, work))
    assert unknown.seconds is None and "before the images are counted" in unknown.source


def test_work_is_images_times_epochs_times_pixels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = load_suite(ROOT / "tests/workflow/tiny.yaml")
    planned = planned_work(tiny)
    assert planned["train, baseline"] == 32 * 2 * 96 * 96 and planned["evaluate, iounet"] == 12 * 96 * 96
    counts = [split.images for split in tiny.dataset.splits.values()]
    timed = tiny.speed.rounds * tiny.speed.images
    assert planned["data"] == sum(counts) and planned["speed"] == timed * 96 * 96
    coco = load_suite(ROOT / "experiments/coco.yaml")
    assert planned_work(coco)["train, iounet"] == 118287 * 12 * 1333 * 800
    run = {"variant": "faster_rcnn", "seed": 0, "epochs": 1, "trained_on": {"images": 32, "pixels": 96 * 96}}
    write_json(tiny.layout.run("faster_rcnn", 0).run, run)
    assert measured_work(tiny, tiny.layout) == {"train, baseline": 32 * 96 * 96}
    write_json(tiny.layout.evaluation("faster_rcnn", 0, tiny.report_split).setting("off"), {"images": 5})
    write_json(tiny.layout.speed("cpu"), {"timed": {"rounds": 3, "images": 4}})
    splits = {name: {"images": number} for name, number in zip(tiny.dataset.splits, counts, strict=True)}
    write_json(tiny.layout.data.manifest, {"splits": splits})
    found = measured_work(tiny, tiny.layout)
    assert found["data"] == sum(counts) and found["speed"] == 12 * 96 * 96
    splits = {"train": {}, "tune": {"from": "train", "take": 0.1}, "val": {}}
    mine = coco.changed(dataset={"format": "voc", "root": "x", "splits": splits})
    assert planned_work(mine) == {}  # not counted yet
