"""Names in Unicode's two forms are found; neither form is changed on disk."""

import unicodedata

import pytest

from experiments.data.names import Names, path_on_disk

NFC, NFD = (unicodedata.normalize(form, "süß é") for form in ("NFC", "NFD"))


def test_a_name_is_found_in_either_form_and_its_own_goes_first():
    assert Names([NFD]).find(NFC) == Names([NFD]).find(NFD) == NFD
    assert Names([NFC, NFD]).find(NFC) == NFC and Names([NFC, NFD]).find(NFD) == NFD
    assert Names([NFC]).find("suß e") is None


@pytest.mark.parametrize(("there", "asked"), [(NFC, NFD), (NFD, NFC)])
def test_a_path_is_found_part_by_part(tmp_path, there, asked):
    (tmp_path / there / "a" / there).mkdir(parents=True)
    assert path_on_disk(tmp_path / asked / "a" / asked) == tmp_path / there / "a" / there
    assert path_on_disk(tmp_path / there) == tmp_path / there
    for missing in (tmp_path / asked / "b", tmp_path / "none" / asked, tmp_path / asked / "a" / "b" / "c"):
        assert path_on_disk(missing) == missing, "as it was written, for the message"
