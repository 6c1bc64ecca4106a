"""How often a training says how far it is."""

import logging
from types import SimpleNamespace

import pytest
from mmcv.runner.log_buffer import LogBuffer

from experiments.training import runner as module
from experiments.training.runner import MetricsHook


@pytest.fixture
def runner():
    """What the hook sees of a runner, in its first epoch of 8 iterations."""
    return SimpleNamespace(
        **{"epoch": 0, "iter": 0, "inner_iter": 0, "max_epochs": 2, "max_iters": 16, "epoch_length": 8},
        **{"log_buffer": LogBuffer(), "mode": "train", "hooks": [], "logger": logging.getLogger("progress")},
        **{"current_lr": lambda: [0.1], "data_loader": range(8)},
    )


@pytest.mark.parametrize(("asked", "interval"), [(50, 4), (3, 3), (1, 1)])
def test_at_least_twice_an_epoch(runner, asked, interval):
    hook = MetricsHook(None, asked)
    hook.before_train_epoch(runner)
    assert hook.interval == interval
    runner.epoch_length = 1000
    hook.before_train_epoch(runner)
    assert hook.interval == asked  # a longer epoch has its own again


def test_a_slow_iteration_is_told_of_without_a_row_of_figures(runner, monkeypatch, caplog):
    rows = []
    hook = MetricsHook(SimpleNamespace(append=lambda *row: rows.append(row)), 4)
    hook.before_train_epoch(runner)
    with caplog.at_level(logging.INFO):
        hook.after_train_iter(runner)
        assert not caplog.messages
        monkeypatch.setattr(module, "PATIENCE", 0.0)
        runner.iter = runner.inner_iter = 1
        hook.after_train_iter(runner)
    assert caplog.messages == ["epoch 1/2, iteration 2/16, 0 min 00 s left"] and not rows
