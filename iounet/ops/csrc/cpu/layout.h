// Conversion of feature maps between NCHW and NHWC (channels_last).
#pragma once

#include <ATen/core/Tensor.h>

namespace iounet::cpu {

// A float or double map with its channels innermost; the map itself, if it is so already.
at::Tensor to_channels_last(const at::Tensor& map);

// A float or double gradient to features, which has its channels innermost, in the type and layout of the input.
at::Tensor as_input(const at::Tensor& gradient, const at::Tensor& input);

}  // namespace iounet::cpu
