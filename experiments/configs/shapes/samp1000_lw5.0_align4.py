"""IoU-Net as published, with RoIAlign in place of Precise RoI Pooling: 4 × 4 samples a bin."""

_base_ = ["samp1000_lw5.0.py"]
custom_imports = dict(imports=["iounet", "experiments.pooling.extractor"], allow_failed_imports=False)
model = dict(roi_head=dict(bbox_roi_extractor=dict(type="SampledRoIExtractor", roi_layer=dict(sampling_ratio=4))))
