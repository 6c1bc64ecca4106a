"""The pretraining of the tests."""

_base_ = ["tiny_faster_rcnn.py"]
data = dict(train=dict(ann_file="pretrain.json", img_prefix="pretrain/"))
runner = dict(max_epochs=1)
