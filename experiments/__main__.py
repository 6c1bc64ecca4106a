"""`python -m experiments COMMAND …`: one command for every stage; `--help` behind a command says what it takes.

A stage ends with its files. What has finished is tracked here, as a step after it that reads the files alone.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from experiments.finished import Finished
from suite.utf8 import ensure_utf8

COMMANDS = {  # name to the module whose `main(arguments)` it is, and what it does
    "data": ("experiments.data.command", "make the images of a suite, or check and index those in a folder"),
    "download": ("experiments.data.download.command", "fetch a public data set, or weights"),
    "train": ("experiments.training.train", "train one variant with one seed"),
    "evaluate": ("experiments.evaluation.evaluate", "evaluate one checkpoint in every inference setting"),
    "speed": ("experiments.speed.timing", "time the inference of the first seed's checkpoints"),
    "pooling": ("experiments.pooling.measure", "measure RoIAlign beside Precise RoI Pooling"),
    "swap": ("experiments.pooling.swap", "evaluate a trained IoU-Net with another RoI pooling"),
    "predict": ("experiments.prediction.command", "detect on any images with trainings: pictures, and JSON"),
    "train-refiner": ("experiments.refinement.train", "train IoU-Net alone, for boxes of any detector"),
    "refine": ("experiments.refinement.refine", "refine the boxes of any detector, COCO's results in and out"),
    "treat": ("experiments.treatments.treat", "evaluate what refiners make of a detector's boxes"),
    "track": ("experiments.tracking.track", "write the Weights & Biases runs of finished stages"),
    "sync": ("experiments.tracking.sync", "upload the offline Weights & Biases runs"),
    "dashboards": ("experiments.tracking.dashboards", "make the Weights & Biases workspace and report"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] not in COMMANDS:
        print(f"python -m experiments: no command '{words[0]}'\n\n{usage()}", file=sys.stderr)
        return 2
    done = importlib.import_module(COMMANDS[words[0]][0]).main(words[1:])
    if isinstance(done, Finished):
        from experiments.tracking.track import track_finished

        track_finished(done)
        return 0
    return done or 0


def usage() -> str:
    """The commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "usage: python -m experiments COMMAND [OPTIONS]\n\n" + "\n".join(lines)


if __name__ == "__main__":
    ensure_utf8()
    sys.exit(main())
