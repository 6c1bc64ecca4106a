// Schema of the operators, and the binding of the CPU kernels.
#include "prroi_pool.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cmath>
#include <cstdint>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "cpu/prroi_pool_cpu.h"
#include "prroi_pool_math.h"

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
            static_cast<int>(inputs[0].size(1)),
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

// Memory that is new to the process is mapped at its first use, a page at a time, which takes longer than the kernels
// take to fill it. So ask for large pages, where the system leaves that to the program.
at::Tensor empty(at::IntArrayRef sizes, at::TensorOptions options, at::MemoryFormat layout) {
  at::Tensor tensor = at::empty(sizes, options, layout);
#ifdef MADV_HUGEPAGE
  constexpr size_t kPage = 4096;
  constexpr size_t kLargePage = 2 << 20;
  if (tensor.nbytes() >= 2 * kLargePage) {
    const auto start = reinterpret_cast<uintptr_t>(tensor.mutable_data_ptr());
    const uintptr_t first = (start + kPage - 1) / kPage * kPage;
    madvise(reinterpret_cast<void*>(first), start + tensor.nbytes() - first, MADV_HUGEPAGE);  // advice: it may fail
  }
#endif
  return tensor;
}

// A float or double tensor, of which `from` is the layout, in the other one; several times faster than contiguous().
at::Tensor convert(const at::Tensor& tensor, at::MemoryFormat from, at::MemoryFormat to) {
  const at::Tensor result = empty(tensor.sizes(), tensor.options(), to);
  if (tensor.numel() == 0) return result;
  const int64_t cells = tensor.size(2) * tensor.size(3);
  const bool planar = from == at::MemoryFormat::Contiguous;
  const int64_t height = planar ? tensor.size(1) : cells;
  const int64_t width = planar ? cells : tensor.size(1);
  if (tensor.scalar_type() == at::kDouble) {
    cpu::transpose(tensor.const_data_ptr<double>(), tensor.size(0), height, width, result.mutable_data_ptr<double>());
  } else {
    cpu::transpose(tensor.const_data_ptr<float>(), tensor.size(0), height, width, result.mutable_data_ptr<float>());
  }
  return result;
}

at::Tensor to_channels_last(const at::Tensor& map) {
  constexpr auto kLast = at::MemoryFormat::ChannelsLast;
  if (map.is_contiguous(kLast) || !map.is_contiguous()) return map.contiguous(kLast);
  return convert(map, at::MemoryFormat::Contiguous, kLast);
}

// A gradient to features, which has its channels innermost, in the type and layout of the input.
at::Tensor as_input(const at::Tensor& gradient, const at::Tensor& input) {
  constexpr auto kLast = at::MemoryFormat::ChannelsLast;
  if (input.is_contiguous(kLast)) return gradient.to(input.scalar_type());
  return convert(gradient, kLast, at::MemoryFormat::Contiguous).to(input.scalar_type());
}

// Maps with the channels innermost; those without a RoI are left out.
std::vector<at::Tensor> channels_last(at::TensorList inputs, const std::vector<bool>& used) {
  std::vector<at::Tensor> maps(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (used[i]) maps[i] = to_channels_last(inputs[i].to(compute_type(inputs[i])));
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
  const at::Tensor output = empty({rois.size(0), inputs[0].size(1), pooled_height, pooled_width},
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
    gradients.push_back(empty(input.sizes(), input.options().dtype(type), at::MemoryFormat::ChannelsLast).zero_());
  }
  const int batch_size = static_cast<int>(inputs[0].size(0));
  if (type == at::kDouble) {
    cpu::feature_gradient(checked.view, grad.const_data_ptr<double>(), batch_size,
                          as_levels<double>(gradients, spatial_scales));
  } else {
    cpu::feature_gradient(checked.view, grad.const_data_ptr<float>(), batch_size,
                          as_levels<float>(gradients, spatial_scales));
  }
  for (size_t i = 0; i < inputs.size(); ++i) gradients[i] = as_input(gradients[i], inputs[i]);
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

// The gradient operators return one gradient per input, in its layout, and the gradient to rois (0 for the batch
// index).
TORCH_LIBRARY(iounet, library) {
  library.def(
      "prroi_pool(Tensor[] inputs, Tensor rois, Tensor? levels, int pooled_height, int pooled_width, "
      "float[] spatial_scales, float[]? level_areas=None) -> Tensor");
  library.def(
      "prroi_pool_feature_gradient(Tensor grad_output, Tensor[] inputs, Tensor rois, Tensor? levels, "
      "float[] spatial_scales, float[]? level_areas=None) -> Tensor[]");
  library.def(
      "prroi_pool_coordinate_gradient(Tensor grad_output, Tensor[] inputs, Tensor rois, Tensor? levels, "
      "float[] spatial_scales, float[]? level_areas=None) -> Tensor");
}

TORCH_LIBRARY_IMPL(iounet, CPU, library) {
  library.impl("prroi_pool", iounet::forward);
  library.impl("prroi_pool_feature_gradient", iounet::feature_gradient);
  library.impl("prroi_pool_coordinate_gradient", iounet::coordinate_gradient);
}
