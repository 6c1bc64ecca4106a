"""The third detector of the tests: of another library."""

_base_ = ["../../../experiments/configs/shapes/torchvision_faster_rcnn.py"]
data = dict(samples_per_gpu=8)
runner = dict(max_epochs=1)
log_interval = 1
