"""The second detector of the tests."""

_base_ = ["../../../experiments/configs/shapes/cascade_rcnn.py"]
data = dict(samples_per_gpu=8)
runner = dict(max_epochs=1)
log_interval = 1
