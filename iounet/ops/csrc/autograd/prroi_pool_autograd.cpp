// Derivatives of the operators, for the CPU and for CUDA alike.
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace iounet {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<at::Tensor>;
using Doubles = at::ArrayRef<double>;
using OptionalDoubles = std::optional<at::ArrayRef<double>>;

at::Tensor call_forward(at::TensorList inputs, const at::Tensor& rois, const OptionalTensor& levels,
                        int64_t pooled_height, int64_t pooled_width, Doubles spatial_scales,
                        OptionalDoubles level_areas) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("iounet::prroi_pool", "").typed<decltype(call_forward)>();
  return op.call(inputs, rois, levels, pooled_height, pooled_width, spatial_scales, level_areas);
}

std::vector<at::Tensor> call_feature_gradient(const at::Tensor& grad_output, at::TensorList inputs,
                                              const at::Tensor& rois, const OptionalTensor& levels,
                                              Doubles spatial_scales, OptionalDoubles level_areas) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("iounet::prroi_pool_feature_gradient", "")
                             .typed<decltype(call_feature_gradient)>();
  return op.call(grad_output, inputs, rois, levels, spatial_scales, level_areas);
}

at::Tensor call_coordinate_gradient(const at::Tensor& grad_output, at::TensorList inputs, const at::Tensor& rois,
                                    const OptionalTensor& levels, Doubles spatial_scales, OptionalDoubles level_areas) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("iounet::prroi_pool_coordinate_gradient", "")
                             .typed<decltype(call_coordinate_gradient)>();
  return op.call(grad_output, inputs, rois, levels, spatial_scales, level_areas);
}

struct Forward : Function<Forward> {
  static at::Tensor forward(AutogradContext* ctx, at::TensorList inputs, const at::Tensor& rois,
                            const OptionalTensor& levels, int64_t pooled_height, int64_t pooled_width,
                            Doubles spatial_scales, OptionalDoubles level_areas) {
    variable_list saved = {rois, levels.value_or(at::Tensor())};
    saved.insert(saved.end(), inputs.begin(), inputs.end());
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["spatial_scales"] = spatial_scales;
    if (level_areas.has_value()) ctx->saved_data["level_areas"] = *level_areas;
    const at::AutoDispatchBelowADInplaceOrView guard;
    return call_forward(inputs, rois, levels, pooled_height, pooled_width, spatial_scales, level_areas);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad_outputs) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& rois = saved[0];
    const OptionalTensor levels = saved[1].defined() ? OptionalTensor(saved[1]) : std::nullopt;
    const at::TensorList inputs = at::TensorList(saved).slice(2);
    const std::vector<double> spatial_scales = ctx->saved_data["spatial_scales"].toDoubleVector();
    std::vector<double> areas;
    OptionalDoubles level_areas;
    if (const auto found = ctx->saved_data.find("level_areas"); found != ctx->saved_data.end()) {
      areas = found->second.toDoubleVector();
      level_areas = areas;
    }
    bool inputs_need = false;
    for (size_t i = 0; i < inputs.size(); ++i) inputs_need = inputs_need || ctx->needs_input_grad(i);
    variable_list gradients(inputs.size());
    if (inputs_need) {
      gradients = call_feature_gradient(grad_outputs[0], inputs, rois, levels, spatial_scales, level_areas);
    }
    gradients.emplace_back();
    if (ctx->needs_input_grad(inputs.size())) {
      gradients.back() = call_coordinate_gradient(grad_outputs[0], inputs, rois, levels, spatial_scales, level_areas);
    }
    gradients.resize(inputs.size() + 6);  // one for each argument; the others have none
    return gradients;
  }
};

// Of call_feature_gradient or call_coordinate_gradient.
template <auto call>
struct Gradient : Function<Gradient<call>> {
  static auto forward(AutogradContext*, const at::Tensor& grad_output, at::TensorList inputs, const at::Tensor& rois,
                      const OptionalTensor& levels, Doubles spatial_scales, OptionalDoubles level_areas) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    return call(grad_output, inputs, rois, levels, spatial_scales, level_areas);
  }

  static variable_list backward(AutogradContext*, const variable_list&) {
    TORCH_CHECK_NOT_IMPLEMENTED(false, "prroi_pool: second derivatives are not implemented");
  }
};

at::Tensor forward(at::TensorList inputs, const at::Tensor& rois, const OptionalTensor& levels, int64_t pooled_height,
                   int64_t pooled_width, Doubles spatial_scales, OptionalDoubles level_areas) {
  return Forward::apply(inputs, rois, levels, pooled_height, pooled_width, spatial_scales, level_areas);
}

template <auto call>
auto gradient(const at::Tensor& grad_output, at::TensorList inputs, const at::Tensor& rois,
              const OptionalTensor& levels, Doubles spatial_scales, OptionalDoubles level_areas) {
  return Gradient<call>::apply(grad_output, inputs, rois, levels, spatial_scales, level_areas);
}

}  // namespace
}  // namespace iounet

TORCH_LIBRARY_IMPL(iounet, Autograd, library) {
  library.impl("prroi_pool", iounet::forward);
  library.impl("prroi_pool_feature_gradient", iounet::gradient<iounet::call_feature_gradient>);
  library.impl("prroi_pool_coordinate_gradient", iounet::gradient<iounet::call_coordinate_gradient>);
}
