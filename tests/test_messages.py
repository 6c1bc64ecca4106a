"""No message advises to delete what this project may not have made; it advises to move it away."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("iounet", "suite", "experiments", "sweeps", "reports", "workflow")
OWN = {"suite/records.py"}  # W&B records, which this project alone writes
ADVICE = re.compile(r"\b(delete|overwrite|erase|rm) (it|them|this|that|the)\b|\brm -", re.IGNORECASE)


def messages(tree):
    """The text constants of a module that are no docstrings."""
    documented = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {id(n.body[0].value) for n in documented if n.body and isinstance(n.body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_message_advises_to_delete_what_was_not_made_here(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = [
        f"{path.relative_to(ROOT)}, line {line}: {text!r}"
        for path in files
        if path.relative_to(ROOT).as_posix() not in OWN
        for line, text in messages(ast.parse(path.read_text(encoding="utf-8")))
        if ADVICE.search(text)
    ]
    assert found == []


def test_the_test_finds_such_advice():
    tree = ast.parse('def f(x):\n    """Delete it."""\n    raise E(f\'{x}: delete it and run again\')\n')
    assert [bool(ADVICE.search(text)) for _, text in messages(tree)] == [True]


def test_neither_does_the_readmes_troubleshooting():
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## Troubleshooting")[1]
    assert ADVICE.search(table) is None
