// Binding of the CUDA kernels of Precise RoI Pooling. Nothing here waits for the device.
#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "layout.h"
#include "prroi_pool_arguments.h"
#include "prroi_pool_kernel.h"

namespace iounet {
namespace {

cuda::Type type_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kDouble:
      return cuda::Type::kDouble;
    case at::kHalf:
      return cuda::Type::kHalf;
    case at::kBFloat16:
      return cuda::Type::kBFloat16;
    default:
      return cuda::Type::kFloat;
  }
}

// The problem as the kernels take it, with the tensors that own the memory.
class Arguments {
 public:
  // maps: of the sizes of inputs, with the channels innermost.
  Arguments(at::TensorList inputs, const std::vector<at::Tensor>& maps, const at::Tensor& rois,
            const std::optional<at::Tensor>& levels, int64_t pooled_height, int64_t pooled_width,
            at::ArrayRef<double> spatial_scales, std::optional<at::ArrayRef<double>> level_areas)
      : type(type_of(inputs[0])),
        rois_((rois.scalar_type() == at::kDouble ? rois : rois.to(at::kFloat)).contiguous()),
        maps_(maps) {
    TORCH_CHECK_VALUE(inputs.size() <= cuda::kMaxLevels, "prroi_pool: at most ", cuda::kMaxLevels,
                      " feature maps on CUDA, got ", inputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      problem.levels[i] = {maps_[i].data_ptr(), static_cast<int>(inputs[i].size(2)),
                           static_cast<int>(inputs[i].size(3)), spatial_scales[i]};
    }
    if (levels.has_value()) levels_ = levels->contiguous();
    problem.by_area = level_areas.has_value();
    if (problem.by_area) std::copy(level_areas->begin(), level_areas->end(), problem.level_areas);
    problem.num_levels = static_cast<int>(inputs.size());
    problem.batch_size = static_cast<int>(inputs[0].size(0));
    problem.channels = static_cast<int>(inputs[0].size(1));
    problem.pooled_height = static_cast<int>(pooled_height);
    problem.pooled_width = static_cast<int>(pooled_width);
    problem.rois = rois_.const_data_ptr();
    problem.roi_level = levels_.defined() ? levels_.const_data_ptr<int64_t>() : nullptr;
    problem.num_rois = rois.size(0);
    problem.double_rois = rois_.scalar_type() == at::kDouble;
    constexpr int64_t kMaxBlocks = std::numeric_limits<int32_t>::max();
    TORCH_CHECK_VALUE(problem.num_rois <= kMaxBlocks / pooled_height, "prroi_pool: at most ", kMaxBlocks,
                      " rows of bins on CUDA, got ", problem.num_rois, " RoIs of ", pooled_height);
    TORCH_CHECK_VALUE(cuda::shared_bytes(problem, type) <= cuda::kMaxSharedBytes,
                      "prroi_pool: the feature map or output_size is too large for the CUDA kernel: they need ",
                      cuda::shared_bytes(problem, type), " bytes of shared memory, and there are ",
                      cuda::kMaxSharedBytes);
  }

  bool empty() const { return problem.num_rois == 0 || problem.channels == 0; }

  cuda::Problem problem{};
  cuda::Type type;

 private:
  at::Tensor rois_, levels_;
  std::vector<at::Tensor> maps_;
};

std::vector<at::Tensor> channels_last(at::TensorList inputs) {
  std::vector<at::Tensor> maps;
  for (const at::Tensor& input : inputs) maps.push_back(cuda::to_channels_last(input));
  return maps;
}

at::Tensor forward(at::TensorList inputs, const at::Tensor& rois, const std::optional<at::Tensor>& levels,
                   int64_t pooled_height, int64_t pooled_width, at::ArrayRef<double> spatial_scales,
                   std::optional<at::ArrayRef<double>> level_areas) {
  check_arguments(inputs, rois, levels, pooled_height, pooled_width, spatial_scales, level_areas);
  compute_type(inputs[0]);
  const c10::DeviceGuard guard(rois.device());
  const Arguments arguments(inputs, channels_last(inputs), rois, levels, pooled_height, pooled_width, spatial_scales,
                            level_areas);
  const at::Tensor output =
      at::empty({rois.size(0), inputs[0].size(1), pooled_height, pooled_width}, inputs[0].options());
  if (arguments.empty()) return output;
  C10_CUDA_CHECK(
      cuda::forward(arguments.problem, arguments.type, output.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream()));
  return output;
}

std::vector<at::Tensor> feature_gradient(const at::Tensor& grad_output, at::TensorList inputs, const at::Tensor& rois,
                                         const std::optional<at::Tensor>& levels, at::ArrayRef<double> spatial_scales,
                                         std::optional<at::ArrayRef<double>> level_areas) {
  at::globalContext().alertNotDeterministic("prroi_pool_feature_gradient_cuda");
  check_grad_output(grad_output, inputs, rois);
  check_arguments(inputs, rois, levels, grad_output.size(2), grad_output.size(3), spatial_scales, level_areas);
  const c10::DeviceGuard guard(rois.device());
  const at::Tensor grad = cuda::to_channels_last(grad_output.to(inputs[0].scalar_type()));
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& input : inputs) {
    const auto options = input.options().dtype(compute_type(input));
    gradients.push_back(at::empty(input.sizes(), options, at::MemoryFormat::ChannelsLast).zero_());
  }
  const Arguments arguments(inputs, gradients, rois, levels, grad.size(2), grad.size(3), spatial_scales, level_areas);
  if (!arguments.empty()) {
    C10_CUDA_CHECK(cuda::feature_gradient(arguments.problem, arguments.type, grad.const_data_ptr(),
                                          c10::cuda::getCurrentCUDAStream()));
  }
  for (size_t i = 0; i < inputs.size(); ++i) gradients[i] = cuda::as_input(gradients[i], inputs[i]);
  return gradients;
}

at::Tensor coordinate_gradient(const at::Tensor& grad_output, at::TensorList inputs, const at::Tensor& rois,
                               const std::optional<at::Tensor>& levels, at::ArrayRef<double> spatial_scales,
                               std::optional<at::ArrayRef<double>> level_areas) {
  check_grad_output(grad_output, inputs, rois);
  check_arguments(inputs, rois, levels, grad_output.size(2), grad_output.size(3), spatial_scales, level_areas);
  compute_type(inputs[0]);
  const c10::DeviceGuard guard(rois.device());
  const at::Tensor grad = cuda::to_channels_last(grad_output.to(inputs[0].scalar_type()));
  const Arguments arguments(inputs, channels_last(inputs), rois, levels, grad.size(2), grad.size(3), spatial_scales,
                            level_areas);
  const auto type = arguments.problem.double_rois ? at::kDouble : at::kFloat;
  const at::Tensor gradient = at::empty({rois.size(0), 5}, rois.options().dtype(type));
  if (arguments.empty()) return gradient.zero_().to(rois.scalar_type());
  C10_CUDA_CHECK(cuda::coordinate_gradient(arguments.problem, arguments.type, grad.const_data_ptr(),
                                           gradient.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream()));
  return gradient.to(rois.scalar_type());
}

}  // namespace
}  // namespace iounet

TORCH_LIBRARY_IMPL(iounet, CUDA, library) {
  library.impl("prroi_pool", iounet::forward);
  library.impl("prroi_pool_feature_gradient", iounet::feature_gradient);
  library.impl("prroi_pool_coordinate_gradient", iounet::coordinate_gradient);
}
