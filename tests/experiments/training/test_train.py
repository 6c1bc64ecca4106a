"""Training: determinism, a kill and its resume, what is refused."""

import json
import shutil
import subprocess
import sys
import time

import pytest
import torch
import yaml
from mmcv.parallel import MMDataParallel
from mmcv.runner import build_optimizer
from mmdet.datasets import build_dataloader

from experiments.config import resolve_config, training_hash
from experiments.data.datasets import build_training_set, learnt_fingerprint
from experiments.history import MetricsLog, read_metrics
from experiments.models import build_model, read_checkpoint
from experiments.tracking.offline import offline_runs, read_run
from experiments.tracking.runs import environment as wandb_environment
from experiments.training.runner import FiniteLossHook, Runner, save, seed_everything
from experiments.training.train import train
from experiments.training.training import is_same
from suite.errors import SuiteError
from suite.layout import DataFolder, RunFolder
from suite.manifest import LEARNT
from suite.suite import load_suite
from tests.experiments.training.stopping import wait_until_one_has_stopped
from tests.test_readme import BLOCKS

STOPPING = ("tests.experiments.training.stopping", "6")  # of 8 iterations, in the second of two epochs


def command(suite, folder, tiny_data, work_dir, variant="faster_rcnn", module=("experiments", "train")):
    """Command line of one training of the tiny suite."""
    (folder / "suite.yaml").write_text(yaml.safe_dump(dict(suite.changed(pretraining=None).raw)))
    return [
        *(sys.executable, "-m", *module, "--suite", folder / "suite.yaml", "--variant", variant),
        *("--data-dir", tiny_data, "--work-dir", work_dir),
    ]


def run(arguments, **kwargs):
    environment = {**wandb_environment(), "WANDB_MODE": "disabled"}
    return subprocess.run(
        list(map(str, arguments)), env=environment, capture_output=True, text=True, timeout=900, **kwargs
    )


def weights(work_dir):
    return torch.load(work_dir / "checkpoint.pth", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def finished(tiny_suite, tiny_data, tmp_path_factory):
    """An uninterrupted training."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = run(command(tiny_suite, folder, tiny_data, folder / "run"))
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_a_training_leaves_its_declared_files_only(finished):
    names = {path.name for path in finished.iterdir()}
    assert {"checkpoint.pth", "config.py", "run.json", "history.csv", "metrics.jsonl", "train.log"} <= names
    assert not list(finished.glob("epoch_*")) and not list(finished.glob("*.part"))
    record = json.loads((finished / "run.json").read_text())
    assert record["epochs"] == 2 and record["iterations"] == 8
    assert record["checkpoint"]["bytes"] == (finished / "checkpoint.pth").stat().st_size
    assert "val/AP50" in (finished / "history.csv").read_text().splitlines()[0]


def test_mmdet_opens_it_by_the_config_beside_it(finished, tiny_data):
    """As the README shows it."""
    (example,) = [block for block in BLOCKS if "config.py" in block]
    for shown, own in (("results/shapes/runs/samp1000_lw5.0/seed0", finished), ("results/shapes/data", tiny_data)):
        assert shown in example
        example = example.replace(shown, str(own))
    names = {}
    exec(example, names)
    detector, boxes = names["detector"], names["boxes_of_each_class"]
    assert list(detector.CLASSES) == ["circle", "triangle", "cross", "bar", "ring"]
    assert [one.shape[1] for one in boxes] == [5] * 5
    torch.testing.assert_close(dict(detector.state_dict()), weights(finished), rtol=0, atol=0)
    assert str(tiny_data.parent) not in (finished / "config.py").read_text()


def test_a_training_that_is_done_gets_its_config_again(finished, tiny_suite, tiny_data, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run/config.py").unlink()
    done = run(command(tiny_suite, tmp_path, tiny_data, tmp_path / "run"))
    assert done.returncode == 0 and "already trained" in done.stderr
    assert (tmp_path / "run/config.py").read_text() == (finished / "config.py").read_text()


def test_equal_weights_are_equal_files(finished, tmp_path):
    """Whatever the name and the process that a file was written by: its hash is what later stages know it by."""
    state = torch.load(finished / "checkpoint.pth", weights_only=True)
    for name in ("a.17.part", "another.4711.part"):
        save(state, tmp_path / name)
        assert (tmp_path / name).read_bytes() == (finished / "checkpoint.pth").read_bytes()


def test_killed_in_mid_epoch_and_run_again_equals_the_uninterrupted(finished, tiny_suite, tiny_data, tmp_path):
    suite = tiny_suite.changed(results=str(tmp_path / "results"))
    place = (suite, tmp_path, tiny_data, tmp_path / "run")
    stopping, arguments = ([*map(str, command(*place, module=m))] for m in (STOPPING, ("experiments", "train")))
    environment = {**wandb_environment(), "WANDB_MODE": "offline"}
    process = subprocess.Popen(stopping, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until_one_has_stopped(process, lambda: [process.pid])
    finally:
        process.kill()
        process.wait()
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["step"] == 6
    assert [path.name for path in RunFolder(tmp_path / "run").states()] == ["epoch_1.pth"]
    assert not (tmp_path / "run" / "checkpoint.pth").exists()

    again = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=900)
    assert again.returncode == 0, again.stderr
    assert "continuing after epoch 1" in again.stderr
    expected, resumed = weights(finished), weights(tmp_path / "run")
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)
    timeless = [
        [
            {k: v for k, v in row.items() if "time" not in k and k != "memory"}
            for row in read_metrics(folder / "metrics.jsonl")
        ]
        for folder in (finished, tmp_path / "run")
    ]
    assert timeless[0] == timeless[1]

    (folder,) = offline_runs(tmp_path / "results")
    tracked, log = read_run(folder), {}
    for row in read_metrics(
        tmp_path / "run" / "metrics.jsonl"
    ):  # a validation shares the step of the iteration before it
        log.setdefault(row["step"], {}).update(row)
    steps = [row["_step"] for row in tracked["history"]]
    assert steps == list(range(1, 9)), "one run, every step once, in order"
    curve = [{k: v for k, v in row.items() if k[0] != "_"} for row in tracked["history"]]
    assert curve == [{"iteration": step, **{k: v for k, v in row.items() if k != "step"}} for step, row in log.items()]
    assert {"loss", "loss_cls", "acc", "lr", "grad_norm", "time", "memory"} < curve[0].keys()
    assert "val/AP90" in curve[3]
    record = json.loads((tmp_path / "run/wandb_run.json").read_text())
    assert (record["run_id"], record["is_logged"]) == (tracked["id"], True)


def test_a_finished_training_is_not_repeated(finished, tiny_suite, tiny_data):
    before = (finished / "checkpoint.pth").stat().st_mtime_ns
    again = run(command(tiny_suite, finished.parent, tiny_data, finished))
    assert again.returncode == 0
    assert "already trained" in again.stderr
    assert (finished / "checkpoint.pth").stat().st_mtime_ns == before


def test_a_finished_training_whose_outputs_snakemake_deleted_is_not_repeated(finished, tiny_suite, tiny_data):
    outputs = RunFolder(finished).outputs
    before = [path.read_bytes() for path in outputs]
    for path in outputs:
        path.unlink()
    started = time.time()
    again = run(command(tiny_suite, finished.parent, tiny_data, finished))
    assert again.returncode == 0
    assert "already trained" in again.stderr
    assert [path.read_bytes() for path in outputs] == before
    assert all(path.stat().st_mtime >= started - 1 for path in outputs), "newer than what it was made from"


def test_validations_are_handed_over_those_of_a_finished_training_too(finished, tiny_suite, tiny_data):
    suite = tiny_suite.changed(pretraining=None)
    seen = {}
    train(suite, "faster_rcnn", 0, folder=RunFolder(finished), data=DataFolder(tiny_data), pretraining=None,
          on_validation=lambda epoch, metrics: seen.update({epoch: metrics["AP"]}))  # fmt: skip
    rows = [row for row in read_metrics(finished / "metrics.jsonl") if "val/AP" in row]
    assert seen == {1: rows[0]["val/AP"], 2: rows[1]["val/AP"]}


def test_what_a_validation_raises_ends_the_training_which_then_goes_on(tiny_suite, tiny_data, tmp_path):
    suite = tiny_suite.changed(pretraining=None)
    common = {"folder": RunFolder(tmp_path), "data": DataFolder(tiny_data), "pretraining": None}
    common["changes"] = {"optimizer.lr": 1e-3}

    def stop(epoch, metrics):
        raise KeyboardInterrupt(epoch)

    with pytest.raises(KeyboardInterrupt):
        train(suite, "faster_rcnn", 0, **common, on_validation=stop)
    assert [path.name for path in RunFolder(tmp_path).states()] == ["epoch_1.pth"]
    epochs = []
    train(suite, "faster_rcnn", 0, **common, on_validation=lambda epoch, _: epochs.append(epoch))
    assert epochs == [1, 2]
    assert "continuing after epoch 1" in (tmp_path / "train.log").read_text()
    run = json.loads((tmp_path / "run.json").read_text())
    assert not RunFolder(tmp_path).record.exists()
    assert run["config_hash"] == training_hash(resolve_config(suite, "faster_rcnn", common["changes"]))
    assert run["config_hash"] != training_hash(resolve_config(suite, "faster_rcnn"))


def diverging(suite, folder, data, rate, **options):
    common = {"folder": RunFolder(folder), "data": DataFolder(data), "pretraining": None, **options}
    train(suite.changed(pretraining=None), "faster_rcnn", 0, **common, changes={"lr_config.max_lr": rate})


def test_a_training_that_diverges_ends_with_what_to_try(tiny_suite, tiny_data, tmp_path):
    with pytest.raises(
        SuiteError, match=r"(?s)the training diverged. Try a lower `optimizer.lr`.*No epoch was finished"
    ):
        diverging(tiny_suite, tmp_path, tiny_data, 1e30)
    assert not RunFolder(tmp_path).states() and not RunFolder(tmp_path).checkpoint.exists()


def test_the_last_finite_state_is_kept(tiny_suite, tiny_data, tmp_path, monkeypatch):
    save, saved = Runner.save_state, []

    def spoil(runner):
        save(runner)
        saved.append(runner.epoch)
        with torch.no_grad():
            next(runner.model.parameters()).fill_(torch.nan)

    monkeypatch.setattr(Runner, "save_state", spoil)
    with pytest.raises(SuiteError, match=r"The last finite state is .*epoch_1.pth"):
        diverging(tiny_suite, tmp_path, tiny_data, 1e-3)
    assert saved == [0]
    assert all(value.isfinite().all() for value in torch.load(RunFolder(tmp_path).state(1))["state_dict"].values())


def test_weights_that_are_not_finite_are_not_saved(tiny_suite, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(FiniteLossHook, "after_train_iter", lambda *_: None)
    with pytest.raises(SuiteError, match="weights are not finite any more"):
        diverging(tiny_suite, tmp_path, tiny_data, 1e30)
    assert not RunFolder(tmp_path).states()


def test_states_of_another_config_are_not_resumed(tiny_suite, tiny_data, tmp_path):
    work_dir = tmp_path / "run"
    work_dir.mkdir()
    torch.save({"meta": {"training_hash": "another", "epoch": 1, "iter": 4}}, work_dir / "epoch_1.pth")
    (work_dir / "epoch_2.pth").write_bytes(b"torn")
    done = run(command(tiny_suite, tmp_path, tiny_data, work_dir))
    assert done.returncode == 0, done.stderr
    assert "epoch_2.pth is damaged" in done.stderr
    assert "belongs to another config, seed or dataset: starting over" in done.stderr


def first_step(cfg, data_dir):
    """Losses and gradients of the first iteration of a training, and the weights after it."""
    dataset = build_training_set(cfg, DataFolder(data_dir))
    seed_everything(0, 0)
    model = build_model(cfg, initialize=True).train()
    optimizer = build_optimizer(model, cfg.optimizer)
    batch = next(iter(build_dataloader(dataset, 8, 0, dist=False, seed=0)))
    outputs = MMDataParallel(model, device_ids=[-1]).train_step(batch, optimizer)
    outputs["loss"].backward()
    optimizer.step()
    parameters = dict(model.named_parameters())
    return outputs["log_vars"], {k: p.grad for k, p in parameters.items()}, {k: p.data for k, p in parameters.items()}


@pytest.mark.parametrize("variant", ["faster_rcnn", "samp1000_lw5.0"])
def test_what_makes_training_fast_changes_nothing_but_rounding(tiny_data, variant):
    suite = load_suite("experiments/shapes.yaml")
    fast, plain = resolve_config(suite, variant), resolve_config(suite, variant)
    for cfg in (fast, plain):  # AdamW's first step is all but the gradient's sign, which rounding decides if it is tiny
        cfg.optimizer.eps = 1.0
    plain.channels_last = plain.optimizer.fused = False
    plain.model.roi_head.bbox_roi_extractor.roi_layer.pop("use_torchvision", None)
    plain.data.train.pipeline[0].type = "LoadImageFromFile"
    losses, gradients, weights = first_step(fast, tiny_data)
    expected_losses, expected_gradients, expected_weights = first_step(plain, tiny_data)
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    assert weights["backbone.layer1.0.conv1.weight"].is_contiguous(memory_format=torch.channels_last)
    for name, expected in expected_gradients.items():
        error = (gradients[name] - expected).norm()
        alone = 1e-5 * expected.numel() ** 0.5  # of a sum in float32 whose terms all but cancel
        assert error < 1e-3 * expected.norm() + alone, name
        torch.testing.assert_close(weights[name], expected_weights[name], rtol=1e-5, atol=1e-6, msg=name)


def test_channels_last_with_mmcvs_roi_align_is_refused():
    cfg = resolve_config(load_suite("experiments/shapes.yaml"), "faster_rcnn")
    cfg.model.roi_head.bbox_roi_extractor.roi_layer.use_torchvision = False
    if torch.cuda.is_available():
        build_model(cfg)  # mmcv's CUDA kernel makes a contiguous copy
        return
    with pytest.raises(SuiteError, match="Set use_torchvision=True in bbox_roi_extractor.roi_layer, or remove"):
        build_model(cfg)


def test_missing_data_says_how_to_make_it(tiny_suite, tmp_path):
    with pytest.raises(SuiteError, match=r"dataset\.json is missing: make or check the data first"):
        train(
            tiny_suite,
            "faster_rcnn",
            0,
            folder=RunFolder(tmp_path),
            data=DataFolder(tmp_path / "none"),
            pretraining=None,
        )


def test_missing_and_damaged_pretraining_are_named(tiny_suite, tiny_data, tmp_path):
    with pytest.raises(SuiteError, match=r"start\.pth is missing: train it first"):
        train(
            tiny_suite,
            "faster_rcnn",
            0,
            folder=RunFolder(tmp_path),
            data=DataFolder(tiny_data),
            pretraining=tmp_path / "start.pth",
        )
    (tmp_path / "start.pth").write_bytes(b"PK truncated")
    with pytest.raises(
        SuiteError, match=r"start\.pth is not a readable checkpoint \(12 bytes, sha256 .*move it away and run again"
    ):
        read_checkpoint(tmp_path / "start.pth")


def test_pretraining_of_another_model_is_refused(tiny_suite, tiny_data, tmp_path):
    torch.save({"state_dict": {"backbone.conv1.weight": torch.zeros(1)}, "meta": {}}, tmp_path / "start.pth")
    with pytest.raises(SuiteError, match="does not fit the model"):
        train(
            tiny_suite,
            "faster_rcnn",
            0,
            folder=RunFolder(tmp_path),
            data=DataFolder(tiny_data),
            pretraining=tmp_path / "start.pth",
        )


def test_unknown_variant_on_the_command_line_is_an_error_not_a_traceback():
    done = run([sys.executable, "-m", "experiments", "train", "--variant", "nope"])
    assert done.returncode != 0
    assert done.stderr.strip().endswith("it has " + ", ".join(load_suite("experiments/shapes.yaml").variants))


def test_a_torn_metrics_line_is_dropped_and_later_rows_are_replaced(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "epoch": 0.5}\n{"step": 2, "epoch": 1.0}\n{"step": 3, "ep')
    log = MetricsLog(path, resume_step=1)
    log.append(2, 1.0, {"loss": 0.5, "val/APl": None})
    assert read_metrics(path) == [{"step": 1, "epoch": 0.5}, {"step": 2, "epoch": 1.0, "loss": 0.5}]


@pytest.mark.parametrize("damage", ['{"step": 2, "ep', "\0\0\0", "", "12", '{"epoch": 1.0}'])
def test_a_damaged_metrics_line_with_others_behind_it_is_an_error_that_changes_nothing(tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    text = f'{{"step": 1, "epoch": 0.5}}\n{damage}\n{{"step": 3, "epoch": 1.5}}\n'
    path.write_text(text)
    for read in (read_metrics, lambda path: MetricsLog(path, resume_step=1)):
        with pytest.raises(SuiteError, match=r"metrics\.jsonl, line 2: damaged; .* or take that line out"):
            read(path)
    assert path.read_text() == text


@pytest.mark.parametrize("tail", [b'{"step": 2, "ep', b"\0" * 64, b'{"step": 2, "\xc3'])
def test_what_a_kill_leaves_at_the_end_of_the_metrics_is_left_out(tmp_path, tail):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "epoch": 0.5}\n' + tail)
    assert read_metrics(path) == [{"step": 1, "epoch": 0.5}]
    path.write_bytes(b'{"step": 1, "epoch": 0.5}')
    assert read_metrics(path) == [{"step": 1, "epoch": 0.5}], "it lacks its line end alone"


def with_other_split(tiny_data, folder, split):
    """The images with another index of one split, as far as the manifest tells."""
    shutil.copytree(tiny_data, folder, symlinks=True)
    manifest = json.loads((folder / "dataset.json").read_text())
    manifest["splits"][split]["sha256"], manifest["fingerprint"] = "0" * 64, "1" * 64
    (folder / "dataset.json").write_text(json.dumps(manifest))
    return folder


def test_other_images_to_report_on_retrain_nothing(finished, tiny_suite, tiny_data, tmp_path):
    data = with_other_split(tiny_data, tmp_path / "data", "val")
    before = (finished / "checkpoint.pth").stat().st_mtime_ns
    done = run(command(tiny_suite, tmp_path, data, finished))
    assert done.returncode == 0 and "already trained: nothing to do" in done.stderr
    assert (finished / "checkpoint.pth").stat().st_mtime_ns == before


def test_what_a_training_looked_at_identifies_it(finished, tiny_data, tmp_path):
    identity = json.loads((finished / "run.json").read_text())["inputs"]
    assert identity[LEARNT] == learnt_fingerprint(DataFolder(tiny_data), "train", "tune")
    for split, same in {"val": True, "train": False, "tune": False}.items():
        data = DataFolder(with_other_split(tiny_data, tmp_path / split, split))
        other = {"dataset_fingerprint": "1" * 64, LEARNT: learnt_fingerprint(data, "train", "tune")}
        assert is_same(identity, other) == same
    first_release = {"dataset_fingerprint": identity["dataset_fingerprint"]}
    assert is_same(first_release, identity) and not is_same(first_release, {**identity, "dataset_fingerprint": "1"})
