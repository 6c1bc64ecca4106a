"""What a running workflow says of itself."""

import os
import time

import pytest

from workflow.progress import Share, Unfinished, progress_line, share_of

TRAINING = "19:42:20 epoch 1/20, iteration 115/460, 19 min 20 s left: loss 2.210\n"
BAR = "samp seed 0 on val:  45%|####      | 90/200 [00:30<01:05,  2.9image/s]\r"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TRAINING, Share(0.25, 1160.0)),
        (BAR, Share(0.45, 65.0)),
        (TRAINING + BAR, Share(0.45, 65.0)),  # what comes last
        (BAR.replace("<01:05", "<1:00:05"), Share(0.45, 3605.0)),
        ("x" * 9000 + TRAINING, Share(0.25, 1160.0)),
        ("loading\n", None),
        (BAR.replace("<01:05", "<?"), None),
    ],
)
def test_how_far_a_job_is(tmp_path, text, expected):
    (tmp_path / "log").write_text(text)
    assert share_of(tmp_path / "log") == expected


def test_a_log_that_is_not_there(tmp_path):
    assert share_of(tmp_path / "log") is None


def test_what_runs_and_what_is_left(tmp_path):
    began = time.time() - 10
    for name, text in {"a": TRAINING, "b": "loading", "old": TRAINING}.items():
        (tmp_path / name).write_text(text)
    os.utime(tmp_path / "old", (began - 60, began - 60))
    jobs = [
        Unfinished("train, iounet", "train a seed 0", tmp_path / "a"),
        Unfinished("train, iounet", "train b seed 0", tmp_path / "b"),
        Unfinished("train, iounet", "train old seed 0", tmp_path / "old"),
        Unfinished("speed", "speed", tmp_path / "none", threads=2),
    ]
    expected = {"train, iounet": 1200.0, "speed": 60.0}
    # 1160 of a, 1200 of b and of the one to come, on two cores, and 60 of both
    assert progress_line(jobs, began, expected, cores=2, done=3) == (
        "3 of 7 jobs done, about 31 min left; running: train a seed 0 25%, 19 min left; train b seed 0"
    )
    assert "at least 10 min left" in progress_line(jobs, began, {}, cores=2, done=3)
    assert "time left not known yet" in progress_line(jobs[1:], began, {}, cores=2, done=3)
    assert progress_line(jobs[2:], began, expected, cores=2, done=3) is None
