"""`python -m experiments`: every command is there and says what it takes."""

import subprocess
import sys

import pytest

from experiments.__main__ import COMMANDS, main, usage


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_takes(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: python -m experiments {command} " in capsys.readouterr().out


def test_without_a_command_it_lists_them(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.strip() == usage()
    assert all(f"  {command} " in usage() for command in COMMANDS)


def test_an_unknown_command_is_named(capsys):
    assert main(["trian"]) == 2
    assert "no command 'trian'" in capsys.readouterr().err


def test_an_error_is_a_line_not_a_traceback():
    command = [sys.executable, "-m", "experiments", "train", "--variant", "nope"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "suite 'shapes' has no variant 'nope'; it has faster_rcnn" in line
    assert "Traceback" not in done.stderr
