"""The third detector of the tests: of a single stage."""

_base_ = ["../../../experiments/configs/shapes/torchvision_retinanet.py"]
data = dict(samples_per_gpu=8)
runner = dict(max_epochs=1)
log_interval = 1
