"""`dataset` blocks of generated images."""

from suite.blocks import GeneratedData
from suite.suite import check_suite
from tests.experiments.data.folders import suite

BLOCK = {"generator": "shapes", "splits": {"train": {"images": 40}, "val": {"images": 6, "difficulty": "hard"}}}


def generated_data(block) -> GeneratedData:
    """A `dataset` block, checked: part of a suite that chooses on its first split and reports on its last."""
    names = list(block["splits"]) if isinstance(block, dict) and block.get("splits") else ["tune", "val"]
    return check_suite(suite(block, validation={"split": names[0]}, report_split=names[-1])).dataset
