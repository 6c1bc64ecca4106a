// Schema of the refinement step.
#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(iounet, library) {
  library.def(
      "ascent_step_(Tensor(a!) boxes, Tensor(b!) stopped, Tensor gradient, Tensor ious, Tensor? previous, "
      "float step_size, float omega_1, float omega_2) -> ()");
}
