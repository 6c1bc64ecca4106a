"""IoU-Net, SmoothL1 at weight 5, 30 RoIs per IoU bin and ground truth, at most 1000 per image."""

_base_ = ["iounet.py"]
model = dict(roi_head=dict(roi_generator=dict(per_iou=30, sample_num=None)))
