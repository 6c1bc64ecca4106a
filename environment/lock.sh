#!/usr/bin/env bash
# Writes constraints.txt from what is installed in .venv: `make lock`.
# To move a version: install it there (.venv/bin/pip install PACKAGE==VERSION), run the tests, then `make lock`.
set -euo pipefail
cd "$(dirname "$0")"
{
  echo '# Exact versions of everything in .venv. Written by `make lock`; do not edit by hand.'
  ../.venv/bin/python -m pip freeze --all --exclude-editable --exclude pip |
    sed -E 's/ @ file:.*mmcv_full-([0-9.]+)-.*/==\1/' | grep -E '^[A-Za-z0-9._-]+==' | LC_ALL=C sort -f
} >constraints.txt.part
mv constraints.txt.part constraints.txt
