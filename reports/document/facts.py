"""Lines about the results: scale, machine, versions, seeds, statistics, notes on the published figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from reports.errors import MissingResult
from reports.results.annotations import read_annotations
from reports.results.collect import Results
from reports.results.files import SHORT, need, read_json
from reports.results.published import Published, is_published
from reports.statistics import LEVEL, RESAMPLES
from reports.tables.table import format_duration, plural
from suite.errors import NotInSuite


def scale_statement(results: Results, published: Mapping[str, Published]) -> str:
    """The report's first lines: on what these numbers stand, and how to read them."""
    epochs = sorted({row["epochs"] for row in results.runs["data"]}) if not results.runs.empty else []
    trained = f" trained for {_join(map(str, [*epochs[:-1], plural(epochs[-1], 'epoch')]))}" if epochs else ""
    if results.dataset is None:
        return (
            f"**Scale.** Suite `{results.suite.name}`{trained}, reported on split `{results.suite.report_split}`. "
            "Baselines differ between implementations: compare the improvements, not the APs."
        )
    path = results.layout.data.manifest
    splits = need(results.dataset, "splits", path)
    if not results.is_generated:
        classes = len(need(results.dataset, "categories", path))
        return _folder_statement(results, trained, classes, is_published(results.download, published))
    sizes = [
        f"{splits[key]['images']} images in `{key}`" for key in splits if key in ("train", results.suite.report_split)
    ]
    classes = len(need(results.dataset, "categories", path))
    return (
        f"**Scale.** This is a miniature, not COCO: a small network{trained} on generated images"
        f"{_image_size(results)} of {classes} classes ({', '.join(sizes)}), "
        f"reported on `{results.suite.report_split}`. "
        "Its APs have nothing to do with published ones. **Compare the improvements, not the APs.**"
    )


def _folder_statement(results: Results, trained: str, classes: int, of_the_publications: bool) -> str:
    splits, split = results.dataset["splits"], results.suite.report_split  # type: ignore[index]
    seen = {} if results.runs.empty else {row["trained_on"]["split"]: row["trained_on"] for row in results.runs["data"]}
    learnt = _join(f"{splits[key]['images']} images of `{key}`" for key in seen)
    compare = (
        "These are the images of the publications, but baselines differ between implementations: "
        if of_the_publications
        else "These are not the images of the publications: "
    )
    return (
        f"**Scale.** {classes} classes;{trained}{f' on {learnt}' if learnt else ''}, reported on the "
        f"{splits[split]['images']} images of `{split}`. {compare}**compare the improvements, not the APs.**"
    )


def image_notes(splits: Mapping[str, Any]) -> list[str]:
    """What the check of a folder found among the images of each split, and who looks at the results should know."""
    lines = []
    for name, split in splits.items():
        if skipped := split.get("skipped"):
            named = _join(f"`{image}` ({why})" for image, why in skipped.items())
            lines.append(f"**Left out of split `{name}`** (`on_damaged: skip`): {named}.")
        if turned := split.get("turned"):
            lines.append(
                f"**Turned by their EXIF entry, and read so:** {len(turned)} images of split `{name}`, the first "
                f"`{turned[0]}`."
            )
        if without_end := split.get("without_end"):
            lines.append(
                f"**Files without their end, whole otherwise:** {len(without_end)} of split `{name}`, the first "
                f"`{without_end[0]}`."
            )
    return lines


def _image_size(results: Results) -> str:
    try:
        images = read_annotations(results)["images"]
    except NotInSuite:
        return ""
    sizes = {(image["width"], image["height"]) for image in images}
    return f" of {'{}×{}'.format(*sizes.pop())} pixels" if len(sizes) == 1 else ""


def _join(items: Iterable[str]) -> str:
    return ", ".join(items)


def statistics_notes(results: Results) -> list[str]:
    """How means and intervals are made."""
    seeds = results.suite.seeds
    lines = [
        "AP is COCO's: the mean over IoU thresholds 0.50 to 0.95, 101 recall points, at most 100 detections per image. "
        "AP50 to AP90 are at one threshold. Everything is shown × 100, in points."
    ]
    if len(seeds) > 1:
        lines.append(
            f"Figures of this run are means over {len(seeds)} trainings (seeds {_join(map(str, seeds))}); ± of a "
            f"figure is half of its {100 * LEVEL:.0f} % t interval over them."
        )
        images = (
            f", plus what the choice of images does to different trainings alike: their covariance over {RESAMPLES} "
            f"resamples of the images of `{results.suite.report_split}`"
        )
        lines.append(
            "A difference has one interval, wherever it is shown. Its variance is that of its trainings' mean, which "
            "already holds what the images do to each training alone"
            + (images if results.resamples else "; the choice of images is not covered")
            + ". Trainings are not paired by seed, settings of one checkpoint are. A variance over so few trainings is "
            "drawn a little to the mean of the variants' variances, which gives it a degree of freedom more; degrees "
            "of freedom after Satterthwaite. `python -m reports.coverage` shows what such intervals cover."
        )
    else:
        lines.append(
            f"Figures of this run are of one training each (seed {seeds[0]}): there are no intervals over trainings, "
            "and differences between trainings may be chance. Nothing is decided."
        )
    lines.append(
        "Links in the column *files* lead to the evaluation files, one per seed; *a* − *b* are the two sides of a "
        "difference. [provenance.json](provenance.json) traces each cell to evaluation file, checkpoint, config, "
        "commit, seed and W&B run."
    )
    return lines


def uses_adam(results: Results) -> bool:
    """Whether a run was trained with Adam or AdamW, whose steps do not grow with a loss's weight."""
    return not results.runs.empty and any(
        str(run.get("optimizer", "")).startswith("Adam") for run in results.runs["data"]
    )


def untrained_notes(results: Results) -> list[str]:
    """The models that belong to the suite but were not trained, and why."""
    return [f"**{entry.label}** (`{entry.config}`): {entry.reason}." for entry in results.suite.untrained.values()]


def stale_notes(results: Results) -> list[str]:
    """The evaluations that are out of date, and why."""
    frames = [frame for frame in (results.evaluations, results.diagnostics, results.speeds) if not frame.empty]
    stale = [row for frame in frames for row in frame[frame["stale"] != ""].to_dict("records")]
    return [f"`{row['source']}`: {row['stale']}." for row in stale]


def reproducibility(results: Results) -> list[str]:
    """Machine, versions, commit, seeds and wall time, from the runs."""
    if results.runs.empty:
        return ["No run was read."]
    runs: list[dict[str, Any]] = list(results.runs["data"])
    seconds = sum(run["wall_time_s"] for run in runs)
    # an evaluation file holds the seconds of the job that wrote it with all other settings of its checkpoint
    jobs = results.evaluations
    evaluated = 0.0 if jobs.empty else float(jobs.groupby(["variant", "seed"])["seconds"].max().sum())
    lines = [f"**Seeds:** {_join(map(str, results.suite.seeds))}."]
    lines += [f"**Machine:** {text}." for text in _distinct(_machine(run["hardware"]) for run in runs)]
    lines += [f"**Versions:** {text}." for text in _distinct(_versions(run["versions"]) for run in runs)]
    lines.append(f"**Commit:** {_join(_distinct(_commit(run) for run in runs))}.")
    lines.append(
        f"**Time:** {len(runs)} trainings, {format_duration(seconds)} of wall time added up (jobs may have run side by "
        f"side){_pretraining_time(results)}"
        + (f"; evaluations on `{results.suite.report_split}` {format_duration(evaluated)}." if evaluated else ".")
    )
    if results.dataset is not None:
        kind = "generator" if results.is_generated else "format"
        fingerprint = results.dataset["fingerprint"][:SHORT]
        lines.append(f"**Data:** {kind} `{results.dataset.get(kind)}`, fingerprint `{fingerprint}`.")
        lines += image_notes(results.dataset["splits"])
    pretrained = _distinct(str(run["inputs"].get("pretraining_sha256") or "") for run in runs)
    if any(pretrained):
        text = _join(f"`{sha[:SHORT]}`" for sha in pretrained if sha)
        same = (
            "All variants start from one checkpoint" if len(pretrained) == 1 else "**Different starting checkpoints**"
        )
        lines.append(f"**Pretraining:** {same}, {text}.")
    rates = _distinct(f"{run['mapped']['lr']['actual']:g}" for run in runs if "lr" in run["mapped"])
    if rates:
        lines.append(f"**Learning rate**, scaled to the images of a batch: {_join(rates)}.")
    scale = {key: value for key, value in dataclasses.asdict(results.suite.scale).items() if value != 1}
    if scale:
        mapped = _join(f"{key} × {value:g}" for key, value in scale.items())
        lines.append(f"**Scale of published settings:** {mapped}; the same for every variant.")
    return lines


def _pretraining_time(results: Results) -> str:
    path = results.layout.pretraining.run
    try:
        return f"; the pretraining before them {format_duration(need(read_json(path), 'wall_time_s', path))}"
    except MissingResult:
        return ""


def _distinct(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _machine(hardware: Mapping[str, Any]) -> str:
    parts = [str(hardware.get("cpu") or "unknown processor")]
    if hardware.get("cores"):
        parts.append(f"{hardware['cores']} cores")
    if hardware.get("threads"):
        parts.append(f"{hardware['threads']} thread{'s' if hardware['threads'] != 1 else ''} per job")
    parts.append(str(hardware.get("gpu") or "no GPU"))
    if hardware.get("memory_gib"):
        parts.append(f"{hardware['memory_gib']:g} GiB")
    return _join(parts)


def _versions(versions: Mapping[str, str]) -> str:
    return _join(f"{name} {version}" for name, version in versions.items())


def _commit(run: Mapping[str, Any]) -> str:
    commit = f"`{run['git_commit'][:SHORT]}`" if run["git_commit"] else "unknown"
    return commit + (" with uncommitted changes" if run["git_dirty"] else "")


def published_notes(published: Mapping[str, Published]) -> list[str]:
    """Where the published figures come from, and what does not fit together in them."""
    lines = []
    for source in published.values():
        info = source.data["source"]
        lines.append(f"**{info['name']}:** [{info['citation']}]({info['url']}). {info['note']}")
    return lines + [note for source in published.values() for note in source.data.get("discrepancies", [])]
