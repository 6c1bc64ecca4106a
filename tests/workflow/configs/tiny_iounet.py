"""The IoU-Net of the tests."""

_base_ = ["../../../experiments/configs/shapes/samp1000_lw5.0.py"]
data = dict(samples_per_gpu=8)
runner = dict(max_epochs=2)
log_interval = 1
