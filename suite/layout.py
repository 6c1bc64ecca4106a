"""Where everything lies below `results/<suite>/`: the one place that knows the names of files and folders.

Each class is a folder, and may lie anywhere (a command can be told where to write); `Layout` says where the workflow
has them. `W&B record` is the sidecar that remembers which Weights & Biases run a stage was logged as.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from suite.settings import GUIDES, PARTS
from suite.treatments import CLASS_AGNOSTIC, NMS

RECORD = "wandb_run.json"
SUITE_FILE = "suite.yaml"
KEPT = ".result"  # undeclared folder beside a stage's outputs: see `suite.kept`


@dataclass(frozen=True)
class Folder:
    """A folder of a stage."""

    path: Path

    @property
    def record(self) -> Path:
        """The W&B record."""
        return self.path / RECORD

    @property
    def lock(self) -> Path:
        """Held by the process that works here (`suite.files.folder_lock`)."""
        return self.path / ".lock"


@dataclass(frozen=True)
class DataFolder(Folder):
    """The images of a suite and their COCO annotations."""

    @property
    def manifest(self) -> Path:
        """Fingerprint, classes, counts; written last."""
        return self.path / "dataset.json"

    @property
    def inspected(self) -> Path:
        """What is known of the files of a folder; undeclared, so that it outlives the others."""
        return self.path / ".inspected.json"

    def annotations(self, split: str) -> Path:
        """COCO's JSON of a split."""
        return self.path / f"{split}.json"

    def images(self, split: str) -> Path:
        """Folder of a split's images, or a link to it."""
        return self.path / split


@dataclass(frozen=True)
class RunFolder(Folder):
    """A training: results, and what a killed one resumes from."""

    @property
    def name(self) -> str:
        """Variant and seed, by the names of the folders."""
        return " ".join(self.path.resolve().parts[-2:])

    @property
    def checkpoint(self) -> Path:
        """The final weights."""
        return self.path / "checkpoint.pth"

    @property
    def kept(self) -> RunFolder:
        """The outputs that are kept."""
        return type(self)(kept(self.checkpoint).parent)

    @property
    def config(self) -> Path:
        """The weights' detector as a self-contained mmdet config; undeclared, so that older trainings stay whole."""
        return self.path / "config.py"

    @property
    def run(self) -> Path:
        """Where the weights come from; written last."""
        return self.path / "run.json"

    @property
    def history(self) -> Path:
        """The curves."""
        return self.path / "history.csv"

    @property
    def outputs(self) -> tuple[Path, Path, Path]:
        """What the workflow declares."""
        return self.checkpoint, self.run, self.history

    @property
    def metrics(self) -> Path:
        """The curves as they are logged."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """What the training says."""
        return self.path / "train.log"

    @property
    def profile(self) -> Path:
        """Of a sweep's trial: AP in every inference setting."""
        return self.path / "profile.json"

    def state(self, epoch: int) -> Path:
        """What the training resumes from after an epoch."""
        return self.path / f"epoch_{epoch}.pth"

    def states(self) -> list[Path]:
        """The states that are there, newest first."""
        return sorted(self.path.glob("epoch_*.pth"), key=lambda p: int(p.stem.split("_")[1]), reverse=True)


@dataclass(frozen=True)
class RefinerFolder(RunFolder):
    """The training of a refiner; as that of a variant, but for the file that it ends with."""

    @property
    def checkpoint(self) -> Path:
        """The refiner: weights, config and classes."""
        return self.path / "refiner.pth"


@dataclass(frozen=True)
class EvaluationFolder(Folder):
    """A checkpoint evaluated on a split in several inference settings."""

    @property
    def index(self) -> Path:
        """Written last: when it is there, the rest is whole."""
        return self.path / "evaluation.json"

    @property
    def detections(self) -> Path:
        """The boxes of every setting."""
        return self.path / "detections.json.gz"

    @property
    def diagnostics(self) -> Path:
        """What explains an IoU-Net."""
        return self.path / "diagnostics.json"

    def setting(self, name: str) -> Path:
        """Average precision in a setting."""
        return self.path / f"{name}.json"

    def matches(self, name: str) -> Path:
        """What a bootstrap resamples of a setting."""
        return self.path / f"{name}.matches.json.gz"

    NAME = rf"off|(?:{'|'.join(GUIDES)})(?:_refine[0-9.e+-]+)?(?:_(?:{'|'.join(PARTS)}))?"

    def setting_of(self, path: Path) -> str | None:
        """The setting that a file of this folder belongs to; None for a file of another kind."""
        found = re.fullmatch(rf"({self.NAME})(?:\.matches\.json\.gz|\.json)", path.name)
        return found[1] if found else None

    def foreign(self) -> list[str]:
        """Names of what lies here and is no part of an evaluation."""
        own = {p.name for p in (self.index, self.detections, self.diagnostics, self.record, self.lock)} | {KEPT}
        there = sorted(self.path.iterdir()) if self.path.is_dir() else []
        return [p.name for p in there if p.name not in own and self.setting_of(p) is None and not is_partial(p)]


@dataclass(frozen=True)
class TreatmentFolder(EvaluationFolder):
    """A detector's boxes in several treatments: as an evaluation in several settings."""

    NAME = (
        rf"(?:{'|'.join(NMS)})[0-9.]*(?:_(?:refined|regressed)\d+)?(?:_step[0-9.e+-]+)?(?:_rescored)?"
        rf"(?:_{CLASS_AGNOSTIC})?"
    )


@dataclass(frozen=True)
class SweepFolder(Folder):
    """The hyper-parameter search."""

    @property
    def summary(self) -> Path:
        """Written last: when it is there, the rest is whole."""
        return self.path / "sweep.json"

    @property
    def trials(self) -> Path:
        """A row per trial."""
        return self.path / "trials.csv"

    @property
    def curves(self) -> Path:
        """Validation AP by epoch."""
        return self.path / "curves.csv"

    @property
    def profiles(self) -> Path:
        """AP by inference setting."""
        return self.path / "profiles.csv"

    @property
    def importance(self) -> Path:
        """What AP depends on."""
        return self.path / "importance.json"

    @property
    def best(self) -> Path:
        """The winner."""
        return self.path / "best.json"

    @property
    def best_config(self) -> Path:
        """The winner as a config that needs no other file."""
        return self.path / "best.py"

    @property
    def best_variant(self) -> Path:
        """The winner as a variant's config, in published units."""
        return self.path / "best_variant.py"

    @property
    def best_suite(self) -> Path:
        """The winner as an entry of a suite."""
        return self.path / "best.yaml"

    @property
    def outputs(self) -> list[Path]:
        """What the workflow declares."""
        tables = (self.trials, self.curves, self.profiles)
        best = (self.best, self.best_config, self.best_variant, self.best_suite)
        return [self.summary, *tables, self.importance, *best]

    @property
    def journal(self) -> Path:
        """The study, unless a database holds it."""
        return self.path / "journal.log"

    @property
    def turn(self) -> Path:
        """Folder whose lock holds the study."""
        return self.path / "turn"

    def worker(self, number: int | str) -> Path:
        """What a worker writes at its end."""
        return self.path / "workers" / f"{number}.json"

    def owner(self, trial: str) -> Path:
        """Folder whose lock is held by the worker of a trial, which is named `<study>__<number>`."""
        return self.path / "owners" / trial

    def trial(self, training_hash: str, seed: int) -> RunFolder:
        """Where a trial trains: the same parameters find the same files."""
        return RunFolder(self.path / "trials" / f"{training_hash}_seed{seed}")

    def trial_record(self, trial: str) -> Path:
        """The W&B record of a trial, which is named `<study>__t<number>`."""
        return self.path / "wandb_runs" / f"{trial}.json"

    def trial_records(self) -> list[Path]:
        """The W&B records of its trials."""
        return sorted(self.path.glob("wandb_runs/*.json"))

    def evaluation(self, side: str) -> EvaluationFolder:
        """The evaluation of the `winner` or the `default` on the reported split."""
        return EvaluationFolder(self.path / "val" / side)


@dataclass(frozen=True)
class ReportFolder(Folder):
    """A report."""

    NAMES = frozenset(
        {
            *("README.md", "index.html", "provenance.json", "verdicts.json", RECORD),
            *("tables", "figures", "evaluations", "runs", "speed", "sweep", "pooling_data", "treatments"),
        }
    )

    @property
    def readme(self) -> Path:
        """The report as markdown."""
        return self.path / "README.md"

    @property
    def page(self) -> Path:
        """The same as one HTML file."""
        return self.path / "index.html"

    @property
    def provenance(self) -> Path:
        """Each cell traced to its files."""
        return self.path / "provenance.json"

    @property
    def verdicts(self) -> Path:
        """The claims, judged."""
        return self.path / "verdicts.json"

    @property
    def tables(self) -> Path:
        """Folder of the tables as CSV."""
        return self.path / "tables"

    @property
    def figures(self) -> Path:
        """Folder of the figures, and of their data as CSV."""
        return self.path / "figures"

    def table(self, key: str) -> Path:
        """A table as CSV."""
        return self.tables / f"{key}.csv"

    def figure(self, key: str, suffix: str) -> Path:
        """A figure (`png`, `svg`) or its data (`csv`)."""
        return self.figures / f"{key}.{suffix}"

    def foreign(self) -> list[str]:
        """Names of what lies here and is no part of a report."""
        return sorted(p.name for p in self.path.iterdir() if p.name not in self.NAMES) if self.path.is_dir() else []


@dataclass(frozen=True)
class Layout:
    """The results of a suite.

    Attributes:
        root: `<results>/<suite>`, relative to the working directory.
    """

    root: Path

    @staticmethod
    def around(path: Path) -> Layout | None:
        """The results that a file or folder lies in: the nearest folder above it, or itself, with a `suite.yaml`."""
        for folder in (path, *path.resolve().parents):
            if (folder / SUITE_FILE).is_file():
                return Layout(folder)
        return None

    @staticmethod
    def all_below(results: Path) -> list[Layout]:
        """Those of every suite below a folder of results."""
        return [Layout(file.parent) for file in sorted(results.glob(f"*/{SUITE_FILE}"))]

    @property
    def suite_file(self) -> Path:
        """The suite with its defaults, which the commands of the workflow read."""
        return self.root / SUITE_FILE

    @property
    def lock(self) -> Path:
        """Held by the Snakemake that works on these results (`workflow.lock`)."""
        return self.root / ".lock"

    @property
    def snakemake(self) -> Path:
        """Folder of Snakemake's records of these results (`workflow.records`)."""
        return self.root / ".snakemake"

    @property
    def data(self) -> DataFolder:
        """The images."""
        return DataFolder(self.root / "data")

    @property
    def pretraining(self) -> RunFolder:
        """The shared start of every variant."""
        return RunFolder(self.root / "pretraining")

    def run(self, variant: str, seed: int | str) -> RunFolder:
        """A training of a variant; of 'pretraining', which is trained once, whatever the seed."""
        return self.pretraining if variant == "pretraining" else RunFolder(self.root / "runs" / variant / f"seed{seed}")

    def runs(self) -> Iterator[RunFolder]:
        """The finished trainings of variants."""
        yield from (RunFolder(file.parent) for file in sorted(self.root.glob("runs/*/seed*/run.json")))

    def refiner(self, head: str, seed: int | str) -> RefinerFolder:
        """The training of a refiner with an IoU head of a kind (`suite.treatments.HEADS`)."""
        return RefinerFolder(self.root / "refiners" / head / f"seed{seed}")

    def refiners(self) -> Iterator[RefinerFolder]:
        """The finished trainings of refiners."""
        yield from (RefinerFolder(file.parent) for file in sorted(self.root.glob("refiners/*/seed*/run.json")))

    def evaluation(self, variant: str, seed: int | str, split: str) -> EvaluationFolder:
        """The evaluation of a training's checkpoint."""
        return EvaluationFolder(self.root / "evaluations" / variant / f"seed{seed}" / split)

    def evaluations(self) -> Iterator[tuple[str, EvaluationFolder]]:
        """The finished evaluations, each with its variant."""
        for file in sorted(self.root.glob("evaluations/*/seed*/*/evaluation.json")):
            yield file.parents[2].name, EvaluationFolder(file.parent)

    def speed(self, device: str) -> Path:
        """The timed inference on a device."""
        return self.root / "speed" / f"{device}.json"

    def speeds(self) -> list[Path]:
        """The timed inference on every device."""
        return [p for p in sorted(self.root.glob("speed/*.json")) if not p.name.endswith(f".{RECORD}")]

    def speed_record(self, device: str) -> Path:
        """The W&B record of the timed inference."""
        return self.root / "speed" / f"{device}.{RECORD}"

    @property
    def sweep(self) -> SweepFolder:
        """The hyper-parameter search."""
        return SweepFolder(self.root / "sweep")

    @property
    def report(self) -> ReportFolder:
        """The report."""
        return ReportFolder(self.root / "report")

    @property
    def ablation(self) -> ReportFolder:
        """The report on the ablation alone."""
        return ReportFolder(self.root / "ablation")

    @property
    def pooling(self) -> ReportFolder:
        """The page on RoIAlign beside Precise RoI Pooling."""
        return ReportFolder(self.root / "pooling")

    @property
    def measured_pooling(self) -> Path:
        """What was measured for that page: values, coordinate gradients, times."""
        return self.root / "pooling_data" / "measured.json"

    @property
    def measured_pooling_record(self) -> Path:
        """Its W&B record."""
        return self.measured_pooling.with_name(f"measured.{RECORD}")

    def all_swapped(self) -> Iterator[EvaluationFolder]:
        """The finished ones."""
        for file in sorted(self.root.glob("pooling_data/*/seed*/*/evaluation.json")):
            yield EvaluationFolder(file.parent)

    def swapped(self, pooling: str, seed: int | str, split: str) -> EvaluationFolder:
        """The evaluation of an IoU-Net's checkpoint with another RoI pooling."""
        return EvaluationFolder(self.root / "pooling_data" / pooling / f"seed{seed}" / split)

    @property
    def anydetector(self) -> ReportFolder:
        """The page on a refiner with the boxes of any detector."""
        return ReportFolder(self.root / "anydetector")

    @property
    def pages(self) -> tuple[ReportFolder, ...]:
        """The report, and the pages beside it."""
        return self.report, self.ablation, self.pooling, self.anydetector

    def all_treated(self) -> Iterator[TreatmentFolder]:
        """The finished ones."""
        for file in sorted(self.root.glob("treatments/*/seed*/*/evaluation.json")):
            yield TreatmentFolder(file.parent)

    def treated(self, detector: str, seed: int | str, split: str) -> TreatmentFolder:
        """The evaluation of a detector's boxes in every treatment, by the refiners of the same seed."""
        return TreatmentFolder(self.root / "treatments" / detector / f"seed{seed}" / split)

    @property
    def wandb(self) -> Path:
        """Folder of the offline W&B runs."""
        return self.root / "wandb"

    @property
    def benchmarks(self) -> Path:
        """Folder of what Snakemake measures of each job."""
        return self.root / "benchmarks"

    def benchmark(self, job: str) -> Path:
        """Time and memory of a job."""
        return self.benchmarks / f"{job}.tsv"

    def log(self, job: str) -> Path:
        """What a job says."""
        return self.root / "logs" / f"{job}.log"

    def relative(self, path: Path) -> str:
        """A file's path below the root, as reports and provenance name it."""
        return path.relative_to(self.root).as_posix()


def kept(declared: Path) -> Path:
    """Where an output is written, and outlives the file that the workflow declares: see `suite.kept`."""
    return declared.parent / KEPT / declared.name


def is_partial(path: Path) -> bool:
    """Whether a file is what a kill left of an atomic writing (`suite.files.atomic`)."""
    return path.name.startswith(".") and path.name.endswith(".part")
