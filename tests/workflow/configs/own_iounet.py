"""The coco suite's IoU-Net on the small network."""

_base_ = ["../../../experiments/configs/coco/samp1000_lw5.0.py"]
model = dict(
    backbone=dict(depth=18, base_channels=8, stem_channels=8, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=32),
        iou_head=dict(in_channels=16 * 7 * 7, fc_channels=[32, 32]),
        roi_generator=dict(sample_num=60),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=100, max_per_img=50)),
    test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=50), rcnn=dict(score_thr=0.01)),
)
data = dict(workers_per_gpu=1)
