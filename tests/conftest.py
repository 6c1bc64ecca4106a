"""What makes a test's outcome depend on nothing but the code: not on the shell, the order of tests, or the cores."""

import os
import random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

# What a developer's shell may hold, and what would then reach a test or a process that it starts.
CHOICES = (
    "IOUNET_BACKBONE_WEIGHTS",
    "IOUNET_WORKFLOW",
    "OPTUNA_STORAGE",
    "SNAKEMAKE_PROFILE",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD",
)
LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_JOB_ID")
for name in [*CHOICES, *LAUNCHERS, *(name for name in os.environ if name.startswith("WANDB_"))]:
    os.environ.pop(name, None)
os.environ["WANDB_MODE"] = "offline"  # whoever is logged in: no test uploads to an account
for name in ("no_proxy", "NO_PROXY"):  # the tests' servers are on the loopback
    os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))

settings.register_profile("suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


LONG = ("tests/workflow/", "tests/experiments/training/", "tests/test_", "tests/sweeps/")  # where minutes go


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers the files that take long come first, so that none is left with one at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: [item.nodeid.startswith(start) for start in LONG], reverse=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Known generators and one thread for every test and its fixtures, whatever ran before and on how many cores."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - mmdet draws from numpy's global generator
    random.seed(0)
