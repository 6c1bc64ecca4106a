#!/usr/bin/env bash
# Tests the wheel of iounet with the oldest and the newest torch that it declares, and with the suite's own, under every
# Python that is found here: `make test-versions`. Each pair has an environment of its own in .versions (up to 6 GB).
# TORCH_VERSIONS="2.13.0" PYTHON_VERSIONS="3.12": those alone.
set -euo pipefail
cd "$(dirname "$0")/.."
torch_versions=${TORCH_VERSIONS:-"2.4.1 2.11.0 2.14.1"}
python_versions=${PYTHON_VERSIONS:-"3.10 3.11 3.12 3.13"}
wheel=$(ls "$PWD"/dist/iounet-*-manylinux*.whl)
tested=() skipped=() failed=()
for python in $python_versions; do
  if ! "python$python" --version >/dev/null 2>&1; then
    skipped+=("Python $python: not found")
    continue
  fi
  for torch in $torch_versions; do
    name="Python $python, torch $torch"
    folder=.versions/$python-$torch
    if [ ! -e "$folder/complete" ]; then
      echo "== $name: making $folder"
      rm -rf "$folder"
      "python$python" -m venv "$folder"
      # numpy is the tests' need; torch 2.4 is of the time before numpy 2
      if ! "$folder/bin/pip" install -q "torch==$torch" "numpy$([[ $torch == 2.4.* ]] && echo '<2')" pytest hypothesis; then
        skipped+=("$name: pip has none")
        continue
      fi
      touch "$folder/complete"
    fi
    "$folder/bin/pip" install -q --force-reinstall --no-deps "$wheel"
    "$folder/bin/pip" install -q filelock
    # The tests alone, so that iounet is the wheel's. No compiler: what runs is what the wheel brings.
    copy=$(mktemp -d)
    mkdir -p "$copy/tests/ops"
    cp tests/__init__.py "$copy/tests/"
    cp tests/ops/{__init__,exact,test_ascent,test_compat,test_errors,test_prroi_pool,test_reference}.py "$copy/tests/ops/"
    echo "== $name"
    if (cd "$copy" && CXX=/nonexistent "$OLDPWD/$folder/bin/python" -m iounet.ops &&
      CXX=/nonexistent "$OLDPWD/$folder/bin/python" -m pytest -q -rf tests); then
      tested+=("$name")
    else
      failed+=("$name")
    fi
    rm -rf "$copy"
  done
done
printf 'passed:  %s\n' "${tested[@]}"
printf 'skipped: %s\n' "${skipped[@]}"
printf 'failed:  %s\n' "${failed[@]}"
[ ${#failed[@]} -eq 0 ] && [ ${#tested[@]} -gt 0 ]
