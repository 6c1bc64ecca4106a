"""The shared start of every variant, as ImageNet weights are on COCO: Faster R-CNN on disjoint, harder images."""

_base_ = ["base.py"]
data = dict(train=dict(ann_file="pretrain.json", img_prefix="pretrain/"))
runner = dict(max_epochs=5)
