// Schemas of the Precise RoI Pooling operators.
#include <torch/library.h>

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
