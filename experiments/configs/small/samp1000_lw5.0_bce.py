"""IoU-Net with the binary cross-entropy loss at weight 5, 1000 RoIs per image."""

_base_ = ["iounet.py"]
model = dict(
    roi_head=dict(
        iou_head=dict(loss_iou=dict(_delete_=True, type="CrossEntropyLoss", use_sigmoid=True, loss_weight=5.0))
    )
)
