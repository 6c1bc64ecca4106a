// Binding of the refinement step on the CPU.
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include "../ascent_arguments.h"

namespace iounet {
namespace {

void ascent_step(at::Tensor boxes, at::Tensor stopped, const at::Tensor& gradient, const at::Tensor& ious,
                 const std::optional<at::Tensor>& previous, double step_size, double omega_1, double omega_2) {
  with_ascent(boxes, stopped, gradient, ious, previous, step_size, omega_1, omega_2, [](const auto& ascent) {
    for (int64_t k = 0; k < ascent.count; ++k) ascent(k);
  });
}

}  // namespace
}  // namespace iounet

TORCH_LIBRARY_IMPL(iounet, CPU, library) { library.impl("ascent_step_", iounet::ascent_step); }
