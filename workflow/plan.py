"""What Snakemake would run and how long it would take: `python -m workflow.plan [TARGET…] [--configfile S]`."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from suite.errors import SuiteError, exits_on_error
from suite.suite import load_suite
from workflow.gpus import visible_gpus
from workflow.jobs import Jobs
from workflow.times import Job, PlannedJobs, estimate, known_times, record, times_here
from workflow.work import families, measured_work


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
    together = least + _duration(total) if total or not unknown else "not known yet,"
    machine = f"{cores} core{'s' * (cores != 1)}" + (f" and {gpus} GPU{'s' * (gpus != 1)}" if gpus else "")
    lines.append(f"all of it: {together} on {machine}")
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
    if options.record:
        own = times_here(suite)
        if not own:
            raise SuiteError(f"{suite.layout.root} has no times to record: run the suite first")
        record(suite.name, own, suite.resources.gpus, measured_work(suite, suite.layout))
        return
    cores, gpus = options.cores or len(os.sched_getaffinity(0)), len(visible_gpus(os.environ))
    jobs = parse_dry_run(_dry_run(options.targets, options.configfile, cores), families(suite))
    known = known_times(suite)
    trained_on = max(1, known.elsewhere.get("gpus", 1))
    print(render(estimate(jobs, known.own, known.recorded, cores, gpus, trained_on, known.sizes), cores, gpus))
    all_jobs = Jobs(suite)
    for lacking in all_jobs.missing():
        print(f"not there yet: {lacking}")
    for odd in all_jobs.warnings():
        print(f"warning: {odd}")
    if known.elsewhere:
        print(f"recorded elsewhere: {known.elsewhere['machine']}")


def _dry_run(targets: Sequence[str], configfile: str, cores: int) -> str:
    """What `snakemake --dry-run` says. Raises `SuiteError` with it where that fails."""
    command = ["snakemake", *targets, "--dry-run", "--nocolor", "--cores", str(cores), "--configfile", configfile]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SuiteError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


if __name__ == "__main__":
    main()
