"""IoU-Net's refinement as one graph of stock operators, for runtimes that know neither mmdet nor autograd.

``python -m iounet.export`` writes it as ONNX or as a program of ``torch.export``.
"""

from iounet.export.graph import save_onnx, save_program
from iounet.export.refiner import Refiner, refiner_of

__all__ = ["Refiner", "refiner_of", "save_onnx", "save_program"]
