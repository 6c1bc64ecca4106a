// Binding of the CUDA kernel of the refinement step. Nothing here waits for the device.
#include <c10/core/DeviceGuard.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "ascent_arguments.h"
#include "ascent_kernel.h"

namespace iounet {
namespace {

void ascent_step(at::Tensor boxes, at::Tensor stopped, const at::Tensor& gradient, const at::Tensor& ious,
                 const std::optional<at::Tensor>& previous, double step_size, double omega_1, double omega_2) {
  const c10::DeviceGuard guard(boxes.device());
  with_ascent(boxes, stopped, gradient, ious, previous, step_size, omega_1, omega_2, [](const auto& ascent) {
    if (ascent.count > 0) C10_CUDA_CHECK(cuda::ascend(ascent, c10::cuda::getCurrentCUDAStream()));
  });
}

}  // namespace
}  // namespace iounet

TORCH_LIBRARY_IMPL(iounet, CUDA, library) { library.impl("ascent_step_", iounet::ascent_step); }
