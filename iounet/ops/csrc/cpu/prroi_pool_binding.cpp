// Binding of the CPU kernels of Precise RoI Pooling.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cmath>
#include <vector>

#include "../prroi_pool_arguments.h"
#include "../roi_level.h"
#include "large_pages.h"
#include "layout.h"
#include "prroi_pool_kernel.h"

namespace iounet {
namespace {

// The RoIs as the kernels take them, with the tensors that own the memory.
class CheckedRois {
 public:
  CheckedRois(at::TensorList inputs, const at::Tensor& rois, const std::optional<at::Tensor>& levels,
              int64_t pooled_height, int64_t pooled_width, at::ArrayRef<double> spatial_scales,
              std::optional<at::ArrayRef<double>> level_areas)
      : used(inputs.size(), false), rois_(rois.to(at::kDouble).contiguous()) {
    check_arguments(inputs, rois, levels, pooled_height, pooled_width, spatial_scales, level_areas);
    if (levels.has_value()) levels_ = levels->contiguous();
    if (level_areas.has_value()) levels_ = levels_by_area(rois.scalar_type(), *level_areas);
    view = {rois_.const_data_ptr<double>(),
            levels_.defined() ? levels_.const_data_ptr<int64_t>() : nullptr,
            rois.size(0),
            inputs[0].size(1),
            static_cast<int>(pooled_height),
            static_cast<int>(pooled_width)};
    const int64_t batch_size = inputs[0].size(0);
    const int64_t num_levels = static_cast<int64_t>(inputs.size());
    for (int64_t k = 0; k < view.count; ++k) {
      const double* row = view.rows + 5 * k;
      for (int i = 0; i < 5; ++i) {
        TORCH_CHECK_VALUE(std::isfinite(row[i]), "prroi_pool: rois must be finite, got [", row[0], ", ", row[1], ", ",
                          row[2], ", ", row[3], ", ", row[4], "] in row ", k);
      }
      TORCH_CHECK_VALUE(row[0] >= 0 && row[0] < batch_size && row[0] == std::floor(row[0]),
                        "prroi_pool: batch index must be an integer in [0, ", batch_size, "), got ", row[0], " in row ",
                        k);
      const int64_t level = view.levels ? view.levels[k] : 0;
      TORCH_CHECK_VALUE(level >= 0 && level < num_levels, "prroi_pool: levels must be in [0, ", num_levels, "), got ",
                        level, " in row ", k);
      used[level] = true;
    }
  }

  cpu::Rois view;
  std::vector<bool> used;  // levels that have a RoI

 private:
  at::Tensor levels_by_area(at::ScalarType type, at::ArrayRef<double> level_areas) const {
    const at::Tensor levels = at::empty({rois_.size(0)}, rois_.options().dtype(at::kLong));
    const double* rows = rois_.const_data_ptr<double>();
    const auto level = type == at::kDouble ? level_of<double> : level_of<float>;
    for (int64_t k = 0; k < rois_.size(0); ++k) {
      levels.mutable_data_ptr<int64_t>()[k] =
          level(rows + 5 * k, level_areas.data(), static_cast<int>(level_areas.size()));
    }
    return levels;
  }

  at::Tensor rois_, levels_;
};

// Maps with the channels innermost; those without a RoI are left out.
std::vector<at::Tensor> channels_last(at::TensorList inputs, const std::vector<bool>& used) {
  std::vector<at::Tensor> maps(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (used[i]) maps[i] = cpu::to_channels_last(inputs[i].to(compute_type(inputs[i])));
  }
  return maps;
}

template <typename T>
std::vector<cpu::Level<T>> as_levels(const std::vector<at::Tensor>& maps, at::ArrayRef<double> spatial_scales) {
  std::vector<cpu::Level<T>> levels;
  for (size_t i = 0; i < maps.size(); ++i) {
    if (!maps[i].defined()) {
      levels.push_back({nullptr, 0, 0, spatial_scales[i]});
      continue;
    }
    T* data = static_cast<T*>(maps[i].data_ptr());
    levels.push_back({data, static_cast<int>(maps[i].size(2)), static_cast<int>(maps[i].size(3)), spatial_scales[i]});
  }
  return levels;
}

at::Tensor forward(at::TensorList inputs, const at::Tensor& rois, const std::optional<at::Tensor>& levels,
                   int64_t pooled_height, int64_t pooled_width, at::ArrayRef<double> spatial_scales,
                   std::optional<at::ArrayRef<double>> level_areas) {
  const CheckedRois checked(inputs, rois, levels, pooled_height, pooled_width, spatial_scales, level_areas);
  const at::ScalarType type = compute_type(inputs[0]);
  const at::Tensor output = cpu::empty_in_large_pages({rois.size(0), inputs[0].size(1), pooled_height, pooled_width},
                                                      inputs[0].options().dtype(type), at::MemoryFormat::Contiguous);
  const std::vector<at::Tensor> maps = channels_last(inputs, checked.used);
  if (type == at::kDouble) {
    cpu::forward(checked.view, as_levels<const double>(maps, spatial_scales), output.mutable_data_ptr<double>());
  } else {
    cpu::forward(checked.view, as_levels<const float>(maps, spatial_scales), output.mutable_data_ptr<float>());
  }
  return output.to(inputs[0].scalar_type());
}

std::vector<at::Tensor> feature_gradient(const at::Tensor& grad_output, at::TensorList inputs, const at::Tensor& rois,
                                         const std::optional<at::Tensor>& levels, at::ArrayRef<double> spatial_scales,
                                         std::optional<at::ArrayRef<double>> level_areas) {
  check_grad_output(grad_output, inputs, rois);
  const CheckedRois checked(inputs, rois, levels, grad_output.size(2), grad_output.size(3), spatial_scales,
                            level_areas);
  const at::ScalarType type = compute_type(inputs[0]);
  const at::Tensor grad = grad_output.to(type).contiguous();
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& input : inputs) {
    gradients.push_back(
        cpu::empty_in_large_pages(input.sizes(), input.options().dtype(type), at::MemoryFormat::ChannelsLast).zero_());
  }
  const int64_t batch_size = inputs[0].size(0);
  if (type == at::kDouble) {
    cpu::feature_gradient(checked.view, grad.const_data_ptr<double>(), batch_size,
                          as_levels<double>(gradients, spatial_scales));
  } else {
    cpu::feature_gradient(checked.view, grad.const_data_ptr<float>(), batch_size,
                          as_levels<float>(gradients, spatial_scales));
  }
  for (size_t i = 0; i < inputs.size(); ++i) gradients[i] = cpu::as_input(gradients[i], inputs[i]);
  return gradients;
}

at::Tensor coordinate_gradient(const at::Tensor& grad_output, at::TensorList inputs, const at::Tensor& rois,
                               const std::optional<at::Tensor>& levels, at::ArrayRef<double> spatial_scales,
                               std::optional<at::ArrayRef<double>> level_areas) {
  check_grad_output(grad_output, inputs, rois);
  const CheckedRois checked(inputs, rois, levels, grad_output.size(2), grad_output.size(3), spatial_scales,
                            level_areas);
  const at::ScalarType type = compute_type(inputs[0]);
  const at::Tensor grad = grad_output.to(type).contiguous();
  const at::Tensor gradient = at::empty({rois.size(0), 5}, rois.options().dtype(at::kDouble));
  const std::vector<at::Tensor> maps = channels_last(inputs, checked.used);
  if (type == at::kDouble) {
    cpu::coordinate_gradient(checked.view, as_levels<const double>(maps, spatial_scales), grad.const_data_ptr<double>(),
                             gradient.mutable_data_ptr<double>());
  } else {
    cpu::coordinate_gradient(checked.view, as_levels<const float>(maps, spatial_scales), grad.const_data_ptr<float>(),
                             gradient.mutable_data_ptr<double>());
  }
  return gradient.to(rois.scalar_type());
}

}  // namespace
}  // namespace iounet

TORCH_LIBRARY_IMPL(iounet, CPU, library) {
  library.impl("prroi_pool", iounet::forward);
  library.impl("prroi_pool_feature_gradient", iounet::feature_gradient);
  library.impl("prroi_pool_coordinate_gradient", iounet::coordinate_gradient);
}
