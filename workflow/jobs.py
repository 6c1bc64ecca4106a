"""The workflow's jobs for a suite: files, commands and parameters; the `.smk` files only say which rule has which."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from experiments.config import changes_of_head, config_hash, resolve_config, training_hash
from experiments.data.folder.source import Source, missing
from experiments.data.shapes.dataset import fingerprint
from experiments.data.weights import missing_weights, never_learnt
from experiments.pooling.rows import SAMPLES, changes_of, pooled_settings, pooled_variant
from experiments.refinement.settings import inference_arguments
from experiments.runtime import require_operators, slow_pooling
from experiments.speed.rows import timed_settings, timed_variants
from experiments.treatments.rows import treatments_of
from suite.blocks import FolderData, GeneratedData
from suite.errors import NotInSuite
from suite.files import atomic, digest
from suite.roles import FASTER_RCNN, FIRST
from suite.settings import Setting
from suite.suite import Suite
from sweeps.space import Search
from workflow.gpus import visible_gpus
from workflow.lock import hold_results
from workflow.progress import Progress, Unfinished, progress_line
from workflow.times import expected_seconds
from workflow.work import kind_of


class Jobs:
    """The jobs of one suite; paths are relative to the working directory.

    Attributes:
        suite: the suite, with what the command line overrides.
        layout: where its files are.
        suite_file: where the commands read it.
        start: inputs of every training: the data, and the pretraining if the suite has one.
        speed: file of the timed inference; `timed` holds it too, unless there is nothing to time.
        search: its hyper-parameter search; None without a `sweep:` block.
        recorded: parameters by which Snakemake knows whether results are up to date.
    """

    def __init__(self, suite: Suite) -> None:
        """Resolves every config, so that a mistake in one shows before anything runs. Raises `SuiteError`."""
        self.suite, self.layout = suite, suite.layout
        if isinstance(suite.dataset, FolderData):
            Source(suite.dataset)  # refuses a split that does not fit its format, also once the data are indexed
        self.suite_file = self.layout.suite_file.as_posix()
        self.start = {"data": self.layout.data.manifest}
        if suite.pretraining is not None:
            self.start["pretraining"] = self.layout.pretraining.checkpoint
        self.speed = self.layout.speed("cpu" if suite.speed is None else suite.speed.device)
        try:
            self.timed = [self.speed] if timed_settings(suite) else []
        except NotInSuite:
            self.timed = []
        self.search = None if suite.sweep is None else Search(suite)
        if self.search is not None and "OPTUNA_STORAGE" in os.environ:
            from sweeps.database import database

            database()  # a value that cannot be used shows before the trainings
        self.recorded = RecordedParams(suite, self.search)

    def begin(self, dag: Any, cores: int | None, tell: Callable[[str], None]) -> None:
        """Holds the results for this process, writes what the commands read, and begins to tell of the progress.

        Args:
            dag: Snakemake's.
            cores: that jobs share; None = on a cluster, where there is no telling how long the rest takes.
            tell: says a line.

        Raises:
            SuiteError: there is a GPU, and mmcv-full has no operators for it; another process holds the results.
        """
        on_gpu = cores is not None and bool(visible_gpus(os.environ)) and require_operators()
        if on_gpu and (slow := slow_pooling()):
            print(f"warning: {slow}", file=sys.stderr, flush=True)
        self._held = hold_results(self.layout.lock)  # until the process ends
        self.write_suite()
        since = time.time()

        @functools.lru_cache(maxsize=1)
        def expected(done: int) -> dict[str, float]:
            return expected_seconds(self.suite)  # which reads configs and results: only after another job is done

        if cores is not None:
            Progress(lambda: self._progress(dag, cores, since, expected), tell).start()

    def _progress(self, dag: Any, cores: int, since: float, expected: Callable[[int], dict[str, float]]) -> str | None:
        """A line on what runs and what is left; `expected` has the seconds of jobs once so many are done."""
        jobs = [self._unfinished(job) for job in list(dag.needrun_jobs()) if job.rule.benchmark]
        done = sum(bool(job.rule.benchmark) for job in list(dag.needrun_jobs(exclude_finished=False))) - len(jobs)
        return progress_line(jobs, since, expected(done), cores, done)

    def _unfinished(self, job: Any) -> Unfinished:
        variant = job.wildcards_dict.get("variant")
        kind = job.rule.name if variant is None else kind_of(self.suite, variant, job.rule.name)
        of = "" if variant is None else f" {variant} seed {job.wildcards_dict['seed']}"
        log = Path(str(job.log[0])) if job.log else None
        return Unfinished(kind, job.rule.name + of, log, int(job.threads))

    def write_suite(self) -> None:
        """Writes `suite_file` unless it is there with the same contents."""
        path = self.layout.suite_file
        if not path.is_file() or path.read_text(encoding="utf-8") != self.suite.text:
            with atomic(path) as part:
                part.write_text(self.suite.text, encoding="utf-8")

    def missing(self) -> list[str]:
        """What the data check would miss first, a message for each; nothing once the data are made or checked."""
        if not isinstance(self.suite.dataset, FolderData) or self.layout.data.manifest.is_file():
            return []
        return missing(self.suite.dataset) + missing_weights(self.suite)

    def warnings(self) -> list[str]:
        """What will run and is likely not meant, a message for each."""
        return never_learnt(self.suite)

    def gpus(self, most: int | None = None) -> dict[str, int]:
        """The resource `gpu` of a rule that uses at most so many; nothing in a suite that asks for none.

        Several are to be of one node: SLURM may spread them over more.
        """
        gpus = min(self.suite.resources.gpus, most or sys.maxsize)
        return {"gpu": gpus, **({"nodes": 1} if gpus > 1 else {})} if gpus else {}

    @property
    def pretraining_threads(self) -> int:
        """Threads of the pretraining, beside which nothing runs on a CPU: two, however many cores there are."""
        return self.suite.resources.cpus if self.suite.resources.gpus else 2

    @property
    def train_command(self) -> str:
        """What starts a training on its GPUs."""
        return f"python -m workflow.gpus {_start(self.suite)} -m experiments train"

    @property
    def train_refiner_command(self) -> str:
        """The same of a refiner."""
        return f"python -m workflow.gpus {_start(self.suite)} -m experiments train-refiner"

    def timed_checkpoints(self) -> list[Path]:
        """The checkpoints whose inference is timed. Raises `SuiteError` where there is nothing to time, saying why."""
        return [self.layout.run(variant, self.suite.seeds[0]).checkpoint for variant in timed_variants(self.suite)]

    def evaluations(self, variants: Iterable[str]) -> list[Path]:
        """The evaluations of the variants, every seed, on the reported split.

        Each is named by its index file, which is written last: what it lists lies beside it.
        """
        split = self.suite.report_split
        return [self.layout.evaluation(variant, seed, split).index for variant in variants for seed in self.suite.seeds]

    def runs(self, variants: Iterable[str]) -> list[Path]:
        """The run records of the variants, every seed."""
        return [self.layout.run(variant, seed).run for variant in variants for seed in self.suite.seeds]

    @property
    def ablation_variants(self) -> list[str]:
        """What the ablation compares: what stands for Faster R-CNN and the first IoU-Net. Raises `SuiteError`."""
        return [self.suite.standing_for(published) for published in (FASTER_RCNN, FIRST)]

    @property
    def pooled_variants(self) -> list[str]:
        """The IoU-Net whose pooling is exchanged. Raises `SuiteError` for a suite without one."""
        return [pooled_variant(self.suite)]

    def pooled_checkpoint(self, seed: int | str) -> Path:
        """Its checkpoint. Raises `SuiteError`."""
        return self.layout.run(pooled_variant(self.suite), seed).checkpoint

    def swapped(self) -> list[Path]:
        """Its evaluations with each of the other poolings, every seed; named as those of `evaluations` are."""
        split = self.suite.report_split
        return [self.layout.swapped(pooling, seed, split).index for pooling in SAMPLES for seed in self.suite.seeds]

    def treated(self) -> list[Path]:
        """The detectors' boxes in every treatment, every seed; named as those of `evaluations` are.

        Raises:
            SuiteError: the suite has no baseline, or no IoU-Net that says what a refiner is.
        """
        self.suite.require(FASTER_RCNN, FIRST)
        seeds, split = self.suite.seeds, self.suite.report_split
        return [self.layout.treated(own, seed, split).index for own in self.suite.treated for seed in seeds]

    def worker_files(self) -> list[Path]:
        """What the sweep's workers write at their ends. Raises `SuiteError` for a suite without a sweep."""
        return (self.search or Search(self.suite)).worker_files


class RecordedParams:
    """What Snakemake recorded of the rules' parameters in the first release.

    Snakemake makes a result anew when the set of its rule's parameters is not the one that it recorded. So these keep
    their first values, with the names that modules and classes had then. They are compared, never run: changing one
    makes every result of the rule anew.
    """

    def __init__(self, suite: Suite, search: Search | None) -> None:
        """Resolves every config. Raises `SuiteError`."""
        self._suite, self._search = suite, search
        trained = (*suite.trained, *suite.detectors)
        self._configs = {variant: resolve_config(suite, variant) for variant in trained}

    def data(self) -> dict[str, str]:
        """Rule `data`: what made the images, and what identifies them."""
        dataset = self._suite.dataset
        if isinstance(dataset, GeneratedData):
            return {"maker": "experiments.shapes", "fingerprint": fingerprint(dataset)}
        return {"maker": "experiments.folder_data", "fingerprint": digest(self._suite.raw["dataset"])}

    def command(self) -> str:
        """Rules `pretraining` and `train`: the command, and with it the number of ranks."""
        return f"python -m experiments.gpus {_start(self._suite)} -m experiments.train"

    def training(self, variant: str) -> str:
        """Rules `pretraining` and `train`: the config."""
        return training_hash(self._configs[variant]) if variant in self._configs else ""

    def pretraining_seed(self) -> int:
        """Rule `pretraining`: the seed."""
        return 0 if self._suite.pretraining is None else self._suite.pretraining.seed

    def evaluation(self, variant: str) -> list[str]:
        """Rule `evaluate`: the config and the inference settings."""
        return [config_hash(self._configs[variant]), *map(_shown, self._suite.settings(variant))]

    def speed(self) -> list[str]:
        """Rule `speed`: the configs, the rows and how they are timed; nothing where there is nothing to time."""
        try:
            variants, timed = timed_variants(self._suite), timed_settings(self._suite)
        except NotInSuite:
            return []
        rows = [
            f"Row(key={row.key!r}, variant={row.variant!r}, setting={_shown(row.setting)}, fc_dtype={row.fc_dtype!r})"
            for row in timed
        ]
        return [*(config_hash(self._configs[variant]) for variant in variants), *rows, str(self._suite.raw["speed"])]

    def swap(self, pooling: str) -> list[str]:
        """Rule `swap`: the config with the other pooling, and the inference settings. Raises `SuiteError`."""
        cfg = resolve_config(self._suite, pooled_variant(self._suite), changes_of(pooling))
        return [config_hash(cfg), *map(_shown, pooled_settings(self._suite))]

    def measure_pooling(self) -> str:
        """Rule `measure_pooling`: the config. Raises `SuiteError`."""
        return config_hash(self._configs[pooled_variant(self._suite)])

    def refiner(self, head: str) -> list[Any]:
        """Rule `train_refiner`: the config, what its file has beside, and what starts it.

        Raises:
            SuiteError: the suite has no IoU-Net.
        """
        cfg = resolve_config(self._suite, self._suite.standing_for(FIRST), changes_of_head(head))
        return [training_hash(cfg), inference_arguments(cfg), _start(self._suite)]

    def treatment(self, variant: str) -> list[str]:
        """Rule `treat`: the config and the treatments."""
        return [config_hash(self._configs[variant]), *(one.name for one in treatments_of(self._suite, variant))]

    def sweep_worker(self) -> str:
        """Rule `sweep_worker`: all that decides which trials there are."""
        return "" if self._search is None else self._search.fingerprint()

    def sweep(self) -> Any:
        """Rule `sweep`: as for an evaluation of the base."""
        return "" if self._search is None else self.evaluation(self._search.base)


def _start(suite: Suite) -> str:
    """The number of GPUs of a training, and what starts so many ranks."""
    gpus = max(1, suite.resources.gpus)
    return f"{gpus} " + (f"torchrun --standalone --nproc-per-node {gpus}" if gpus > 1 else "python")


def _shown(setting: Setting) -> str:
    """A setting as the first release printed it."""
    actual = None if setting.step_size is None else setting.step_size.actual
    part = "" if setting.part is None else f", part={setting.part!r}"
    return f"Setting(guide={setting.guide!r}, step_size={actual!r}, num_steps={setting.num_steps!r}{part})"
