// Checks of the arguments of Precise RoI Pooling.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace iounet {

// Of the bins of a RoI, and of the channels and the cells of a map along an axis: the kernels count them, and the pairs
// of a bin and a cell that meet along an axis (size + 3 * bins + 1 at most), in 32 bits.
constexpr int64_t kMaxCount = (int64_t{1} << 29) - 1;

// For callers of torch.ops.iounet: iounet.ops.prroi_pool has raised its own, fuller messages before.
inline void check_arguments(at::TensorList inputs, const at::Tensor& rois, const std::optional<at::Tensor>& levels,
                            int64_t pooled_height, int64_t pooled_width, at::ArrayRef<double> spatial_scales,
                            std::optional<at::ArrayRef<double>> level_areas) {
  TORCH_CHECK_VALUE(!inputs.empty() && inputs.size() == spatial_scales.size(),
                    "prroi_pool: there must be one spatial scale per feature map");
  TORCH_CHECK_VALUE(pooled_height > 0 && pooled_width > 0, "prroi_pool: output_size must be positive");
  TORCH_CHECK_VALUE(pooled_height <= kMaxCount / pooled_width, "prroi_pool: output_size must be of at most ", kMaxCount,
                    " bins, got ", pooled_height, " x ", pooled_width);
  TORCH_CHECK_VALUE(rois.dim() == 2 && rois.size(1) == 5, "prroi_pool: rois must have shape (K, 5)");
  TORCH_CHECK_VALUE(levels.has_value() || level_areas.has_value() || inputs.size() == 1,
                    "prroi_pool: levels or level_areas must be given for several maps");
  if (level_areas.has_value()) {
    TORCH_CHECK_VALUE(!levels.has_value(), "prroi_pool: levels and level_areas exclude each other");
    TORCH_CHECK_VALUE(
        level_areas->size() + 1 == inputs.size() && std::is_sorted(level_areas->begin(), level_areas->end()),
        "prroi_pool: level_areas must be one ascending value less than there are maps");
  }
  for (const at::Tensor& input : inputs) {
    TORCH_CHECK_VALUE(input.dim() == 4 && input.size(0) == inputs[0].size(0) && input.size(1) == inputs[0].size(1),
                      "prroi_pool: all inputs must have 4 dimensions and agree in N and C");
    TORCH_CHECK_VALUE(input.size(1) <= kMaxCount && input.size(2) <= kMaxCount && input.size(3) <= kMaxCount,
                      "prroi_pool: C, H and W of input must be at most ", kMaxCount, ", got shape ", input.sizes());
    TORCH_CHECK_VALUE(input.device() == rois.device(), "prroi_pool: input and rois must be on one device");
    TORCH_CHECK_TYPE(input.scalar_type() == inputs[0].scalar_type(), "prroi_pool: all levels must have one dtype");
  }
  if (levels.has_value()) {
    TORCH_CHECK_TYPE(levels->scalar_type() == at::kLong, "prroi_pool: levels must be torch.int64");
    TORCH_CHECK_VALUE(levels->dim() == 1 && levels->size(0) == rois.size(0) && levels->device() == rois.device(),
                      "prroi_pool: levels must have shape (K,) and be on the device of rois");
  }
}

inline void check_grad_output(const at::Tensor& grad_output, at::TensorList inputs, const at::Tensor& rois) {
  TORCH_CHECK_VALUE(!inputs.empty() && grad_output.dim() == 4 && rois.dim() == 2 &&
                        grad_output.size(0) == rois.size(0) && grad_output.size(1) == inputs[0].size(1) &&
                        grad_output.device() == rois.device(),
                    "prroi_pool: grad_output must have shape (K, C, ph, pw) and be on the device of rois");
}

// Sums are in float32 for half precision.
inline at::ScalarType compute_type(const at::Tensor& input) {
  const at::ScalarType type = input.scalar_type();
  TORCH_CHECK_TYPE(type == at::kFloat || type == at::kDouble || type == at::kHalf || type == at::kBFloat16,
                   "prroi_pool: input must be of a floating point dtype, got ", type);
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace iounet
