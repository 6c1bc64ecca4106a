"""IoU-Net for mmdet.

``iounet.ops`` (Precise RoI Pooling) and ``iounet.core`` (the algorithms) need torch only, ``iounet.refiner`` (IoU-Net
for any detector's boxes) torchvision, too. Where mmdet is installed, ``import iounet`` also registers ``IoURoIHead``,
``IoUHead`` and ``PrRoIExtractor`` with it, so a config needs one line:
``custom_imports = dict(imports=["iounet"], allow_failed_imports=False)``.
"""

__version__ = "0.1.0"

try:
    import mmdet  # noqa: F401
except ModuleNotFoundError as error:
    # Only mmdet itself may be missing. An mmdet that is there but fails to import must say why.
    if error.name != "mmdet":
        raise
else:
    from iounet import models  # noqa: F401
