// Conversion of feature maps between NCHW and NHWC (channels_last).
#pragma once

#include <ATen/core/Tensor.h>

namespace iounet::cuda {

// The map with its channels innermost.
inline at::Tensor to_channels_last(const at::Tensor& map) { return map.contiguous(at::MemoryFormat::ChannelsLast); }

// A gradient to features, which has its channels innermost, in the type and layout of the input.
inline at::Tensor as_input(const at::Tensor& gradient, const at::Tensor& input) {
  const bool channels_last = input.is_contiguous(at::MemoryFormat::ChannelsLast);
  const auto layout = channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  return gradient.to(input.scalar_type()).contiguous(layout);
}

}  // namespace iounet::cuda
