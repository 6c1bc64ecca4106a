"""The shared start of every variant, as ImageNet weights are on COCO: Faster R-CNN on disjoint images."""

_base_ = ["base.py"]
data = dict(train=dict(ann_file="pretrain.json", img_prefix="pretrain/"))
model = dict(backbone=dict(norm_eval=False))  # from random weights: there are no statistics yet
