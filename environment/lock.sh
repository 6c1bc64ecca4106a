#!/usr/bin/env bash
# Writes constraints.txt from what is installed in .venv: `make lock`.
# To move a version: install it there (.venv/bin/pip install PACKAGE==VERSION), run the tests, then `make lock`.
#
# The packages of nvcc are installed only where there is a GPU. Their versions are those that torch's own list of CUDA
# packages, cuda-toolkit, names for them, on any machine.
set -euo pipefail
cd "$(dirname "$0")"
nvcc() {
  ../.venv/bin/python -c '
import re
from importlib.metadata import requires
pattern = r"(nvidia-[a-z-]+)==([0-9.]+)\.\*;.*extra == .(nvcc|nvvm|crt|cccl).$"
print(*sorted({f"{m[1]}=={m[2]}" for m in map(re.compile(pattern).match, requires("cuda-toolkit")) if m}), sep="\n")'
}
pins=$(nvcc)
names=$(sed 's/==.*//' <<<"$pins" | paste -sd '|')
{
  echo '# Exact versions of everything in .venv, and of the nvcc that a GPU needs. Written by `make lock`; do not edit.'
  {
    ../.venv/bin/python -m pip freeze --all --exclude-editable --exclude pip |
      sed -E 's/ @ file:.*mmcv_full-([0-9.]+)-.*/==\1/' | grep -E '^[A-Za-z0-9._-]+==' | grep -vE "^($names)=="
    echo "$pins"
  } | LC_ALL=C sort -f
} >constraints.txt.part
mv constraints.txt.part constraints.txt
