"""Compiles and calls reference_loop.cpp."""

import ctypes
import functools
import subprocess
import tempfile
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("reference_loop.cpp")


@functools.cache
def _library():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference_loop.so"
        flags = ["-O3", "-march=native", "-std=c++17", "-shared", "-fPIC"]
        subprocess.run(["g++", *flags, str(SOURCE), "-o", str(path)], check=True)
        return ctypes.CDLL(str(path))


def _pointer(tensor):
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())


def _geometry(rois, output_size, scale):
    return _pointer(rois), len(rois), output_size, output_size, ctypes.c_float(scale)


def forward(input, rois, output_size, scale):
    """Tensor[K, C, output_size, output_size]."""
    output = torch.empty(len(rois), input.shape[1], output_size, output_size)
    _library().forward(_pointer(input), *input.shape[1:], *_geometry(rois, output_size, scale), _pointer(output))
    return output


def feature_gradient(grad_output, input, rois, scale):
    """Gradient of the shape of ``input``."""
    gradient = torch.zeros_like(input)
    geometry = _geometry(rois, grad_output.shape[2], scale)
    _library().feature_gradient(_pointer(grad_output), *input.shape[1:], *geometry, _pointer(gradient))
    return gradient


def coordinate_gradient(grad_output, input, output, rois, scale):
    """Gradient of the shape of ``rois``."""
    gradient = torch.zeros_like(rois)
    geometry = _geometry(rois, grad_output.shape[2], scale)
    tensors = _pointer(grad_output), _pointer(input), _pointer(output)
    _library().coordinate_gradient(*tensors, *input.shape[1:], *geometry, _pointer(gradient))
    return gradient
