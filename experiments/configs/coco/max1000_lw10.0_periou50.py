"""IoU-Net, SmoothL1 at weight 10, 50 RoIs per IoU bin and ground truth, at most 1000 per image."""

_base_ = ["max1000_lw5.0_periou50.py"]
model = dict(roi_head=dict(iou_head=dict(loss_iou=dict(loss_weight=10.0))))
