"""examples/refinement.ipynb runs as it stands, on fewer images."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples/refinement.ipynb"
SMALLER = {
    'IMAGES = {"pretrain": 800, "train": 400, "tune": 20, "val": 20}': (
        'IMAGES = {"pretrain": 16, "train": 16, "tune": 4, "val": 4}'
    ),
    "EPOCHS = 4": "EPOCHS = 1",
}


@pytest.mark.usefixtures("keep_environment")
def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells if "outputs" in cell)
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    for line, other in {**SMALLER, 'RESULTS = "results/notebook"': f'RESULTS = "{tmp_path}"'}.items():
        assert code.count(line) == 1
        code = code.replace(line, other)
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    names = {}
    exec(compile(code, str(NOTEBOOK), "exec"), names)
    said = capsys.readouterr().out
    for step_size in names["STEP_SIZES"]:
        assert f"λ = {step_size:g}: predicted IoU " in said
        for own in (names["true"], names["predicted"]):
            assert own[step_size].shape == (6, len(names["objects"]))
            assert ((own[step_size] >= 0) & (own[step_size] <= 1)).all()


@pytest.fixture
def keep_environment(monkeypatch):
    """What the notebook changes of the process is put back."""
    monkeypatch.chdir(NOTEBOOK.parent)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.syspath_prepend(str(NOTEBOOK.parent))
