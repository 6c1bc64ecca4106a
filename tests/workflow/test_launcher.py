"""environment/snakemake: a bare `--cores`, and no lock on the working directory."""

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
        monkeypatch.setenv("IOUNET_LAUNCHED", "1")
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
    assert launch(*typed.split()).stdout.strip() == f"--nolock {expected}"


def test_an_option_that_snakemake_does_not_have_is_left_to_it(launch):
    assert launch("all", "--no-such-option").stdout.strip() == "--nolock all --no-such-option"


def test_words_that_the_configfile_would_swallow_are_refused(launch, tmp_path):
    (tmp_path / "plain").touch()
    assert launch("--configfile", "a.yaml", "plain", "-n").returncode == 0
    done = launch("--configfile", "a.yaml", "ablation", "report", "--cores")
    assert done.returncode and "ablation, report is none" in done.stderr
    assert "snakemake ablation report --cores --configfile mine.yaml" in done.stderr


@pytest.mark.parametrize("words", [["--executor", "slurm"], ["--workflow-profile=profiles/slurm"], ["-e", "slurm"]])
def test_what_runs_elsewhere_is_left_to_snakemake(words):
    is_local = runpy.run_path(str(LAUNCHER), run_name="launcher")["is_local"]
    assert not is_local(["all", *words]) and is_local(["all", "--cores", "-k"])
