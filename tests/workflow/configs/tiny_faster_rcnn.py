"""The baseline of the tests: two epochs on a handful of images."""

_base_ = ["../../../experiments/configs/shapes/faster_rcnn.py"]
data = dict(samples_per_gpu=8)
runner = dict(max_epochs=2)
log_interval = 1
