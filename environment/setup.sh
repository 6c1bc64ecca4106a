#!/usr/bin/env bash
# Makes .venv: everything that `make all`, `make test` and `make lint` need. Called by `make env`.
#
# Each step leaves a stamp named after the hash of what it depends on: a rerun skips finished steps,
# an interrupted one is done again, and nothing is rebuilt while its inputs stay the same.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD venv=$PWD/.venv here=environment
started=$SECONDS

say() { printf '[env %3ds] %s\n' $((SECONDS - started)) "$*"; }
die() { printf 'make env: %s\n' "$*" >&2; exit 1; }

# A venv is made with a Python outside it: `make`, or an activated .venv, may have put its bin first.
PATH=:$PATH:
while [[ $PATH == *:"$venv/bin":* ]]; do PATH=${PATH/:"$venv/bin":/:}; done
PATH=${PATH#:} PATH=${PATH%:}
case $root in *[[:space:]]*) die "the path '$root' has a blank in it, which compilers called by ninja cannot take: move the checkout" ;; esac

# --- what the machine must have, before anything is downloaded --------------------------------------
apt_line='sudo apt-get install --no-install-recommends python3.11 python3.11-venv python3.11-dev g++ make git ca-certificates libgl1 libglib2.0-0'
python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3.11 python3 python; do
    if command -v "$candidate" >/dev/null && [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = 3.11 ]; then
      python=$candidate
      break
    fi
  done
fi
missing=()
if [ -z "$python" ] || ! command -v "$python" >/dev/null; then
  missing+=('python3.11 (any 3.11.x; or say which: make env PYTHON=/path/to/python3.11)')
else
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  [ "$version" = 3.11 ] || die "PYTHON=$python is Python $version; the pinned packages need Python 3.11"
  "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=('python3.11-venv (the modules venv and ensurepip)')
  headers=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
  [ -e "$headers/Python.h" ] || missing+=("python3.11-dev (Python.h is not in $headers)")
fi
for library in libGL.so.1:libgl1 libgthread-2.0.so.0:libglib2.0-0; do
  [ -z "$python" ] || "$python" -c "import ctypes; ctypes.CDLL('${library%%:*}')" 2>/dev/null ||
    missing+=("${library#*:} (${library%%:*}, which OpenCV loads)")
done
for tool in g++ make git flock; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
if [ ${#missing[@]} -gt 0 ]; then
  printf 'make env: this machine lacks:\n' >&2
  printf '  - %s\n' "${missing[@]}" >&2
  die "on Debian or Ubuntu: $apt_line"
fi
free_gib=$(($(df --output=avail -k . | tail -n 1) / 1048576))
if [ ! -d "$venv" ] && [ "$free_gib" -lt 12 ]; then
  die "the environment takes 9 GiB on disk and 12 GiB while it is made; only $free_gib GiB are free under $root"
fi

# --- one environment at a time --------------------------------------------------------------------
exec 8>"$root/.venv.lock"
flock -n 8 || { say 'another `make env` is at work here: waiting for it'; flock 8; }

stamps=$venv/.steps
# step NAME INPUT... -- COMMAND...: runs COMMAND unless it was done with the same INPUTs
step() {
  local name=$1 inputs=() digest
  shift
  while [ "$1" != -- ]; do inputs+=("$1"); shift; done
  shift
  digest=$(printf '%s\n' "${inputs[@]}" "$(declare -f "$1")" | sha256sum | cut -c1-16)
  if [ -e "$stamps/$name-$digest" ]; then return; fi
  say "$name ..."
  rm -f "$stamps/${name%% *} "*  # its first word names a step: mmcv-full with other operators is the same one
  # no `"$@" || ...` here: bash ignores `set -e` in all that stands left of an ||
  set +e
  (set -e; "$@") >"$root/.venv.log" 2>&1
  local status=$?
  set -e
  if [ $status -ne 0 ]; then
    tail -n 40 "$root/.venv.log" >&2
    die "step '$name' failed; its whole output is in .venv.log; when it is mended, make env goes on with this step"
  fi
  mkdir -p "$stamps"
  touch "$stamps/$name-$digest"
}

pinned() { grep -iE "^$1==" "$here/constraints.txt" || die "environment/constraints.txt has no pin for '$1': run make lock"; }
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

make_venv() {
  rm -rf "$venv"
  "$python" -m venv "$venv"
}
install_torch() {
  pip install -c "$here/constraints.txt" torch torchvision numpy ninja wheel packaging setuptools
}
build_mmcv() {
  # Unpacked once and built in place: an interrupted build keeps its finished object files.
  local source=$venv/build/$mmcv_name real_cxx=${CXX:-g++}
  if [ ! -d "$source" ]; then
    mkdir -p "$venv/build/download"
    pip download --no-deps --no-binary :all: --no-build-isolation -d "$venv/build/download" "$(pinned mmcv-full)"
    tar -xzf "$venv/build/download/$mmcv_name.tar.gz" -C "$venv/build"
  fi
  CXX=$root/$here/cxx-pch IOUNET_REAL_CXX=$real_cxx IOUNET_PCH_DIR=$venv/build/pch \
    MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$jobs} PATH=$venv/bin:$PATH \
    pip wheel --no-build-isolation --no-deps -w "$venv/build/wheels" "$source"
  pip install --no-deps --force-reinstall "$venv/build/wheels/"mmcv_full-*.whl
  rm -rf "$venv/build"
}
# What it needs beside torch's own CUDA libraries; pinned by `make lock` to the version that goes with them.
nvcc_packages=(nvidia-cuda-nvcc nvidia-nvvm nvidia-cuda-crt nvidia-cuda-cccl)
no_nvcc="there is a GPU (or IOUNET_FORCE_CUDA=1), and no nvcc of torch's CUDA version. Either install that CUDA toolkit
and name its folder (make env CUDA_HOME=/path/to/cuda), or let pip install ${nvcc_packages[*]}.
To go without the GPU, where everything then runs on the CPU: make env IOUNET_CPU_ONLY=1"
install_nvcc() {
  pip install -c "$here/constraints.txt" "${nvcc_packages[@]}" || { printf 'make env: %s\n' "$no_nvcc"; return 1; }
}
build_mmcv_with_cuda() {
  local links=$venv/build/cuda
  mkdir -p "$venv/build"
  CUDA_HOME=$(toolkit link "$links")
  export CUDA_HOME FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST=$architectures NVCC_CCBIN=${CXX:-g++}
  build_mmcv
}
install_packages() {
  pip install --no-build-isolation -c "$here/constraints.txt" -r "$here/requirements.txt"
}
install_project() {
  pip install --no-build-isolation --no-deps --editable .
  install -m 755 "$here/snakemake" "$venv/bin/snakemake"
  sed -i "1s|.*|#!$venv/bin/python|" "$venv/bin/snakemake"
}
build_kernels() {
  local found
  found=$("$venv/bin/python" -m iounet.ops) || { printf '%s\n' "$found"; return 1; }
  printf '%s\n' "$found"
  [ "$gpu" = cpu ] || [[ $found != *'CUDA   plain-torch'* ]]
}
check() {
  pip check
}

if [ ! -x "$venv/bin/python" ] || [ "$(cat "$venv/.made-in" 2>/dev/null)" != "$root" ]; then
  say "virtual environment ($("$python" --version))"
  make_venv
  echo "$root" >"$venv/.made-in"
fi
PATH=$venv/bin:$PATH
toolkit() { python iounet/ops/_toolkit.py "$@"; }
gpu=$(toolkit wanted) architectures=''
for package in torch torchvision numpy mmcv-full "${nvcc_packages[@]}"; do pinned "$package" >/dev/null; done
mmcv_name=mmcv-full-$(pinned mmcv-full | cut -d= -f3)
# In the archive, setup.py comes after all that is compiled: without it the unpacking was interrupted.
[ -e "$venv/build/$mmcv_name/setup.py" ] || rm -rf "$venv/build/$mmcv_name"
# one compiler takes up to 2 GiB
jobs=$(($(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 2097152))
jobs=$((jobs < 1 ? 1 : jobs < $(nproc) ? jobs : $(nproc)))
step 'torch and torchvision (about 3 GB to download)' "$(pinned torch)" "$(pinned torchvision)" "$(pinned numpy)" -- install_torch
if [ "$gpu" = cuda ]; then
  architectures=$(toolkit architectures)
  home=$(toolkit find 2>/dev/null) || { home='' && rm -f "$stamps/nvcc "*; }  # removed by hand
  case $home in
    '' | "$venv"/*)
      pins=$(for package in "${nvcc_packages[@]}"; do pinned "$package"; done)
      step 'nvcc for the GPU, by pip (102 MB to download)' "$(pinned torch)" "$pins" -- install_nvcc
      toolkit find >/dev/null || die "$no_nvcc"
      ;;
  esac
  step 'mmcv-full with its cuda operators, from source' "$(pinned torch)" "$(pinned mmcv-full)" "$architectures" \
    "$(declare -f build_mmcv)" -- build_mmcv_with_cuda
else
  step 'mmcv-full with its cpu operators, from source' "$(pinned torch)" "$(pinned mmcv-full)" "$gpu" -- build_mmcv
fi
step 'the other packages' "$(cat $here/constraints.txt $here/requirements.txt)" -- install_packages
step 'this project and its snakemake launcher' "$(cat pyproject.toml $here/snakemake)" -- install_project
step 'Precise RoI Pooling kernels' "$gpu" "$architectures" "$(find iounet/ops -type f -not -name '*.pyc' | sort | xargs sha256sum)" -- build_kernels
step 'dependency check' "$(cat $here/constraints.txt $here/requirements.txt)" -- check
say "ready: source .venv/bin/activate"
