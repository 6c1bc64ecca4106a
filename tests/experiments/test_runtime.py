"""A GPU that mmcv-full or the op was not built for is refused, or warned of, before anything is computed."""

from pathlib import Path

import mmcv.ops
import pytest
import torch

from experiments import runtime
from experiments.__main__ import main
from iounet.ops import _extension
from suite.errors import SuiteError
from suite.suite import load_suite
from sweeps import worker
from workflow import jobs as workflow_jobs

TINY = "tests/workflow/tiny.yaml"
REFUSED = "mmcv-full is built without its CUDA operators.*`make env` builds them.*set CUDA_VISIBLE_DEVICES="


@pytest.fixture
def machine(monkeypatch):
    """A machine with a GPU, or what torch and mmcv-full would say on one."""

    def make(*, gpu=True, mmcv_cuda="13.0", nvcc="13.0"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(mmcv.ops, "get_compiling_cuda_version", lambda: mmcv_cuda)
        monkeypatch.setattr(_extension, "cuda_compiler_version", lambda: nvcc)
        monkeypatch.setattr(_extension, "available", lambda device: asked.append(device) or nvcc is not None)
        return asked

    asked = []  # devices that a kernel of the op was built for
    return make


@pytest.mark.parametrize("device", [None, "cuda"])
def test_a_gpu_without_mmcvs_operators_is_refused(machine, device):
    machine(mmcv_cuda="not available")
    with pytest.raises(SuiteError, match=REFUSED):
        runtime.require_operators(device)


def test_mmcv_without_any_operators_is_refused(machine, monkeypatch):
    machine()
    monkeypatch.delattr(mmcv.ops, "get_compiling_cuda_version")
    with pytest.raises(SuiteError, match=REFUSED):
        runtime.require_operators()


def test_the_cpu_is_never_refused(machine):
    machine(mmcv_cuda="not available")
    assert not runtime.require_operators("cpu")
    machine(gpu=False, mmcv_cuda="not available")
    assert not runtime.require_operators()


def test_what_mmcv_itself_says_is_understood():
    """Of the mmcv-full that is installed: 'not available', or a version such as '13.0'."""
    said = mmcv.ops.get_compiling_cuda_version()
    assert runtime._cuda_of_mmcv() == (None if said == "not available" else said)
    assert said == "not available" or said[0].isdigit()


def test_the_ops_kernel_is_built_at_the_start(machine):
    asked = machine()
    runtime.prepare_process(1)
    assert asked == ["cuda"]
    runtime.prepare_process(1, "cpu")
    assert asked == ["cuda"]


def test_a_gpu_without_nvcc_is_warned_of(machine):
    machine(nvcc=None)
    assert "many times slower (`make env` installs it" in runtime.slow_pooling()
    machine()
    assert runtime.slow_pooling() is None


TRAIN = ["train", "--suite", TINY, "--variant", "faster_rcnn", "--work-dir", "run", "--data-dir", "data"]
EVALUATE = ["evaluate", "--suite", TINY, "--variant", "faster_rcnn", "--data-dir", "data", "--out", "out"]
SPEED = ["speed", "--suite", TINY, "--out", "out/speed.json", "--device", "cuda"]
PREDICT = ["predict", "--run", "run", "--out", "out", "image.jpg"]


@pytest.mark.parametrize("words", [TRAIN, EVALUATE, SPEED, PREDICT], ids=lambda words: words[0])
def test_every_command_that_computes_says_so_first(machine, tmp_path, monkeypatch, words):
    """There is nothing to compute with, either: no data, no checkpoint. That is not what is complained of."""
    machine(mmcv_cuda="not available")
    suite = str(Path(TINY).resolve())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=REFUSED):
        main([suite if word == TINY else word for word in words])
    assert list(tmp_path.iterdir()) == []


def test_a_sweeps_worker_says_so_first(machine, monkeypatch):
    machine(mmcv_cuda="not available")
    monkeypatch.setattr(worker, "work", lambda *arguments: pytest.fail("a trial is started"))
    with pytest.raises(SystemExit, match=REFUSED):
        worker.main(["--suite", "experiments/shapes.yaml"])


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    suite = load_suite(TINY).changed(results=str(tmp_path / "results"))
    monkeypatch.setattr(workflow_jobs, "visible_gpus", lambda environment: ["0"])
    return workflow_jobs.Jobs(suite)


def test_snakemake_says_so_before_any_job(machine, jobs):
    machine(mmcv_cuda="not available")
    with pytest.raises(SuiteError, match=REFUSED):
        jobs.begin(None, 2, print)
    assert not jobs.layout.root.exists()


def test_snakemake_warns_of_slow_pooling_once(machine, jobs, capsys, monkeypatch):
    asked = machine(nvcc=None)
    monkeypatch.setattr(workflow_jobs.Progress, "start", lambda self: None)
    jobs.begin(None, 2, print)
    assert capsys.readouterr().err.count("warning: there is no nvcc of CUDA") == 1
    assert asked == [], "the jobs build it, on the GPUs that they have"


def test_snakemake_asks_nothing_without_a_gpu_or_of_a_clusters_head(machine, jobs, monkeypatch):
    machine(mmcv_cuda="not available")
    jobs.begin(None, None, print)
    monkeypatch.setattr(workflow_jobs, "visible_gpus", lambda environment: [])
    monkeypatch.setattr(workflow_jobs, "require_operators", lambda: pytest.fail("torch is asked"))
    monkeypatch.setattr(workflow_jobs.Progress, "start", lambda self: None)
    jobs._held.close()
    jobs.begin(None, 2, print)
