"""Files, commands and parameters of the rules; and that results of the first release stay up to date."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from suite.errors import SuiteError
from suite.suite import load_suite
from workflow.jobs import Jobs

ROOT = Path(__file__).resolve().parents[2]
SNAKEMAKE = [sys.executable, str(ROOT / "environment/snakemake")]
SWEEP = {"base": "samp1000_lw5.0", "space": {"loss_weight": [1, 20]}, "step_sizes": [0, 0.5]}
COMMAND = "python -m experiments.gpus 1 python -m experiments.train"
OFF, RANK = "Setting(guide=None, step_size=None, num_steps=0)", "Setting(guide='rank', step_size=None, num_steps=0)"


@pytest.fixture(scope="module")
def tiny():
    return load_suite("tests/workflow/tiny.yaml")


def test_what_snakemake_recorded_of_the_tests_suite(tiny):
    """Literal values, of the first release but for the images: a change makes every result of the rule anew."""
    recorded = Jobs(tiny.changed(sweep=SWEEP)).recorded
    assert recorded.data() == {
        "maker": "experiments.shapes",
        "fingerprint": "0bd1afdcfbe606aeba75695274e9a7353c965e4ba22d032089d52e6982ec0263",
    }
    assert recorded.command() == COMMAND
    hashes = {variant: recorded.training(variant) for variant in tiny.trained}
    assert hashes == {
        "faster_rcnn": "30f0f007719f2a25",
        "samp1000_lw5.0": "5a0b20729e26bdef",
        "pretraining": "5bbbebc803e5ef69",
    }
    assert recorded.pretraining_seed() == 0
    assert recorded.evaluation("faster_rcnn") == ["8d2de7a0bd49c957", OFF]
    refined = "Setting(guide='rank', step_size=0.25, num_steps=2)"
    assert recorded.evaluation("samp1000_lw5.0") == ["b550d3fa54eacd05", OFF, RANK, refined]
    assert recorded.sweep() == recorded.evaluation("samp1000_lw5.0")
    rows = [
        f"Row(key='faster_rcnn', variant='faster_rcnn', setting={OFF}, fc_dtype=None)",
        f"Row(key='branch_off', variant='samp1000_lw5.0', setting={OFF}, fc_dtype=None)",
        f"Row(key='nms', variant='samp1000_lw5.0', setting={RANK}, fc_dtype=None)",
        f"Row(key='refine', variant='samp1000_lw5.0', setting={refined}, fc_dtype=None)",
        f"Row(key='refine_bfloat16', variant='samp1000_lw5.0', setting={refined}, fc_dtype='bfloat16')",
    ]
    timed = "{'rounds': 2, 'images': 2, 'device': 'cpu', 'threads': 1, 'fc_dtype': 'bfloat16'}"
    assert recorded.speed() == ["8d2de7a0bd49c957", "b550d3fa54eacd05", *rows, timed]


def test_what_snakemake_recorded_of_the_embedded_suites():
    shapes = Jobs(load_suite("experiments/shapes.yaml")).recorded
    assert shapes.sweep_worker() == "04267f0b858f3cc2"
    assert shapes.training("max1000_lw10.0_periou50") == "63830964278fd59e"
    own = shapes.evaluation("samp1000_lw5.0")
    assert own[0] == "bf727450d15101c6"
    assert own[3:9] == [
        f"Setting(guide='rank', step_size={step}, num_steps=5)" for step in (0.15, 0.3, 0.6, 0.9, 1.5, 3.0)
    ]
    coco = Jobs(load_suite("experiments/coco.yaml")).recorded
    assert coco.data() == {
        "maker": "experiments.folder_data",
        "fingerprint": "42f5f6a9a3c0ff751711c2050e604b71a2787785d0227033c19cc95c0ad238b2",
    }
    assert coco.training("faster_rcnn") == "3e0e231fa1e22264"
    assert coco.training("pretraining") == ""


def test_the_number_of_ranks_decides_whether_a_training_is_done_again(tiny):
    jobs = {gpus: Jobs(tiny.changed(resources={"gpus": gpus})) for gpus in (0, 1, 2)}
    assert jobs[0].recorded.command() == jobs[1].recorded.command() == COMMAND
    two = "2 torchrun --standalone --nproc-per-node 2"
    assert jobs[2].recorded.command() == f"python -m experiments.gpus {two} -m experiments.train"
    assert jobs[2].train_command == f"python -m workflow.gpus {two} -m experiments train"
    assert jobs[1].train_command == "python -m workflow.gpus 1 python -m experiments train"


def test_gpus_of_a_rule(tiny):
    assert Jobs(tiny).gpus() == Jobs(tiny).gpus(most=1) == {}
    one = Jobs(tiny.changed(resources={"gpus": 1}))
    assert one.gpus() == one.gpus(most=1) == {"gpu": 1}
    many = Jobs(tiny.changed(resources={"gpus": 4}))
    assert many.gpus() == {"gpu": 4, "nodes": 1}
    assert many.gpus(most=1) == {"gpu": 1}


def test_a_suite_without_a_sweep_has_no_workers(tiny):
    assert [str(path) for path in Jobs(tiny.changed(sweep=SWEEP)).worker_files()] == [
        "results/tiny/sweep/workers/0.json",
        "results/tiny/sweep/workers/1.json",
    ]
    with pytest.raises(SuiteError, match="suite 'tiny' has no `sweep:` block"):
        Jobs(tiny).worker_files()


def test_the_folder_is_checked_before_anything_trains():
    coco = load_suite("experiments/coco.yaml")
    jobs = Jobs(coco)
    assert jobs.start == {"data": Path("results/coco/data/dataset.json")}
    elsewhere = Jobs(coco.changed(dataset={**coco.raw["dataset"], "root": "/data/coco"}))
    assert elsewhere.recorded.data() != jobs.recorded.data()  # checked again
    assert len(jobs.evaluations(coco.variants)) == 6


def test_what_is_timed(tiny):
    shapes = load_suite("experiments/shapes.yaml")
    assert Jobs(shapes).timed == [Path("results/shapes/speed/cpu.json")]
    variants = {key: entry for key, entry in tiny.raw["variants"].items() if key != "faster_rcnn"}
    for suite, why in ((tiny.changed(variants=variants), "faster_rcnn"), (tiny.changed(speed=None), "speed: null")):
        assert Jobs(suite).timed == [] and Jobs(suite).recorded.speed() == []
        with pytest.raises(SuiteError, match=why):
            Jobs(suite).timed_checkpoints()


def test_a_changed_speed_block_times_again_and_retrains_nothing(tiny):
    before, after = Jobs(tiny).recorded, Jobs(tiny.changed(speed={"rounds": 4, "images": 2})).recorded
    assert before.speed() != after.speed()
    assert before.training("samp1000_lw5.0") == after.training("samp1000_lw5.0")


class Dry:
    """`snakemake -n` in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, *files, arguments=("all",)):
        place = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.folder)]
        command = [*SNAKEMAKE, *arguments, "-n", *place, "--configfile", *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        return done.returncode, done.stdout + done.stderr

    @staticmethod
    def rules(output):
        return set(re.findall(r"^(?:local)?rule (\w+):$", output, re.MULTILINE))

    def suite(self, text):
        path = self.folder / "own.yaml"
        path.write_text((ROOT / "tests/workflow/tiny.yaml").read_text() + text)
        return path


@pytest.fixture
def dry(tmp_path):
    return Dry(tmp_path)


@pytest.fixture(scope="module")
def first_release(tmp_path_factory):
    """Results as first_release.smk leaves them, with what Snakemake recorded then in the working directory."""
    folder = tmp_path_factory.mktemp("first_release")
    place = ["--snakefile", "tests/workflow/first_release.smk", "--directory", str(folder)]
    made = subprocess.run([*SNAKEMAKE, "all", *place, "--cores", "2"], capture_output=True, text=True, cwd=ROOT)
    assert made.returncode == 0, made.stdout + made.stderr
    return folder


FILES = [ROOT / "tests/workflow" / name for name in ("tiny.yaml", "tiny_sweep.yaml")]
REPORT = {"build_report", "all"}


def test_results_of_the_first_release_are_not_made_again(first_release, dry):
    """Nor when they are copied: what Snakemake recorded goes with them, and no time of a file decides."""
    Dry(first_release).run(*FILES)  # takes over what was recorded
    shutil.copytree(first_release / "results", dry.folder / "results", copy_function=shutil.copyfile)
    files = sorted(path for path in dry.folder.rglob("results/tiny/*/**/*") if path.is_file())
    for seconds, path in enumerate(reversed(files)):
        os.utime(path, (seconds, seconds))
    code, output = dry.run(*FILES)
    assert code == 0, output
    assert dry.rules(output) == REPORT
    changed = dry.folder / "changed.yaml"
    for text, rules in {
        "resources: {gpus: 2}": {"pretraining", "train", "evaluate", "speed", "sweep_worker", "sweep"},
        "inference: {step_sizes: {rank: [1]}}": {"evaluate", "sweep", "speed"},
        "sweep: {trials: 4}": {"sweep_worker", "sweep"},
    }.items():
        changed.write_text(text)
        assert dry.rules(dry.run(*FILES, changed)[1]) == rules | REPORT, text


def test_a_seed_more_is_noticed_although_nothing_is_recorded(first_release, dry):
    shutil.copytree(first_release / "results", dry.folder / "results")
    shutil.rmtree(dry.folder / "results/tiny/.snakemake", ignore_errors=True)
    report = Jobs(load_suite("tests/workflow/tiny.yaml")).layout.report
    for name in ("README.md", "provenance.json", "index.html", "tables/main.csv", "figures/improvement.png"):
        path = dry.folder / report.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    ablation = dry.folder / Jobs(load_suite("tests/workflow/tiny.yaml")).layout.ablation.readme
    ablation.parent.mkdir()
    ablation.touch()
    assert "Nothing to be done" in dry.run(*FILES)[1]
    seed = dry.folder / "seed.yaml"
    seed.write_text("seeds: [0, 1]")
    for target in ("all", "report"):
        code, output = dry.run(*FILES, seed, arguments=(target,))
        assert code == 0, output
        assert dry.rules(output) == {"train", "evaluate", "build_report", target}
    assert dry.rules(dry.run(*FILES, seed, arguments=("ablation",))[1]) == {
        *("train", "evaluate", "build_ablation", "ablation"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: again\n", "own.yaml: key 'title' is there twice, in lines 3 and "),
        ("description: 2020-01-01\n", "own.yaml: description: 2020-01-01 is a date to YAML"),
        ("sedes: [1]\n", "'sedes' was unexpected"),
        ("sweep: {base: nope, space: {loss_weight: [1, 20]}}\n", "suite 'tiny' has no variant 'nope'"),
    ],
)
def test_a_mistake_in_a_suite_ends_snakemake_with_its_message(dry, text, message):
    code, output = dry.run(dry.suite(text))
    assert code != 0
    assert message in output
    assert "suite/" not in output.replace("suite/schema.yaml", ""), "no traceback of the project's modules"


def test_every_file_that_is_laid_over_a_suite_is_read_strictly(dry):
    over = dry.folder / "over.yaml"
    over.write_text("seeds: [0]\nseeds: [1]\n")
    code, output = dry.run(ROOT / "tests/workflow/tiny.yaml", over)
    assert code != 0
    assert f"{over}: key 'seeds' is there twice, in lines 1 and 2" in output


def test_a_split_that_does_not_fit_its_format_is_named_before_anything_runs():
    coco = load_suite("experiments/coco.yaml")
    splits = {**coco.raw["dataset"]["splits"], "val": {"images": "val2017"}}
    with pytest.raises(
        SuiteError, match=r"dataset\.splits\.val\.annotations is missing: the COCO format has no default"
    ):
        Jobs(coco.changed(dataset={**coco.raw["dataset"], "splits": splits}))


def test_the_cores_of_a_run_do_not_decide_the_weights(dry):
    """Threads do: of one core as of four, a training computes with the same number."""
    commands = []
    for cores in ("1", "4"):
        code, output = dry.run(ROOT / "tests/workflow/tiny.yaml", arguments=("all", "-p", "--cores", cores))
        assert code == 0, output
        commands.append(re.findall(r"experiments train .*--threads \d+", output))
    assert commands[0] == commands[1] and len(commands[0]) == 3
    assert commands[0][0].endswith("--variant pretraining --seed 0 --threads 2")


def test_a_path_is_a_path_to_the_shell(tmp_path):
    """Blanks, quotes and commands in `results:` are parts of a name; the file before the blank is left alone."""
    results = tmp_path / "a 'b\" ;touch x; $(touch y) `touch z` &"
    (tmp_path / "a").write_text("my only notes")
    suite = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
    suite["results"] = str(results)
    (tmp_path / "own suite.yaml").write_text(yaml.safe_dump(suite))
    place = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
    command = [*SNAKEMAKE, "data", *place, "--cores", "1", "--configfile", str(tmp_path / "own suite.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (results / "tiny/data/dataset.json").is_file()
    assert (results / "tiny/logs/data.log").is_file()
    assert (tmp_path / "a").read_text() == "my only notes"
    assert not [name for name in "xyz" if list(tmp_path.rglob(name)) or (ROOT / name).exists()]


def test_every_value_in_a_shell_command_is_quoted():
    """All but numbers: threads and seeds."""
    numbers = {"threads", "params.seed", "jobs.pretraining_threads", "suite.resources.cpus"}
    rules = sorted((ROOT / "workflow/rules").glob("*.smk"))
    assert rules
    for path in rules:
        found = re.findall(
            r"\{([a-z_.]+)((?::q)?)\}", "".join(re.findall(r"shell:\n((?:[ ]{8,}.*\n)+)", path.read_text()))
        )
        assert found, path
        assert {name for name, quoted in found if not quoted} <= numbers, path


POOLING = {"measure_pooling", "swap", "build_pooling", "pooling"}


def test_what_the_page_on_poolings_is_made_of(tiny, dry):
    jobs = Jobs(tiny.changed(seeds=[0, 1]))
    assert len(jobs.swapped()) == 10
    assert jobs.layout.relative(jobs.swapped()[0]) == "pooling_data/align0/seed0/val/evaluation.json"
    found = jobs.recorded.swap("align2")
    assert found[1:] == [OFF, RANK, "Setting(guide='rank', step_size=0.25, num_steps=2)"]
    hashes = [jobs.recorded.swap(pooling)[0] for pooling in ("align1", "align2")]
    assert len({*hashes, jobs.recorded.measure_pooling()}) == 3
    code, output = dry.run(ROOT / "tests/workflow/tiny.yaml", arguments=("pooling",))
    assert code == 0, output
    assert dry.rules(output) == {"data", "pretraining", "train", "evaluate"} | POOLING
    assert output.count("rule swap:") == 5
    code, output = dry.run(ROOT / "tests/workflow/tiny.yaml")
    assert code == 0, output
    assert not dry.rules(output) & POOLING


ANYDETECTOR = {"train_refiner", "treat", "build_anydetector", "anydetector"}


def test_what_the_page_on_any_detector_is_made_of(tiny, dry):
    jobs = Jobs(tiny.changed(seeds=[0, 1]))
    assert [jobs.layout.relative(path) for path in jobs.treated()] == [
        f"treatments/{detector}/seed{seed}/val/evaluation.json"
        for detector in ("faster_rcnn", "cascade_rcnn", "torchvision_faster_rcnn")
        for seed in (0, 1)
    ]
    assert jobs.recorded.refiner("per_class")[0] == jobs.recorded.training("samp1000_lw5.0")
    for change in ({"scale": {**tiny.raw["scale"], "step_size": 2}}, {"resources": {"gpus": 4}}):
        changed = Jobs(tiny.changed(**change)).recorded
        assert changed.training("samp1000_lw5.0") == jobs.recorded.training("samp1000_lw5.0")
        assert changed.refiner("per_class") != jobs.recorded.refiner("per_class"), change
    assert jobs.recorded.refiner("class_agnostic") != jobs.recorded.refiner("per_class")
    assert jobs.recorded.treatment("faster_rcnn")[0] != jobs.recorded.treatment("cascade_rcnn")[0]
    assert set(jobs.recorded.treatment("cascade_rcnn")[1:]) < set(jobs.recorded.treatment("faster_rcnn")[1:])
    code, output = dry.run(ROOT / "tests/workflow/tiny.yaml", arguments=("anydetector",))
    assert code == 0, output
    assert dry.rules(output) == {"data", "pretraining", "train"} | ANYDETECTOR
    assert [output.count(f"rule {rule}:") for rule in ("train_refiner", "train", "treat")] == [2, 3, 3]
    code, output = dry.run(ROOT / "tests/workflow/tiny.yaml")
    assert code == 0, output
    assert not dry.rules(output) & ANYDETECTOR
    assert "cascade_rcnn" not in output


@pytest.mark.parametrize("target", ["pooling", "anydetector"])
def test_a_suite_without_an_iou_net_has_no_page_on_it_and_all_else(dry, target):
    alone = dry.suite("")
    suite = yaml.safe_load(alone.read_text())
    del suite["variants"]["samp1000_lw5.0"]
    alone.write_text(yaml.safe_dump(suite))
    code, output = dry.run(alone, arguments=(target,))
    assert code != 0
    assert "not in suite 'tiny': samp1000_lw5.0 (role `main`)" in output
    code, output = dry.run(alone)
    assert code == 0, output
