"""Verdicts on the claims: the test of each kind, and what the family of all published claims makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reports.claims import LEAST_TOLERANCE, Claim
from reports.comparison import difference, mean_difference
from reports.results.blank import blank_variants
from reports.results.collect import Results
from reports.results.files import need
from reports.results.published import Published
from reports.results.sides import POINTS
from reports.results.source import Source
from reports.results.speeds import require_timed
from reports.statistics import LEVEL, Interval, Power, Term, estimate, holm
from suite.errors import NotInSuite

REPRODUCED, CONTRADICTED, INCONCLUSIVE = "reproduced", "contradicted", "inconclusive"
SMALLER, WITHIN, LARGER = "smaller here", "within reach", "larger here"  # an effect beside the published one


@dataclass(frozen=True)
class Effect:
    """One effect that a claim is about: a difference in points, a logarithm of a ratio, or one of correlations.

    Attributes:
        label: what it compares, where a claim has several.
        published: what each source reports, in the same unit.
    """

    label: str
    interval: Interval
    published: Mapping[str, float]
    sources: tuple[Source, ...]
    published_sources: Mapping[str, tuple[Source, ...]]
    stale: bool = False

    @property
    def reference(self) -> float | None:
        """The published effect that this one is set beside: the reproduction's, else the paper's."""
        return self.published.get("reproduction", self.published.get("paper"))

    @property
    def reference_sources(self) -> tuple[Source, ...]:
        """Where `reference` was printed."""
        return self.published_sources.get("reproduction", self.published_sources.get("paper", ()))


@dataclass(frozen=True)
class Verdict:
    """A claim judged on a run.

    Attributes:
        effects: one, or, of the kinds `each` and `similar`, all that must hold together.
        verdict: by a test at 5 % of this claim alone.
        p: of that test, two-sided; 1 where nothing can be decided.
        in_family: the verdict at 5 % over all published claims together (Holm); None for a claim that is not published.
        equivalent: whether the interval reaches the published effect ± a tolerance; '' without a published effect.
    """

    claim: Claim
    effects: tuple[Effect, ...]
    verdict: str
    p: float
    in_family: str | None = None
    equivalent: str = ""

    @property
    def effect(self) -> Effect:
        """The effect that speaks for the claim: of several, the one that supports it least."""
        return min(self.effects, key=lambda effect: _support(self.claim, effect.interval))

    @property
    def interval(self) -> Interval:
        """Of `effect`."""
        return self.effect.interval

    @property
    def published(self) -> Mapping[str, float]:
        """Of `effect`."""
        return self.effect.published

    @property
    def sources(self) -> tuple[Source, ...]:
        """The files behind all effects, each once."""
        return tuple(dict.fromkeys(source for effect in self.effects for source in effect.sources))

    @property
    def stale(self) -> bool:
        """Whether a result behind it is out of date."""
        return any(effect.stale for effect in self.effects)

    def record(self) -> dict[str, Any]:
        """The verdict as plain data: what `verdicts.json` holds."""
        interval = self.interval
        return {
            "id": self.claim.id,
            "kind": self.claim.kind,
            "claim": self.claim.text,
            "metric": self.claim.metric,
            "expected": self.claim.expected,
            "margin": self.claim.margin,
            "difference": interval.mean,
            "interval": list(interval.bounds) if interval.bounds else None,
            "covers": interval.covers,
            "degrees": interval.degrees if math.isfinite(interval.degrees) else None,
            "seeds": interval.n,
            "p": self.p,
            "effects": [
                {"label": e.label, "difference": e.interval.mean, "interval": e.interval.bounds} for e in self.effects
            ],
            "published": dict(self.published),
            "verdict": self.verdict,
            "in_family": self.in_family,
            "equivalent": self.equivalent,
            "stale": self.stale,
        }


def judge_claims(
    results: Results, published: Mapping[str, Published], claims: Sequence[Claim]
) -> tuple[list[Verdict], list[tuple[Claim, str]]]:
    """Judge the claims a suite can test.

    Returns:
        The verdicts, and the claims left out with the reason.
    """
    verdicts, left_out = [], []
    blank = blank_variants(results)
    for claim in claims:
        try:
            results.suite.require(*claim.variants)
            if nothing := [v for v in map(results.suite.standing_for, claim.variants) if v in blank]:
                raise NotInSuite(f"{' and '.join(nothing)} found nothing, AP is 0")
            effects = _EFFECTS[claim.kind](results, published, claim)
        except NotInSuite as reason:
            left_out.append((claim, str(reason)))
            continue
        verdict, p = judge(claim, [effect.interval for effect in effects])
        own = Verdict(claim, tuple(effects), verdict, p)
        verdicts.append(replace(own, equivalent=equivalence(claim, own.effect)))
    return _in_family(verdicts), left_out


def judge(claim: Claim, intervals: Sequence[Interval]) -> tuple[str, float]:
    """Verdict and two-sided p value.

    A claim about several effects holds when each of them does (intersection-union test: no correction), and is
    contradicted when one of them fails beyond chance (Bonferroni over the effects).
    """
    if claim.kind == "similar":
        holds = [max(i.p_above(-claim.margin), i.p_below(claim.margin)) for i in intervals]
        fails = [min(i.p_above(claim.margin), i.p_below(-claim.margin)) for i in intervals]
    else:
        directed = [interval if claim.sign > 0 else interval.negative for interval in intervals]
        holds = [i.p_above(-claim.margin) for i in directed]
        fails = [i.p_below(-claim.margin) for i in directed]
    supports = min(1.0, 2 * max(holds))
    opposes = min(1.0, 2 * len(fails) * min(fails))
    p = min(supports, opposes)
    return _verdict(supports, opposes, p), p


def _verdict(supports: float, opposes: float, p: float) -> str:
    if p >= 1 - LEVEL:
        return INCONCLUSIVE
    return REPRODUCED if supports <= opposes else CONTRADICTED


def _in_family(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts with those of the family of published claims beside them."""
    family = [verdict for verdict in verdicts if verdict.claim.is_published]
    adjusted = dict(zip([v.claim.id for v in family], holm([v.p for v in family]), strict=True)) if family else {}
    return [
        replace(v, in_family=v.verdict if adjusted[v.claim.id] < 1 - LEVEL else INCONCLUSIVE)
        if v.claim.id in adjusted
        else v
        for v in verdicts
    ]


def tolerance(published: float) -> float:
    """How far from a published effect one still counts as the same: half of it, at least 0.2 points."""
    return max(LEAST_TOLERANCE, abs(published) / 2)


def equivalence(claim: Claim, effect: Effect) -> str:
    """Whether the interval reaches the published effect ± `tolerance`: of the reproduction, else of the paper."""
    wanted = effect.reference
    bounds = effect.interval.bounds
    if wanted is None or bounds is None or not effect.interval.decides or claim.kind not in ("difference", "each"):
        return ""
    margin = tolerance(wanted)
    low, high = (bound * claim.sign for bound in (bounds if claim.sign > 0 else bounds[::-1]))
    if high < wanted * claim.sign - margin:
        return SMALLER
    return LARGER if low > wanted * claim.sign + margin else WITHIN


def power_of(verdict: Verdict) -> Power | None:
    """What deciding an effect of the published size would take; None where that is no question."""
    wanted = verdict.effect.reference
    if verdict.claim.kind != "difference" or not wanted or not verdict.interval.decides:
        return None
    return Power(verdict.interval, wanted)


def _support(claim: Claim, interval: Interval) -> float:
    """How far an effect is from failing the claim, in its standard errors where it has any."""
    if claim.kind == "similar":
        distance = claim.margin - abs(interval.mean)
    else:
        distance = claim.sign * interval.mean + claim.margin
    return distance / interval.error if interval.error else distance


# --- the effects of each kind ---------------------------------------------------------------------------------


def _difference_effects(results: Results, published: Mapping[str, Published], claim: Claim) -> list[Effect]:
    interval = mean_difference(results, claim.pairs, claim.metric)
    known, sources = _published_effects(published, claim, range(len(claim.pairs)))
    sides = [side for pair in claim.pairs for side in pair]
    own = tuple(source for side in sides for source in side.sources(results, claim.metric))
    stale = any(side.is_stale(results) for side in sides)
    return [Effect("", interval, known, own, sources, stale)]


def _pair_effects(results: Results, published: Mapping[str, Published], claim: Claim) -> list[Effect]:
    effects = []
    for index, (left, right) in enumerate(claim.pairs):
        known, sources = _published_effects(published, claim, [index])
        own = left.sources(results, claim.metric) + right.sources(results, claim.metric)
        stale = left.is_stale(results) or right.is_stale(results)
        interval = difference(results, left, right, claim.metric)
        effects.append(Effect(f"{left.label} − {right.label}", interval, known, own, sources, stale))
    return effects


def _ratio_effects(results: Results, published: Mapping[str, Published], claim: Claim) -> list[Effect]:
    """The logarithm of the ratio of two rows' times: mean over rounds in which both saw the same images."""
    require_timed(results)
    timed = results.speeds.to_dict("records")[0]
    path = results.root / timed["source"]
    block = need(timed["data"], "blocks", path)[0]["rows"]
    left, right = claim.rows
    if left not in block or right not in block:
        raise NotInSuite(f"{left} or {right} was not timed")
    found = need(block[left], "times", path)
    if found["to"] != right:
        raise NotInSuite(f"{left} was timed against {found['to']}, not against {right}")
    rounds = int(found["rounds"])
    error = float(found["log_sd"]) / math.sqrt(rounds)
    interval = Interval(float(found["log_mean"]), rounds, error, rounds - 1, trainings=error, over="rounds")
    known, sources = _published_effects(published, claim, [0])
    own = (Source.of_speed(timed, f"blocks.0.rows.{left}.times"),)
    return [Effect("", interval, known, own, sources, bool(timed["stale"]))]


def _correlation_effects(results: Results, published: Mapping[str, Published], claim: Claim) -> list[Effect]:
    """Pearson's correlation of one confidence minus that of another, of each training."""
    own_name = results.suite.standing_for(claim.variant)
    values: dict[str, list[float]] = {}
    rows = results.diagnostics.to_dict("records") if len(results.diagnostics) else []
    for row in rows:
        block = row["data"].get(claim.population, {})
        pair = [block.get(name, {}).get("pearson") for name in claim.rows]
        if None not in pair:
            values.setdefault(row["variant"], []).append(pair[0] - pair[1])
    if own_name not in values:
        raise NotInSuite(f"no diagnostics of {own_name} with {claim.population}")
    own = [row for row in rows if row["variant"] == own_name]
    peers = [np.array(found) for variant, found in values.items() if variant != own_name]
    interval = estimate([Term(np.array(values[own_name]), peers=peers)])
    known, published_sources = _published_effects(published, claim, [0])
    sources = tuple(
        Source.of_diagnostics(row, f"{claim.population}.{name}.pearson") for row in own for name in claim.rows
    )
    return [Effect("", interval, known, sources, published_sources, any(row["stale"] for row in own))]


_EFFECTS = {
    "difference": _difference_effects,
    "each": _pair_effects,
    "similar": _pair_effects,
    "ratio": _ratio_effects,
    "correlation": _correlation_effects,
}


def _published_effects(
    published: Mapping[str, Published], claim: Claim, indices: Sequence[int]
) -> tuple[dict[str, float], dict[str, tuple[Source, ...]]]:
    """What each source that prints them all reports of some of a claim's pairs, on average, and where."""
    known, sources = {}, {}
    for key, cells in claim.published.items():
        source, chosen = published[key], [cells[index] for index in indices]
        values = [(source.lookup(above), source.lookup(below)) for above, below in chosen]
        effects = [_effect(claim, chosen[0][0], *pair) for pair in values if None not in pair]  # type: ignore[arg-type]
        if len(effects) == len(values):
            known[key] = round(sum(effects) / len(effects), 6)
            sources[key] = tuple(source.source(*path.split("/")) for pair in chosen for path in pair)
    return known, sources


def _effect(claim: Claim, path: str, above: float, below: float) -> float:
    if claim.kind == "ratio":
        return math.log(above / below)
    return (above - below) * (POINTS if path.startswith("speed/") else 1.0)  # the speed table prints AP as a fraction
