"""environment/snakemake: a bare `--cores`, and stale locks."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).resolve().parents[2] / "environment/snakemake"


def launch(folder, *arguments):
    """Runs the launcher with a stand-in for Snakemake that prints its arguments."""
    package = folder / "stand-in" / "snakemake"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / "cli.py").write_text("def main(arguments): print(*arguments)\n")
    return subprocess.run(
        [sys.executable, str(LAUNCHER), *arguments],
        env={"PYTHONPATH": str(package.parent)},
        cwd=folder,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("all --cores", "all --cores all"),
        ("--cores ablation", "--cores all ablation"),
        ("all -c", "all -c all"),
        ("all --cores --configfile x.yaml", "all --cores all --configfile x.yaml"),
        ("all --cores 2", "all --cores 2"),
        ("all --cores all", "all --cores all"),
        ("ablation -n", "ablation -n"),
    ],
)
def test_bare_cores(tmp_path, typed, expected):
    assert launch(tmp_path, *typed.split()).stdout.strip() == expected


def test_stale_locks_are_cleared(tmp_path):
    locks = tmp_path / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").touch()
    assert launch(tmp_path, "all").returncode == 0
    assert not list(locks.iterdir())


def test_a_dry_run_clears_nothing(tmp_path):
    locks = tmp_path / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").touch()
    launch(tmp_path, "all", "-n")
    assert list(locks.iterdir())


def test_a_live_snakemake_is_not_disturbed(tmp_path):
    locks = tmp_path / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").touch()
    with open(tmp_path / ".snakemake/launcher.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = launch(tmp_path, "all")
    assert done.returncode != 0
    assert "another snakemake is at work in" in done.stderr
    assert list(locks.iterdir())
