// CUDA kernel of the refinement step, on raw pointers.
#pragma once

#include <cuda_runtime_api.h>

#include "../ascent_math.h"

namespace iounet::cuda {

cudaError_t ascend(const Ascent<float>& ascent, cudaStream_t stream);
cudaError_t ascend(const Ascent<double>& ascent, cudaStream_t stream);

}  // namespace iounet::cuda
