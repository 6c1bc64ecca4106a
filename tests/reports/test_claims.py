"""Claims as data: claims.yaml, and what is said of a bad one."""

import pytest

from reports.claims import claims_digest, load_claims
from reports.errors import ReportError
from reports.results.published import load_published

ENTRY = {
    "id": "x",
    "kind": "difference",
    "text": "t",
    "short": "s",
    "metric": "AP",
    "expected": "'+'",
    "left": "{variant: a}",
    "right": "{variant: b}",
    "published": "{}",
}


def write(path, **changes):
    rows = {key: value for key, value in (ENTRY | changes).items() if value is not None}
    path.write_text("claims: [{" + ", ".join(f"{key}: {value}" for key, value in rows.items()) + "}]")
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expected": "up"}, r"claims.yaml: claim x: 'expected' must be '\+' or '-', found 'up'"),
        ({"kind": "better"}, r"claims.yaml: claim x: 'kind' must be one of difference, each, .*, found 'better'"),
        ({"kind": None}, r"claims.yaml: claim x: 'kind' must be one of .*, found None"),
        ({"text": None}, r"claims.yaml: claim x: 'text'"),
        ({"left": "{guide: rank}"}, r"claims.yaml: claim x: .*variant"),
        ({"kind": "similar", "pairs": "[]"}, r"claims.yaml: claim x: 'margin'"),
    ],
)
def test_a_bad_claim_is_named(tmp_path, changes, message):
    with pytest.raises(ReportError, match=message):
        load_claims(write(tmp_path / "claims.yaml", **changes))


def test_the_projects_own_claims_have_every_published_value():
    published = load_published()
    claims = load_claims()
    assert len({claim.id for claim in claims}) == len(claims)
    for claim in claims:
        for key, cells in claim.published.items():
            assert len(cells) == max(1, len(claim.pairs)), claim.id
            for above, below in cells:
                values = published[key].lookup(above), published[key].lookup(below)
                assert None not in values, (claim.id, above, below)
                if claim.kind == "difference":
                    assert (values[0] - values[1]) * claim.sign > 0, claim.id
    assert [claim.id for claim in claims if not claim.is_published] == ["refine_ap90"]


def test_a_claim_about_four_experiments_has_every_pair():
    [optimum] = [claim for claim in load_claims() if claim.id == "step_size_optimum"]
    assert len(optimum.pairs) == 12
    assert {right.step_size for _, right in optimum.pairs} == {0.5, 1, 3}
    assert {left.step_size for left, _ in optimum.pairs} == {2}
    left, right = optimum.pairs[4]
    assert left.variant == right.variant == "max1000_lw5.0_periou30"
    assert optimum.published["reproduction"][4] == (
        "lambda/max1000_lw5.0_periou30/2",
        "lambda/max1000_lw5.0_periou30/1",
    )


def test_what_is_registered_of_a_claim_is_what_decides_it(tmp_path):
    registered = claims_digest(write(tmp_path / "claims.yaml"))
    assert claims_digest(write(tmp_path / "claims.yaml", text="other", short="words", note="n")) == registered
    for change in ({"expected": "'-'"}, {"metric": "AP50"}, {"margin": 0.1}, {"left": "{variant: c}"}):
        assert claims_digest(write(tmp_path / "claims.yaml", **change)) != registered
