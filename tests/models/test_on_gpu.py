"""The IoU branch on a GPU: what a CPU computes, and a refinement that never waits for the device.

What needs no GPU runs on the CPU as well, so that a machine without one tests the tests. `make gpu-check` runs all.
"""

import pytest
import torch

from iounet.models import Detections
from iounet.models.detections import suppress
from tests.models.tiny import build, detector_config

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=NO_GPU)]
REFINE = {"pre_refine": 100, "t": 5, "omega_1": 0.001, "omega_2": -0.01, "lamb": 20.0, "use_iou_score": True}


class Scene:
    """A detector on a device, and what its IoU branch makes of three images, in double precision."""

    @torch.no_grad()
    def __init__(self, device, batch, proposals):
        detector = build(detector_config()).double()
        self.x = [level.to(device) for level in detector.extract_feat(batch["img"].double())]
        self.head = detector.to(device).roi_head
        self.metas, self.proposals = batch["img_metas"], [own.double().to(device) for own in proposals]
        self.candidates = self.head.candidates(self.x, self.proposals, self.metas)
        self.predicted = self.head.score(self.x, self.candidates)

    def found(self):
        """Boxes of all images after guided NMS, and the image of each."""
        found, rows = suppress(self.candidates, self.predicted.ious)
        return found, self.candidates.image_index[rows]


@pytest.mark.parametrize("device", DEVICES)
@torch.no_grad()
def test_every_stage_gives_what_the_cpu_gives(device, batch, proposals):
    scene, expected = (Scene(where, batch, proposals) for where in (device, "cpu"))
    assert scene.predicted.ious.device.type == device
    torch.testing.assert_close(scene.predicted.ious.cpu(), expected.predicted.ious, rtol=0, atol=1e-9)
    own, other = (one.head.select(one.x, one.candidates, one.predicted, refine=REFINE) for one in (scene, expected))
    assert sum(len(image.boxes) for image in other) > 20
    for image, found in zip(other, own, strict=True):
        for values, others in zip(found, image, strict=True):
            torch.testing.assert_close(values.cpu(), others, rtol=0, atol=1e-7)


@NO_GPU
@torch.no_grad()
def test_refinement_waits_for_nothing_and_is_captured_in_a_cuda_graph(batch, proposals):
    """Replayed with other boxes, the graph gives what the calls one by one give."""
    scene = Scene("cuda", batch, proposals)
    found, image_index = scene.found()
    boxes = found.boxes.clone()
    moved = boxes + torch.tensor([1.0, -1.0, 2.0, 0.5], device="cuda", dtype=boxes.dtype)
    static = Detections(boxes, *found[1:])

    def refine():
        refined, _ = scene.head.move(scene.x, static, image_index, pre_refine=len(boxes), lamb=20.0)
        return refined.boxes, refined.ious

    boxes.copy_(moved)
    expected = [value.clone() for value in refine()]
    boxes.copy_(found.boxes)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda.set_sync_debug_mode("error")
        try:
            refine()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = refine()
    boxes.copy_(moved)
    graph.replay()
    for ours, theirs in zip(captured, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7)
