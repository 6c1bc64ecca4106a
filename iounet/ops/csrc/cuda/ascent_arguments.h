// Checks of the arguments of the refinement step.
#pragma once

#include <ATen/core/Tensor.h>

#include "../ascent_math.h"

namespace iounet {

// Calls body with the tensors as an Ascent of their type.
template <typename Body>
void with_ascent(at::Tensor& boxes, at::Tensor& stopped, const at::Tensor& gradient, const at::Tensor& ious,
                 const std::optional<at::Tensor>& previous, double step_size, double omega_1, double omega_2,
                 const Body& body) {
  const int64_t count = boxes.dim() == 2 ? boxes.size(0) : -1;
  TORCH_CHECK_VALUE(count >= 0 && boxes.size(1) >= 4, "ascent_step_: boxes must have shape (K, 4 or more)");
  TORCH_CHECK_VALUE(gradient.sizes() == boxes.sizes(), "ascent_step_: gradient must have the shape of boxes, got ",
                    gradient.sizes());
  const at::Tensor of_boxes[] = {stopped, ious, previous.value_or(ious)};
  for (const at::Tensor& tensor : of_boxes) {
    TORCH_CHECK_VALUE(tensor.dim() == 1 && tensor.size(0) == count,
                      "ascent_step_: stopped, ious and previous must have shape (K,)");
  }
  TORCH_CHECK_TYPE(stopped.scalar_type() == at::kBool, "ascent_step_: stopped must be torch.bool");
  TORCH_CHECK_VALUE(boxes.is_contiguous() && stopped.is_contiguous(),
                    "ascent_step_: boxes and stopped must be contiguous, as they are written to");
  for (const at::Tensor& tensor : {gradient, ious, previous.value_or(ious)}) {
    TORCH_CHECK_TYPE(tensor.scalar_type() == boxes.scalar_type(), "ascent_step_: all must be of one dtype");
    TORCH_CHECK_VALUE(tensor.device() == boxes.device() && stopped.device() == boxes.device(),
                      "ascent_step_: all must be on one device");
  }
  const at::Tensor gradient_ = gradient.contiguous();
  const at::Tensor ious_ = ious.contiguous();
  const at::Tensor previous_ = previous.has_value() ? previous->contiguous() : at::Tensor();
  auto call = [&](auto number) {
    using T = decltype(number);
    body(Ascent<T>{boxes.mutable_data_ptr<T>(), stopped.mutable_data_ptr<bool>(), gradient_.const_data_ptr<T>(),
                   ious_.const_data_ptr<T>(), previous_.defined() ? previous_.const_data_ptr<T>() : nullptr, count,
                   boxes.size(1), static_cast<T>(step_size), static_cast<T>(omega_1), static_cast<T>(omega_2)});
  };
  if (boxes.scalar_type() == at::kDouble) {
    call(double{});
  } else {
    TORCH_CHECK_TYPE(boxes.scalar_type() == at::kFloat, "ascent_step_: boxes must be float32 or float64, got ",
                     boxes.scalar_type());
    call(float{});
  }
}

}  // namespace iounet
