"""environment/snakemake: a bare `--cores`, stale locks, and looking while a run is at work."""

import fcntl
import os
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

LAUNCHER = Path(__file__).resolve().parents[2] / "environment/snakemake"


@pytest.fixture
def launch(tmp_path, monkeypatch, capsys):
    """Runs the launcher in a folder; Snakemake's parser is its own, a stand-in for its main prints its arguments."""

    def launch(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["snakemake", *arguments])
        monkeypatch.setattr("snakemake.cli.main", lambda arguments: print(*arguments))
        code = 0
        try:
            runpy.run_path(str(LAUNCHER), run_name="__main__")
        except SystemExit as error:
            code = error.code
        output = capsys.readouterr()
        errors = code if isinstance(code, str) else output.err
        return SimpleNamespace(returncode=int(code not in (0, None)), stdout=output.out, stderr=errors)

    return launch


@pytest.fixture
def stale_lock(tmp_path):
    """A lock of Snakemake's own."""
    lock = tmp_path / ".snakemake/locks/0.input.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    return lock


@pytest.fixture
def at_work(tmp_path, stale_lock):
    """Another launcher is at work in the folder."""
    with open(tmp_path / ".snakemake/launcher.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("all --cores", "all --cores all"),
        ("--cores ablation", "--cores all ablation"),
        ("all -c", "all -c all"),
        ("all -pc", "all -pc all"),
        ("all -kpc 2", "all -kpc 2"),
        ("all --cores --configfile x.yaml", "all --cores all --configfile x.yaml"),
        ("all --cores 2", "all --cores 2"),
        ("all --cores=2", "all --cores=2"),
        ("all -c2", "all -c2"),
        ("all --cores all", "all --cores all"),
        ("ablation -n", "ablation -n"),
    ],
)
def test_bare_cores(launch, typed, expected):
    assert launch(*typed.split()).stdout.strip() == expected


def test_stale_locks_are_cleared(launch, stale_lock):
    assert launch("all").returncode == 0
    assert not stale_lock.exists()


@pytest.mark.parametrize("option", ["--directory {}", "--directory={}", "-d {}", "-d{}", "-pd {}"])
def test_stale_locks_are_cleared_where_snakemake_works(launch, stale_lock, tmp_path, option):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    os.rename(tmp_path / ".snakemake", elsewhere / ".snakemake")
    assert launch("all", *option.format(elsewhere).split()).returncode == 0
    assert not (elsewhere / ".snakemake/locks" / stale_lock.name).exists()
    assert not (tmp_path / ".snakemake").exists()


def test_a_dry_run_clears_nothing(launch, stale_lock):
    launch("all", "-n")
    assert stale_lock.exists()


def test_a_live_snakemake_is_not_disturbed(launch, stale_lock, at_work):
    done = launch("all")
    assert done.returncode != 0
    assert "another snakemake is at work in" in done.stderr
    assert stale_lock.exists()


@pytest.mark.parametrize(
    "looking",
    [
        *("-n", "-np", "-pn", "-n -p", "-nF", "--dry-run", "--dryrun", "--dry-r", "-nc2", "-n --cores"),
        *("--dag", "--dag dot", "--rulegraph", "--rulegraph=mermaid-js", "--filegraph", "--d3dag"),
        *("--summary", "-S", "--detailed-summary", "-D", "-kD", "--lint", "--lint=json", "--print-compilation"),
        *("--list", "-l", "--list-rules", "--list-target-rules", "--lt"),
        *("--list-changes code", "--list-changes=input", "--lp", "--list-untracked"),
        *("--configfile a.yaml b.yaml -n", "--config a=-n --dag"),
        *("--help", "-h", "--version", "-v"),
    ],
)
def test_looking_goes_on_while_a_run_is_at_work(launch, stale_lock, at_work, looking):
    done = launch("all", *looking.split())
    assert (done.returncode, done.stdout != "") == (0, True)
    assert stale_lock.exists()


@pytest.mark.parametrize(
    "working",
    [
        "-p",
        "-F",
        "--touch",
        "--cores -k",
        "--config name=-n",
        "-- -n",
        "--report r.html",
        "--cleanup-metadata x",
    ],
)
def test_work_is_refused_while_a_run_is_at_work(launch, at_work, working):
    assert "another snakemake is at work in" in launch("all", *working.split()).stderr


def test_an_option_that_snakemake_does_not_have_is_left_to_it(launch):
    assert launch("all", "--no-such-option").stdout.strip() == "all --no-such-option"
