"""What was measured of RoI poolings: errors and times in one file, and a checkpoint's evaluations with each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from reports.errors import MissingResult, ReportError
from reports.results.collect import Results
from reports.results.files import SHORT, check_dataset, check_place, need, need_all, read_json
from reports.results.readers import Place, mark_stale_evaluations
from reports.results.sides import IOUNET, Side, swapped_name
from reports.results.source import Source
from reports.statistics import Estimate, mean_interval

EXACT, ADAPTIVE = "prroi", 0  # Precise RoI Pooling's name in the file; samples that follow the size of a bin
BORDER, OWN = "border", "own"  # rows of the file that are no range of sizes
KEYS = (
    *("seeds", "settings", "samples", "checkpoints", "git_commit", "values", "gradients", "jumps", "existing", "times"),
    *("measured.rows", "measured.images", "measured.factors", "measured.shift", "measured.jump", "measured.low"),
    *("measured.convention_samples", "hardware.cpu", "versions.torch", "versions.torchvision", "threads"),
)


@dataclass(frozen=True)
class MeasuredPooling:
    """The file of `python -m experiments pooling`.

    Attributes:
        data: its contents.
        source: its path below the results folder.
        sides: the settings that were evaluated with each pooling, as sides without one.
        stale: why it is out of date; '' when it is not.
    """

    data: Mapping[str, Any]
    source: str
    sides: Sequence[Side]
    stale: str = ""

    @property
    def poolings(self) -> list[str]:
        """RoIAlign with each number of samples, rising; the adaptive number last."""
        samples = self.data["samples"]
        return sorted(samples, key=lambda pooling: (samples[pooling] == ADAPTIVE, samples[pooling]))

    @property
    def numbered(self) -> list[str]:
        """Those with a number of samples."""
        return [pooling for pooling in self.poolings if self.data["samples"][pooling] != ADAPTIVE]

    @property
    def rows(self) -> list[str]:
        """Classes of boxes by the size of their bins in cells, `BORDER` and `OWN`."""
        return list(self.data["measured"]["rows"])

    @property
    def classes(self) -> list[str]:
        """The rows that are a range of sizes and have boxes in each seed."""
        return [row for row in self.rows if row not in (BORDER, OWN) and self.has(row)]

    def has(self, row: str) -> bool:
        """Whether there are boxes of a row in each seed, of those whose values were compared and of those moved."""
        number = self.rows.index(row)
        return all(own["rois"][number] for part in ("values", "gradients") for own in self.data[part])

    def label(self, pooling: str) -> str:
        """What tables call a pooling."""
        if pooling == EXACT:
            return "PrRoIPool"
        samples = self.data["samples"][pooling]
        return "RoIAlign, adaptive" if samples == ADAPTIVE else f"RoIAlign, {samples} × {samples}"

    def row_label(self, row: str) -> str:
        """What tables call a row."""
        return {BORDER: "at the map's border", OWN: "the detector's own"}.get(row, f"{row} cells")

    def per_seed(self, part: str, *keys: str, row: str | None = None) -> list[float]:
        """A number of each seed: below `part`, at these keys, of a row if it has rows."""
        values = []
        for own in self.data[part]:
            for key in keys:
                own = own[key]
            values.append(own if row is None else own[self.rows.index(row)])
        return [float("nan") if value is None else float(value) for value in values]

    def mean(self, part: str, *keys: str, row: str | None = None) -> Estimate:
        """Its mean over the seeds."""
        return mean_interval(self.per_seed(part, *keys, row=row))

    def origin(self, part: str, *keys: str) -> Source:
        """Where `per_seed` finds its numbers."""
        return Source.of_pooling(self.source, ".".join((part, "*", *keys)))


def setting_label(side: Side) -> str:
    """A setting as a column: what is done beyond R-CNN."""
    if side.guide is None:
        return "branch off"
    return "guided NMS" if side.step_size is None else f"refined, λ = {side.step_size:g}"


def with_poolings(results: Results) -> tuple[Results, MeasuredPooling]:
    """Results with the evaluations of each pooling, as settings of their own (`sides.swapped_name`); and the file.

    Raises:
        NotInSuite: the suite has no IoU-Net.
        MissingResult: something was not measured or evaluated; the message says how it is.
        ReportError: a file is damaged or belongs elsewhere.
    """
    suite, layout = results.suite, results.layout
    variant, path = suite.standing_for(IOUNET), layout.measured_pooling
    if not path.exists():
        raise MissingResult(f"{path}: no such file; run `python -m experiments pooling`, or `snakemake pooling`")
    data = read_json(path)
    check_place(data, path, {"suite": suite.name, "variant": variant, "split": suite.report_split})
    need_all(data, KEYS, path)
    if need(data, "seeds", path) != list(suite.seeds):
        raise ReportError(
            f"{path}: key 'seeds' is {data['seeds']}, those of the suite are {list(suite.seeds)}; run "
            "`python -m experiments pooling` again"
        )
    check_dataset(
        data, path, "dataset_fingerprint", None if results.dataset is None else results.dataset["fingerprint"]
    )
    settings = {setting.name: setting for setting in suite.settings(variant)}
    if unknown := [name for name in data["settings"] if name not in settings]:
        raise ReportError(
            f"{path}: key 'settings' has '{unknown[0]}', which the suite does not evaluate; run "
            "`python -m experiments pooling` again"
        )
    chosen = [settings[name] for name in data["settings"]]
    place = Place(suite, layout, results.dataset)
    runs: list[Any] = results.runs.to_dict("records")
    rows: list[dict[str, Any]] = []
    for pooling in data["samples"]:
        own = []
        for seed in suite.seeds:
            results.run(variant, seed)  # an error that says so where it is missing
            folder = layout.swapped(pooling, seed, suite.report_split)
            for setting in chosen:
                row = place.evaluation(variant, seed, setting, folder)
                if row is None:
                    raise MissingResult(
                        f"{folder.setting(setting.name)}: no such file; run `python -m experiments swap --pooling "
                        f"{pooling} --seed {seed}`, or `snakemake pooling`"
                    )
                own.append(row)
        mark_stale_evaluations(runs, own)
        rows += [{**row, "setting": swapped_name(row["setting"], pooling)} for row in own]
    evaluations = pd.concat([results.evaluations, pd.DataFrame(rows)], ignore_index=True)
    sides = [
        Side(IOUNET, setting.guide, None if setting.step_size is None else setting.step_size.published)
        for setting in chosen
    ]
    measured = MeasuredPooling(data, layout.relative(path), sides, _stale(results, variant, data))
    return replace(results, evaluations=evaluations), measured


def _stale(results: Results, variant: str, data: Mapping[str, Any]) -> str:
    """Why the file does not go with the runs there are."""
    reasons = []
    for seed in results.suite.seeds:
        found, there = (
            data["checkpoints"][str(seed)]["sha256"],
            results.run(variant, seed)["data"]["checkpoint"]["sha256"],
        )
        if found != there:
            reasons.append(f"seed {seed} measured with checkpoint {found[:SHORT]}…, the run has {there[:SHORT]}…")
    return "; ".join(reasons)
