"""What Snakemake would run and how long it would take: `python -m workflow.plan [TARGET…] [--configfile S]`.

Times come from the results folder where it has any, else from `recorded_times.yaml`, which `--record` writes from a
finished run. Those of trainings are their own, kills and all, and without the wait for a GPU; those of other jobs are
Snakemake's benchmarks.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import re
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from experiments.runtime import hardware
from suite import provenance
from suite.errors import SuiteError, exits_on_error
from suite.files import atomic, read_json
from suite.layout import Layout
from suite.suite import PRETRAINING, load_suite
from workflow.gpus import visible_gpus
from workflow.jobs import Jobs

TRAININGS = ("train", PRETRAINING)
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


@dataclass
class _Block:
    rule: str
    fields: dict[str, str] = field(default_factory=dict)


def parse_dry_run(text: str, families: Mapping[str, str]) -> list[Job]:
    """The jobs that `snakemake --dry-run` lists.

    Args:
        text: its output.
        families: variant to family; a rule with a `variant` wildcard is told apart by them.
    """
    blocks: list[_Block] = []
    for line in text.splitlines():
        if head := re.fullmatch(r"(?:local)?rule (\w+):", line):
            blocks.append(_Block(head[1]))
        elif blocks and (entry := re.fullmatch(r" {4}(\w+): (.*)", line)):
            blocks[-1].fields.setdefault(entry[1], entry[2])
    jobs = []
    for block in blocks:
        wildcards = _pairs(block.fields.get("wildcards", ""))
        resources = _pairs(block.fields.get("resources", ""))
        family = families.get(wildcards.get("variant", ""))
        jobs.append(
            Job(
                rule=block.rule,
                kind=f"{block.rule}, {family}" if family else block.rule,
                benchmark=block.fields.get("benchmark", ""),
                threads=int(block.fields.get("threads", 1)),
                gpus=int(resources.get("gpu", 0)),
            )
        )
    return jobs


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in text.split(", ") if "=" in pair)


def measured(benchmarks: Path, families: Mapping[str, str]) -> dict[str, list[float]]:
    """Seconds of the jobs in a benchmark folder, by kind; those that failed to record a time are left out."""
    found: dict[str, list[float]] = {}
    for path in sorted(benchmarks.glob("*.tsv")):
        variants = [variant for variant in families if f"_{variant}_seed" in path.stem]
        rule = path.stem.split("_" + variants[0])[0] if variants else re.sub(r"_?\d+$", "", path.stem)
        kind = f"{rule}, {families[variants[0]]}" if variants else rule
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
) -> list[PlannedJobs]:
    """Times by kind of job, in the order in which the jobs are listed.

    Args:
        jobs: from `parse_dry_run`.
        own: seconds measured here, by kind.
        recorded: seconds measured on another machine, by kind.
        cores: of this machine; jobs of one thread run side by side on them.
        gpus: of this machine; jobs that ask for GPUs run side by side as far as these last, one by one without any.
        recorded_gpus: that each training in `recorded` took; on more GPUs it takes as much less time.
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
        elif kind in recorded:
            seconds, source = recorded[kind], "recorded elsewhere"
            if same[0].gpus and same[0].rule in TRAININGS:
                seconds *= recorded_gpus / same[0].gpus
        at_once = cores // max(job.threads for job in same)
        if needed := max(job.gpus for job in same):
            at_once = min(at_once, gpus // needed)
        rows.append(PlannedJobs(kind, len(same), seconds, min(max(1, at_once), len(same)), needed, source))
    return rows


def render(rows: list[PlannedJobs], cores: int, gpus: int = 0) -> str:
    """The plan as text."""
    if not rows:
        return "nothing to run: every result is there and up to date"
    width = max(len(row.kind) for row in rows)
    lines = [f"{'what':<{width}}  jobs  each      side by side  together  from"]
    for row in rows:
        each, wall = (_duration(row.seconds), _duration(row.wall)) if row.seconds is not None else ("?", "?")
        lines.append(f"{row.kind:<{width}}  {row.jobs:>4}  {each:<8}  {row.at_once:>12}  {wall:<8}  {row.source}")
    total = sum(row.wall for row in rows)
    unknown = [row.kind for row in rows if row.seconds is None]
    least = "at least " if unknown else "about "
    machine = f"{cores} core{'s' * (cores != 1)}" + (f" and {gpus} GPU{'s' * (gpus != 1)}" if gpus else "")
    lines.append(f"all of it: {least}{_duration(total)} on {machine}")
    gpu_hours = sum((row.seconds or 0.0) * row.jobs * row.gpus for row in rows) / 3600
    if gpu_hours:
        lines.append(f"GPU-hours: {least}{gpu_hours:.0f}")
    if unknown:
        lines.append(f"not measured yet: {'; '.join(unknown)}")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def record(suite: str, own: Mapping[str, list[float]], gpus: int) -> None:
    """Writes the medians of this machine into `recorded_times.yaml`, under the suite's name; `gpus` of a training."""
    machine = hardware()
    entry = {
        "machine": f"{machine['cpu']}, {machine['cores']} cores, {machine['gpu'] or 'no GPU'}",
        "commit": provenance.git_state()["git_commit"],
        "gpus": gpus,
        "seconds": {kind: round(statistics.median(times), 1) for kind, times in own.items()},
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


@exits_on_error
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow.plan", description="What Snakemake would run, and how long it would take."
    )
    parser.add_argument("targets", nargs="*", help="targets of the workflow (default: all)")
    parser.add_argument("--configfile", default="experiments/shapes.yaml", help="suite YAML (default: %(default)s)")
    parser.add_argument("--cores", type=int, help="default: those of this machine")
    parser.add_argument("--record", action="store_true", help="write this machine's times to recorded_times.yaml")
    options = parser.parse_args(arguments)
    suite = load_suite(options.configfile)
    families = {name: entry.family for name, entry in suite.variants.items()}
    own = measured(suite.layout.benchmarks, families) | trainings(suite.layout, families)
    if options.record:
        if not own:
            raise SuiteError(f"{suite.layout.root} has no times to record: run the suite first")
        record(suite.name, own, suite.resources.gpus)
        return
    cores, gpus = options.cores or len(os.sched_getaffinity(0)), len(visible_gpus(os.environ))
    recorded = read_recorded().get(suite.name, {})
    jobs = parse_dry_run(_dry_run(options.targets, options.configfile, cores), families)
    seconds, trained_on = recorded.get("seconds", {}), max(1, recorded.get("gpus", 1))
    print(render(estimate(jobs, own, seconds, cores, gpus, trained_on), cores, gpus))
    all_jobs = Jobs(suite)
    for lacking in all_jobs.missing():
        print(f"not there yet: {lacking}")
    for odd in all_jobs.warnings():
        print(f"warning: {odd}")
    if recorded:
        print(f"recorded elsewhere: {recorded['machine']}")


def _dry_run(targets: Sequence[str], configfile: str, cores: int) -> str:
    """What `snakemake --dry-run` says. Raises `SuiteError` with it where that fails."""
    command = ["snakemake", *targets, "--dry-run", "--nocolor", "--cores", str(cores), "--configfile", configfile]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SuiteError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


if __name__ == "__main__":
    main()
