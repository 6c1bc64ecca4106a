"""What W&B artifacts are called, as `name:alias`: how one run names what another one made."""

from __future__ import annotations

from suite.suite import Suite

DIGEST = 16  # characters of a digest that serve as an artifact's alias


def dataset_artifact(suite: Suite, fingerprint: str) -> str:
    """The reference of a data set."""
    return f"{suite.name}__data:{fingerprint[:DIGEST]}"


def checkpoint_artifact(suite: Suite, variant: str, seed: int, sha256: str) -> str:
    """The reference of a checkpoint."""
    return f"{suite.name}__{variant}__s{seed}:{sha256[:DIGEST]}"


def refiner_name(head: str) -> str:
    """What stands for a variant in the names of a refiner's run and checkpoint."""
    return f"refiner_{head}"


def treated_name(detector: str) -> str:
    """What stands for a variant in the names of what refiners made of a detector's boxes."""
    return f"{detector}__treated"


def swapped_name(variant: str, pooling: str) -> str:
    """What stands for a variant in the names of its evaluation with another RoI pooling."""
    return f"{variant}__{pooling}"


def evaluation_artifact(suite: Suite, variant: str, seed: int, split: str, run_id: str) -> str:
    """The reference of what an evaluation found."""
    return f"{suite.name}__{variant}__s{seed}__{split}:{run_id}"
