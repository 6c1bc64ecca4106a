"""How long the jobs of a suite take: what was measured here, else elsewhere, scaled to their size.

Times of trainings are their own, kills and all, and without the wait for a GPU; those of other jobs are Snakemake's
benchmarks. Those of another machine are in `recorded_times.yaml`, which `python -m workflow.plan --record` writes.
"""

from __future__ import annotations

import contextlib
import csv
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from experiments.runtime import hardware
from suite import provenance
from suite.files import atomic, read_json
from suite.layout import Layout
from suite.suite import PRETRAINING, Suite
from suite.treatments import HEADS
from workflow.work import Work, families, measured_work, planned_work

TRAININGS = ("train", PRETRAINING)
_NUMBERED = rf"(_(align\d+|{'|'.join(HEADS)})_seed)?_?\d+$"  # what tells jobs of a rule without variants apart
RECORDED = Path(__file__).with_name("recorded_times.yaml")


@dataclass(frozen=True)
class Job:
    """One job of the workflow; `kind` is its rule, with the variant's family where the rule has variants."""

    rule: str
    kind: str
    benchmark: str = ""
    threads: int = 1
    gpus: int = 0


@dataclass(frozen=True)
class PlannedJobs:
    """Jobs of one kind.

    Attributes:
        jobs: how many.
        seconds: of one of them; None = never measured.
        at_once: how many run side by side.
        gpus: of one of them.
        source: where the time is from.
    """

    kind: str
    jobs: int
    seconds: float | None
    at_once: int
    gpus: int
    source: str

    @property
    def wall(self) -> float:
        """Seconds that the jobs of this kind take, side by side."""
        return (self.seconds or 0.0) * -(-self.jobs // self.at_once)


@dataclass(frozen=True)
class Sizes:
    """How much work jobs are (`workflow.work`), by kind: those planned, those measured here, those measured elsewhere.

    Without `planned` nothing is scaled.
    """

    planned: Work | None = None
    own: Work = field(default_factory=dict)
    recorded: Work = field(default_factory=dict)

    def scaled(self, kind: str, seconds: float, source: str, measured: Work) -> tuple[float | None, str]:
        """A time for jobs of the planned size, and where it is from; None where the planned size is not known."""
        if self.planned is None or kind not in measured:
            return seconds, source
        if kind not in self.planned:
            return None, "not known before the images are counted"
        factor = self.planned[kind] / measured[kind]
        return seconds * factor, source if 0.99 < factor < 1.01 else f"{source}, x {factor:.2g} for images and epochs"


def measured(benchmarks: Path, families: Mapping[str, str]) -> dict[str, list[float]]:
    """Seconds of the jobs in a benchmark folder, by kind; those that failed to record a time are left out."""
    found: dict[str, list[float]] = {}
    for path in sorted(benchmarks.glob("*.tsv")):
        named = [variant for variant in families if f"_{variant}_seed" in path.stem]
        variant = max(named, key=len, default=None)  # a name may end with another's
        rule = re.sub(_NUMBERED, "", path.stem) if variant is None else path.stem.split(f"_{variant}_seed")[0]
        kind = rule if variant is None else f"{rule}, {families[variant]}"
        if seconds := _seconds(path):
            found.setdefault(kind, []).append(seconds)
    return found


def trainings(layout: Layout, families: Mapping[str, str]) -> dict[str, list[float]]:
    """Seconds of a suite's finished trainings, by kind; those of variants that it no longer has are left out."""
    kinds = {PRETRAINING: PRETRAINING, **{variant: f"train, {family}" for variant, family in families.items()}}
    found: dict[str, list[float]] = {}
    for folder in (layout.pretraining, *layout.runs()):
        with contextlib.suppress(OSError, ValueError, KeyError):
            run = read_json(folder.run)
            if kind := kinds.get(run["variant"]):
                found.setdefault(kind, []).append(float(run["wall_time_s"]))
    return found


def _seconds(path: Path) -> float | None:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return float(list(csv.DictReader(file, delimiter="\t"))[-1]["s"])
    except (OSError, ValueError, KeyError, IndexError):
        return None


def estimate(
    jobs: Iterable[Job],
    own: Mapping[str, list[float]],
    recorded: Mapping[str, float],
    cores: int,
    gpus: int = 0,
    recorded_gpus: int = 1,
    sizes: Sizes = Sizes(),
) -> list[PlannedJobs]:
    """Times by kind of job, in the order in which the jobs are listed.

    Args:
        jobs: from `parse_dry_run`.
        own: seconds measured here, by kind.
        recorded: seconds measured on another machine, by kind.
        cores: of this machine; jobs of one thread run side by side on them.
        gpus: of this machine; jobs that ask for GPUs run side by side as far as these last, one by one without any.
        recorded_gpus: that each training in `recorded` took; on more GPUs it takes as much less time.
        sizes: the jobs', and of those that were measured: a time is scaled by them.
    """
    kinds: dict[str, list[Job]] = {}
    for job in jobs:
        if job.benchmark:  # the others are targets and seconds
            kinds.setdefault(job.kind, []).append(job)
    rows = []
    for kind, same in kinds.items():
        seconds, source = None, "not measured yet"
        if own.get(kind):
            seconds, source = statistics.median(own[kind]), f"median of {len(own[kind])} here"
            seconds, source = sizes.scaled(kind, seconds, source, sizes.own)
        elif kind in recorded:
            seconds, source = sizes.scaled(kind, recorded[kind], "recorded elsewhere", sizes.recorded)
            if same[0].gpus and same[0].rule in TRAININGS:
                seconds = None if seconds is None else seconds * recorded_gpus / same[0].gpus
        at_once = cores // max(job.threads for job in same)
        if needed := max(job.gpus for job in same):
            at_once = min(at_once, gpus // needed)
        rows.append(PlannedJobs(kind, len(same), seconds, min(max(1, at_once), len(same)), needed, source))
    return rows


@dataclass(frozen=True)
class Known:
    """What is known of how long a suite's jobs take.

    Attributes:
        own: seconds measured here, by kind.
        elsewhere: the suite's entry of `recorded_times.yaml`; {} without one.
        sizes: by which both are scaled.
    """

    own: Mapping[str, list[float]]
    elsewhere: Mapping[str, Any]
    sizes: Sizes

    @property
    def recorded(self) -> Mapping[str, float]:
        """Seconds measured elsewhere, by kind."""
        return self.elsewhere.get("seconds", {})


def known_times(suite: Suite) -> Known:
    """Looks at a suite's results and at `recorded_times.yaml`."""
    elsewhere = read_recorded().get(suite.name, {})
    sizes = Sizes(planned_work(suite), measured_work(suite, suite.layout), elsewhere.get("work", {}))
    return Known(times_here(suite), elsewhere, sizes)


def times_here(suite: Suite) -> dict[str, list[float]]:
    """Seconds of a suite's finished jobs, by kind."""
    own = families(suite)
    return measured(suite.layout.benchmarks, own) | trainings(suite.layout, own)


def expected_seconds(suite: Suite) -> dict[str, float]:
    """Seconds of a suite's jobs by kind, from those measured here, else elsewhere; nothing of what is not known."""
    known = known_times(suite)
    jobs = [Job(kind.split(",")[0], kind, "known") for kind in {*known.own, *known.recorded}]
    rows = estimate(jobs, known.own, known.recorded, cores=1, sizes=known.sizes)
    return {row.kind: row.seconds for row in rows if row.seconds is not None}


def record(suite: str, own: Mapping[str, list[float]], gpus: int, work: Work) -> None:
    """Writes the medians of this machine into `recorded_times.yaml`, under the suite's name.

    `gpus` of a training, and how much `work` the jobs were.
    """
    machine = hardware()
    entry = {
        "machine": f"{machine['cpu']}, {machine['cores']} cores, {machine['gpu'] or 'no GPU'}",
        "commit": provenance.git_state()["git_commit"],
        "gpus": gpus,
        "seconds": {kind: round(statistics.median(times), 1) for kind, times in own.items()},
        "work": dict(work),
    }
    known = read_recorded() | {suite: entry}
    with atomic(RECORDED) as part:
        part.write_text(
            "# Seconds of one job, by suite and kind of job. Written by `python -m workflow.plan --record`.\n"
            + yaml.safe_dump(known, sort_keys=False)
        )


def read_recorded() -> dict[str, Any]:
    """The contents of `recorded_times.yaml`."""
    return yaml.safe_load(RECORDED.read_text(encoding="utf-8")) or {} if RECORDED.is_file() else {}
