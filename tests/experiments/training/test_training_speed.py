"""What a training iteration of IoU-Net costs beside the baseline's."""

import pytest
import torch

from tests.experiments.training.bench_training import build_trainings, measure, summary


@pytest.mark.slow
def test_an_iteration_costs_at_most_a_fifth_more_than_the_baselines(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        row = summary(*measure(build_trainings(tmp_path), rounds=15))["Faster R-CNN"]
    finally:
        torch.set_num_threads(threads)
    assert row["iounet_ratio"]["median"] <= 1.2
    assert row["iounet_peak_ratio"] <= 1.5  # no noise in this one: 1.4
