"""The IoU-Net of the tests with nothing drawn but from the image: ranks and one process train on the same RoIs."""

_base_ = ["tiny_iounet.py"]
custom_imports = dict(imports=["iounet", "tests.experiments.training.per_image_draws"], allow_failed_imports=False)
normalize = dict(type="Normalize", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
sampler = dict(type="PerImageSampler")
model = dict(
    # RoIs in proportion to an image's objects: ranks differ in their number
    roi_head=dict(type="PerImageIoURoIHead", roi_generator=dict(per_iou=50, sample_num=None, max_num=4000)),
    test_cfg=dict(rcnn=dict(score_thr=0.01)),  # detections from the first epoch on
    train_cfg=dict(rpn=dict(sampler=sampler), rcnn=dict(bbox_sampler=sampler)),
)
data = dict(
    samples_per_gpu=4,
    train=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="RandomFlip", flip_ratio=0.0),
            normalize,
            dict(type="DefaultFormatBundle"),
            dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels"]),
        ]
    ),
)
optimizer = dict(_delete_=True, type="SGD", lr=0.02, momentum=0.9)
optimizer_config = dict(grad_clip=dict(max_norm=10, norm_type=2))
lr_config = dict(_delete_=True, policy="step", step=[8])
