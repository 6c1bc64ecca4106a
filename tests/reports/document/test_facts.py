"""What the check of a folder found among its images stands in the report."""

from reports.document.facts import image_notes

NOTHING = {"skipped": {}, "turned": [], "without_end": []}


def test_images_that_were_left_out_turned_or_without_end_are_named():
    splits = {
        "train": {"skipped": {"a.jpg": "it is missing", "b.jpg": "it cannot be decoded"}, "turned": ["c.jpg", "d.jpg"]},
        "val": {**NOTHING, "without_end": ["e.jpg"]},
    }
    assert image_notes(splits) == [
        "**Left out of split `train`** (`on_damaged: skip`): `a.jpg` (it is missing), `b.jpg` (it cannot be decoded).",
        "**Turned by their EXIF entry, and read so:** 2 images of split `train`, the first `c.jpg`.",
        "**Files without their end, whole otherwise:** 1 of split `val`, the first `e.jpg`.",
    ]


def test_nothing_is_said_of_sound_images_and_of_older_results():
    assert image_notes({"train": NOTHING, "tune": {"images": 3}}) == []
