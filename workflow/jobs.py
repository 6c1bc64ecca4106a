"""The workflow's files and parameters for a suite; the `.smk` files only say which rule makes which."""

import sys
from pathlib import Path

from experiments.config import config_hash, resolve_config, training_hash
from experiments.data.folder import missing
from experiments.data.shapes.spec import digest, fingerprint
from experiments.data.weights import missing_weights
from experiments.speed.rows import VARIANTS as TIMED
from experiments.speed.rows import timed_settings
from suite.files import atomic
from suite.suite import GeneratedData, Suite


class Plan:
    """Paths (relative to the working directory) and hashes of one suite.

    Attributes:
        results: the suite's results folder.
        suite_text: the checked suite as YAML, with its defaults and with what the command line overrides.
        suite_file: where the commands read it.
        data_module: the command that makes the suite's images, or checks those in a folder.
        data_fingerprint: what decides whether that is done again.
        start: inputs of every training: the data, and the pretraining if the suite has one.
        speed: files of the timed inference; none if the suite lacks the variants that are timed.
    """

    def __init__(self, suite: Suite) -> None:
        """Resolves every config, so that a mistake in one shows before anything runs."""
        self.suite = suite
        self.results = suite.layout.root.as_posix()
        self.suite_text = suite.text
        self.suite_file = f"{self.results}/suite.yaml"
        self.start = {"data": f"{self.results}/data/dataset.json"}
        if suite.pretraining is not None:
            self.start["pretraining"] = f"{self.results}/pretraining/checkpoint.pth"
        if isinstance(suite.dataset, GeneratedData):
            self.data_module, self.data_fingerprint = "experiments.data.shapes.dataset", fingerprint(suite.dataset)
        else:
            self.data_module, self.data_fingerprint = "experiments.data.folder", digest(suite.raw["dataset"])
        trained = suite.trained
        self._configs = {variant: resolve_config(suite, variant) for variant in trained}
        self.speed = [f"{self.results}/speed/{suite.speed.device}.json"] if timed_settings(suite) else []

    def write_suite(self) -> None:
        """Writes `suite_file` unless it is there with the same contents."""
        path = Path(self.suite_file)
        if not path.is_file() or path.read_text() != self.suite_text:
            with atomic(path) as part:
                part.write_text(self.suite_text)

    def missing(self) -> list[str]:
        """What the data check would miss first, a message for each; nothing once the data are made or checked."""
        if isinstance(self.suite.dataset, GeneratedData) or Path(self.start["data"]).is_file():
            return []
        return missing(self.suite.dataset) + missing_weights(self.suite)

    def training_hash(self, variant: str) -> str:
        """What decides whether a variant is trained again."""
        return training_hash(self._configs[variant]) if variant in self._configs else ""

    def gpus(self, most: int | None = None) -> dict[str, int]:
        """The resource `gpu` of a rule that uses at most so many; nothing in a suite that asks for none.

        Several are to be of one node: SLURM may spread them over more.
        """
        gpus = min(self.suite.resources.gpus, most or sys.maxsize)
        return {"gpu": gpus, **({"nodes": 1} if gpus > 1 else {})} if gpus else {}

    def train_command(self) -> str:
        """What starts a training on its GPUs; it changes, and a training is done again, with the number of ranks."""
        gpus = max(1, self.suite.resources.gpus)
        start = f"torchrun --standalone --nproc-per-node {gpus}" if gpus > 1 else "python"
        return f"python -m workflow.gpus {gpus} {start} -m experiments.training.train"

    def evaluation_hash(self, variant: str) -> list[str]:
        """What decides whether a checkpoint is evaluated again: its config and its inference settings."""
        return [config_hash(self._configs[variant]), *map(str, self.suite.settings(variant))]

    def timed_checkpoints(self) -> list[str]:
        """The checkpoints whose inference is timed."""
        seed = self.suite.seeds[0]
        return [f"{self.results}/runs/{variant}/seed{seed}/checkpoint.pth" for variant in TIMED]

    def speed_hash(self) -> list[str]:
        """What decides whether inference is timed again."""
        configs = [config_hash(self._configs[variant]) for variant in TIMED]
        return [*configs, *map(str, timed_settings(self.suite)), str(self.suite.speed)]

    def evaluations(self, variants: list[str]) -> list[str]:
        """The evaluations of the variants, every seed, on the reported split.

        Each is named by its index file, which is written last: what it lists lies beside it.
        """
        split = self.suite.report_split
        return [
            f"{self.results}/evaluations/{variant}/seed{seed}/{split}/evaluation.json"
            for variant in variants
            for seed in self.suite.seeds
        ]

    def runs(self, variants: list[str]) -> list[str]:
        """The run records of the variants, every seed."""
        return [
            f"{self.results}/runs/{variant}/seed{seed}/run.json" for variant in variants for seed in self.suite.seeds
        ]
