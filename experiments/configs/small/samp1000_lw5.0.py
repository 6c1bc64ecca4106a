"""IoU-Net as published: SmoothL1 at weight 5, 1000 RoIs per image."""

_base_ = ["iounet.py"]
