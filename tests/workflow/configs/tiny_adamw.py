"""The IoU-Net of the tests with another learning rate: no trial of a sweep can stand for it."""

_base_ = ["tiny_iounet.py"]
optimizer = dict(lr=1e-3)
