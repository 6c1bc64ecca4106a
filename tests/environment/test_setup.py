"""environment/: what `make env` asks of a machine, its steps and their stamps, the pins, the compiler wrapper.

Nothing is downloaded: `setup.sh` runs in a copy of its folder, with a stand-in for Python that notes its calls.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / "environment"
TOOLS = re.findall(
    r"\S+",
    """bash cat chmod cp cut df dirname find flock grep gzip head install mkdir mv nproc rm sed sha256sum sleep sort
    tail tar touch xargs g++ make git""",
)
PYTHON = r"""#!/usr/bin/env bash
# A Python 3.11 that does nothing. HEADERS: its include folder; LACKS, FAILS, HANGS: parts of calls.
echo "$*" >>"$CALLS"
if [ -n "$LACKS" ] && [[ $* == *$LACKS* ]]; then exit 1; fi
if [ -n "$HANGS" ] && [[ $* == *$HANGS* ]]; then touch "$CALLS.hanging"; sleep 60; fi
if [ -n "$FAILS" ] && [[ $* == *$FAILS* ]]; then echo "the cause of the failure"; exit 1; fi
case "$*" in
  --version) echo Python 3.11.0 ;;
  *version_info*) echo "${VERSION:-3.11}" ;;
  *sysconfig*) echo "$HEADERS" ;;
  *_toolkit.py\ wanted) echo "${GPU:-cpu}" ;;
  *_toolkit.py\ architectures) echo "${ARCHITECTURES:-9.0+PTX}" ;;
  *_toolkit.py\ *)
    home=${TOOLKIT:-}
    [ ! -e "$CALLS.nvcc" ] || home=$root/.venv/lib/nvidia/cu13
    [ -n "$home" ] || { echo "there is no nvcc" >&2; exit 1; }
    echo "$home" ;;
  *" nvidia-cuda-nvcc "*) [ -n "$USELESS" ] || touch "$CALLS.nvcc" ;;
  "-m iounet.ops") printf '%b' "$KERNELS" ;;
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/python3.11" ;;
  *" download "*)
    mkdir -p "$CALLS.sdist/mmcv-full-1.7.2"
    touch "$CALLS.sdist/mmcv-full-1.7.2/setup.py"
    tar -czf "$root/.venv/build/download/mmcv-full-1.7.2.tar.gz" -C "$CALLS.sdist" mmcv-full-1.7.2 ;;
  *"wheel --no-build"*)
    echo "${FORCE_CUDA:-none} ${CUDA_HOME:-none} ${TORCH_CUDA_ARCH_LIST:-none} ${NVCC_CCBIN:-none}" >>"$CALLS.mmcv"
    mkdir -p .venv/build/wheels; touch .venv/build/wheels/mmcv_full-1.7.2-any.whl ;;
esac
"""


class Machine:
    """A checkout and a PATH of its own."""

    def __init__(self, folder):
        self.root, self.bin, self.calls = folder / "checkout", folder / "bin", folder / "calls"
        shutil.copytree(ENVIRONMENT, self.root / "environment")
        (self.root / "iounet/ops").mkdir(parents=True)
        (self.root / "pyproject.toml").touch()
        (folder / "headers").mkdir()
        (folder / "headers/Python.h").touch()
        self.bin.mkdir()
        for tool in TOOLS:
            if found := shutil.which(tool):
                (self.bin / tool).symlink_to(found)
        self.write("python3.11", PYTHON.replace("$root", str(self.root)))
        self.write("df", "#!/usr/bin/env bash\necho Avail\necho ${FREE_KIB:-99999999}\n")
        self.environment = {"PATH": str(self.bin), "CALLS": str(self.calls), "HEADERS": str(folder / "headers")}

    def write(self, name, text):
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def arguments(self, **variables):
        silent = dict.fromkeys(("LACKS", "FAILS", "HANGS", "USELESS", "KERNELS"), "")
        environment = {**silent, **self.environment, **variables}
        return {"args": [str(self.root / "environment/setup.sh")], "env": environment, "text": True}

    def setup(self, **variables):
        """Runs setup.sh; `asked` are the calls of Python in this run."""
        self.calls.unlink(missing_ok=True)
        done = subprocess.run(**self.arguments(**variables), capture_output=True, timeout=300)
        self.asked = self.calls.read_text().splitlines() if self.calls.exists() else []
        return done

    def refuses(self, **variables):
        """Its message, once it is sure that nothing was downloaded or made."""
        done = self.setup(**variables)
        assert done.returncode != 0
        assert not (self.root / ".venv").exists()
        assert not any("-m pip" in call for call in self.asked)
        return done.stderr

    @property
    def steps(self):
        return sorted(re.sub(r"-[0-9a-f]{16}$", "", path.name) for path in (self.root / ".venv/.steps").iterdir())


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


# --- what the machine must have -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["g++", "make", "git"])
def test_a_missing_tool_is_named_with_the_line_that_installs_it(machine, tool):
    (machine.bin / tool).unlink()
    message = machine.refuses()
    assert f"  - {tool}\n" in message
    assert re.search(rf"on Debian or Ubuntu: sudo apt-get install .*{re.escape(tool)} ", message)


def test_no_python_of_the_right_version(machine):
    assert "python3.11 (any 3.11.x; or say which: make env PYTHON=/path/to/python3.11)" in machine.refuses(
        VERSION="3.12"
    )
    (machine.bin / "python3.11").rename(machine.bin / "mine")
    assert "- python3.11 (any 3.11.x" in machine.refuses()
    assert "PYTHON=mine is Python 3.9; the pinned packages need Python 3.11" in machine.refuses(
        PYTHON="mine", VERSION="3.9"
    )
    assert machine.setup(PYTHON="mine").returncode == 0


def test_everything_that_is_missing_is_named_at_once(machine, tmp_path):
    (tmp_path / "headers/Python.h").unlink()
    (machine.bin / "g++").unlink()
    message = machine.refuses(LACKS="libGL.so.1")
    assert "- python3.11-dev (Python.h is not in " in message
    assert "- libgl1 (libGL.so.1, which OpenCV loads)" in message
    assert "- g++\n" in message
    assert "libglib" not in message.split("on Debian")[0]


def test_no_venv_module(machine):
    assert "python3.11-venv (the modules venv and ensurepip)" in machine.refuses(LACKS="import ensurepip")


def test_too_little_disk(machine):
    assert "only 3 GiB are free" in machine.refuses(FREE_KIB=str(3 * 1024**2))


def test_a_blank_in_the_path(tmp_path):
    machine = Machine(tmp_path / "my files")
    assert "has a blank in it" in machine.refuses()


# --- steps ----------------------------------------------------------------------------------------------------------


def test_all_steps_once_and_nothing_again(machine):
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    assert len(machine.steps) == 6
    assert done.stdout.count(" ...\n") == 6
    assert any("torch torchvision" in call and "constraints.txt" in call for call in machine.asked)
    assert any("requirements.txt" in call and "constraints.txt" in call for call in machine.asked)
    assert not (machine.root / ".venv/build").exists()

    again = machine.setup()
    assert again.returncode == 0, again.stderr
    assert "..." not in again.stdout
    assert not any("-m pip" in call or "iounet.ops" in call for call in machine.asked)


def test_a_changed_kernel_is_all_that_is_built_again(machine):
    machine.setup()
    (machine.root / "iounet/ops/kernel.cpp").touch()
    assert machine.setup().stdout.count(" ...\n") == 1
    assert "-m iounet.ops" in machine.asked


@pytest.mark.parametrize(
    ("call", "step"),
    [
        ("install -c", "torch and torchvision"),
        (" download ", "mmcv-full"),
        ("wheel --no-build", "mmcv-full"),
        ("--force-reinstall", "mmcv-full"),
        ("--editable", "this project"),
        ("iounet.ops", "Precise RoI Pooling kernels"),
        ("pip --disable-pip-version-check --no-input check", "dependency check"),
    ],
)
def test_a_failed_step_says_why_and_is_not_taken_for_done(machine, call, step):
    failed = machine.setup(FAILS=call)
    assert failed.returncode != 0
    assert "the cause of the failure" in failed.stderr
    assert re.search(rf"make env: step '{re.escape(step)}.*' failed; its whole output is in \.venv\.log", failed.stderr)
    before = machine.steps if (machine.root / ".venv/.steps").exists() else []
    assert not any(name.startswith(step) for name in before)

    mended = machine.setup()
    assert mended.returncode == 0, mended.stderr
    assert len(machine.steps) == 6
    assert mended.stdout.count(" ...\n") == 6 - len(before)


@pytest.mark.parametrize("call", ["-m venv", "wheel --no-build"])
def test_a_kill_and_a_rerun(machine, call):
    process = subprocess.Popen(**machine.arguments(HANGS=call), start_new_session=True, stdout=subprocess.DEVNULL)
    hanging, deadline = Path(f"{machine.calls}.hanging"), time.monotonic() + 200
    while not hanging.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert machine.setup().returncode == 0
    assert len(machine.steps) == 6


def test_a_torn_unpacking_is_done_again(machine):
    machine.setup(FAILS="wheel --no-build")
    (source,) = (machine.root / ".venv/build").glob("mmcv-full-*")
    (source / "setup.py").unlink()
    assert machine.setup().returncode == 0
    assert any(" download " in call for call in machine.asked)


def test_a_finished_unpacking_is_kept(machine):
    machine.setup(FAILS="wheel --no-build")
    assert machine.setup().returncode == 0
    assert not any(" download " in call for call in machine.asked)


def test_a_half_made_venv_is_made_anew_though_its_python_comes_first(machine):
    """As `make env` calls it: .venv/bin is the first folder of PATH."""
    venv = machine.root / ".venv"
    (venv / "bin").mkdir(parents=True)
    for name in ("python", "python3.11"):
        shutil.copy(machine.bin / "python3.11", venv / "bin" / name)
    done = machine.setup(PATH=f"{venv}/bin:{venv}/bin:{machine.bin}")
    assert done.returncode == 0, done.stderr
    assert (venv / ".made-in").read_text().strip() == str(machine.root)


# --- a GPU ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def built_with(machine):
    """What mmcv-full was last built with: FORCE_CUDA, CUDA_HOME, TORCH_CUDA_ARCH_LIST, nvcc's host compiler."""
    return lambda: Path(f"{machine.calls}.mmcv").read_text().splitlines()[-1].split()


def test_a_gpu_with_a_driver_only(machine, built_with):
    done = machine.setup(GPU="cuda")
    assert done.returncode == 0, done.stderr
    (call,) = [call for call in machine.asked if "nvidia-cuda-nvcc" in call]
    assert "install -c environment/constraints.txt" in call
    for package in ("nvidia-nvvm", "nvidia-cuda-crt", "nvidia-cuda-cccl"):
        assert f" {package}" in call
    assert f"iounet/ops/_toolkit.py link {machine.root}/.venv/build/cuda" in machine.asked
    assert built_with() == ["1", f"{machine.root}/.venv/lib/nvidia/cu13", "9.0+PTX", "g++"]
    assert len(machine.steps) == 7
    again = machine.setup(GPU="cuda")
    assert again.returncode == 0 and "..." not in again.stdout


def test_a_gpu_with_a_toolkit(machine, built_with):
    done = machine.setup(GPU="cuda", TOOLKIT="/opt/cuda", CXX="g++-13")
    assert done.returncode == 0, done.stderr
    assert not any("nvidia-cuda-nvcc" in call for call in machine.asked)
    assert built_with() == ["1", "/opt/cuda", "9.0+PTX", "g++-13"]


def test_without_a_gpu_nothing_is_built_for_one(machine, built_with):
    assert machine.setup(TOOLKIT="/opt/cuda").returncode == 0
    assert built_with() == ["none", "none", "none", "none"]
    assert not any("nvidia" in call or "architectures" in call for call in machine.asked)


def test_a_gpu_that_comes_and_goes(machine, built_with):
    """Each time mmcv-full is built anew, also for what it was built for before."""
    for gpu in ("cpu", "cuda", "cpu", "cuda"):
        done = machine.setup(GPU=gpu)
        assert done.returncode == 0, done.stderr
        assert f"mmcv-full with its {gpu} operators, from source ..." in done.stdout
        assert built_with()[0] == {"cpu": "none", "cuda": "1"}[gpu]
        assert "Precise RoI Pooling kernels ..." in done.stdout


def test_another_gpu_gets_operators_of_its_own(machine, built_with):
    machine.setup(GPU="cuda")
    assert "mmcv-full" in machine.setup(GPU="cuda", ARCHITECTURES="8.6+PTX").stdout
    assert built_with()[2] == "8.6+PTX"


def test_nvcc_that_was_removed_by_hand_comes_again(machine):
    machine.setup(GPU="cuda")
    Path(f"{machine.calls}.nvcc").unlink()
    done = machine.setup(GPU="cuda")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" ...\n") == 1
    assert any("nvidia-cuda-nvcc" in call for call in machine.asked)


@pytest.mark.parametrize("failure", [{"FAILS": " nvidia-cuda-nvcc "}, {"USELESS": "1"}])
def test_no_nvcc_is_an_error_and_the_cpu_a_choice(machine, built_with, failure):
    done = machine.setup(GPU="cuda", **failure)
    assert done.returncode != 0
    assert "no nvcc of torch's CUDA version" in done.stderr
    assert "make env CUDA_HOME=/path/to/cuda" in done.stderr and "make env IOUNET_CPU_ONLY=1" in done.stderr
    assert not any("wheel --no-build" in call for call in machine.asked), "nothing is built for the CPU unasked"


def test_kernels_that_cannot_be_built_for_the_gpu_are_an_error(machine):
    fallback = {"KERNELS": "CPU    compiled kernel\\nCUDA   plain-torch fallback\\n"}
    done = machine.setup(GPU="cuda", **fallback)
    assert done.returncode != 0
    assert "step 'Precise RoI Pooling kernels' failed" in done.stderr and "CUDA   plain-torch fallback" in done.stderr
    assert machine.setup(GPU="cuda", KERNELS="CUDA   compiled kernel, x.so (nvcc 13.0)\\n").returncode == 0
    assert machine.setup(GPU="cpu", **fallback).returncode == 0


def test_nvcc_is_pinned_to_the_version_of_torchs_cuda_libraries():
    """Also where it is not installed, and also by `make lock` there."""
    try:
        asked = requires("cuda-toolkit") or []
    except PackageNotFoundError:
        pytest.skip("this torch has no CUDA libraries of pip's")
    pins = dict(line.split("==") for line in (ENVIRONMENT / "constraints.txt").read_text().splitlines()[1:])
    for package in ("nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-crt", "nvidia-cuda-cccl"):
        assert any(line.startswith(f"{package}=={pins[package]}.*") for line in asked), package


def test_make_lock_keeps_the_pins_of_nvcc(tmp_path):
    if sys.prefix == sys.base_prefix:
        pytest.skip("not in a virtual environment")
    shutil.copytree(ENVIRONMENT, tmp_path / "environment")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    lock = tmp_path / "environment/constraints.txt"
    pins = re.compile(r"^nvidia-(?:cuda-nvcc|nvvm|cuda-crt|cuda-cccl)==.*$", re.MULTILINE)
    before = pins.findall(lock.read_text())
    subprocess.run([tmp_path / "environment/lock.sh"], check=True, timeout=300)
    assert pins.findall(lock.read_text()) == before and len(before) == 4


# --- pins -----------------------------------------------------------------------------------------------------------


def test_constraints_pin_everything_that_is_asked_for():
    lines = (ENVIRONMENT / "constraints.txt").read_text().splitlines()
    assert lines[0].startswith("# ") and "make lock" in lines[0]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^\s;]+", line) for line in lines[1:])
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines[1:]}
    asked = [
        re.split(r"[#\[]", line)[0].strip() for line in (ENVIRONMENT / "requirements.txt").read_text().splitlines()
    ]
    (first,) = re.findall(r"-c .*constraints\.txt\" (torch .*)", (ENVIRONMENT / "setup.sh").read_text())
    asked += first.split()
    assert len(asked) > 20
    assert not {re.sub(r"[-_.]+", "-", name).lower() for name in asked if name} - pinned


# --- the compiler wrapper -------------------------------------------------------------------------------------------


@pytest.fixture
def compiler(tmp_path):
    """The real compiler, with a count of its calls, and a `torch/types.h` of one line."""
    (tmp_path / "include/torch").mkdir(parents=True)
    (tmp_path / "include/torch/types.h").write_text("#pragma once\ninline int answer() { return VALUE; }\n")
    for name in ("one", "two"):
        (tmp_path / f"{name}.cpp").write_text(f"#include <torch/types.h>\nint {name}() {{ return answer(); }}\n")
    (tmp_path / "main.cpp").write_text("int one(); int two();\nint main() { return one() * 10 + two(); }\n")
    noting = tmp_path / "noting-g++"
    noting.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\nexec g++ "$@"\n')
    noting.chmod(0o755)

    def run(*arguments):
        environment = {**os.environ, "IOUNET_REAL_CXX": str(noting), "IOUNET_PCH_DIR": str(tmp_path / "pch")}
        done = subprocess.run(
            [ENVIRONMENT / "cxx-pch", *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        calls = (tmp_path / "calls").read_text().splitlines()
        (tmp_path / "calls").unlink()
        return done, calls

    return run


def test_headers_are_parsed_once_for_the_same_flags(compiler, tmp_path):
    flags = ["-O1", "-Iinclude", "-DVALUE=4"]
    done, calls = compiler("-MMD", "-MF", "one.d", *flags, "-c", "one.cpp", "-o", "one.o")
    assert done.returncode == 0, done.stderr
    assert [("c++-header" in call) for call in calls] == [True, False]
    assert calls[0].startswith("-O1 -Iinclude -DVALUE=4 -x c++-header")
    done, calls = compiler(*flags, "-Winvalid-pch", "-H", "-c", "one.cpp", "-o", "one.o")
    assert "! " in done.stderr, "g++ marks a precompiled header that it used with an exclamation mark"

    done, calls = compiler(*flags, "-c", "two.cpp", "-o", "two.o")
    assert [("c++-header" in call) for call in calls] == [False]
    _, calls = compiler(*flags, "-c", "main.cpp", "-o", "main.o")
    done, calls = compiler("main.o", "one.o", "two.o", "-o", "program")
    assert calls == ["main.o one.o two.o -o program"], "linking goes through untouched"
    assert subprocess.run([tmp_path / "program"]).returncode == 44


def test_other_flags_get_a_header_of_their_own(compiler):
    compiler("-Iinclude", "-DVALUE=4", "-c", "one.cpp", "-o", "one.o")
    _, calls = compiler("-Iinclude", "-DVALUE=5", "-c", "one.cpp", "-o", "one.o")
    assert [("c++-header" in call) for call in calls] == [True, False]


def test_an_error_in_the_source_is_the_compilers(compiler, tmp_path):
    (tmp_path / "one.cpp").write_text("int one( {")
    done, _ = compiler("-Iinclude", "-DVALUE=4", "-c", "one.cpp", "-o", "one.o")
    assert done.returncode != 0
    assert "one.cpp:1" in done.stderr
