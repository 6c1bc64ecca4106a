"""The IoU-Net of the tests with RoIs per IoU bin."""

_base_ = ["tiny_iounet.py"]
model = dict(
    roi_head=dict(
        iou_head=dict(loss_iou=dict(loss_weight=10.0)),
        roi_generator=dict(per_iou=50, sample_num=None),
    )
)
