// CUDA kernel of the refinement step.
#include "ascent_kernel.h"

namespace iounet::cuda {
namespace {

constexpr int kThreads = 128;

// One thread per box.
template <typename T>
__global__ void ascent_kernel(Ascent<T> ascent) {
  const int64_t k = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (k < ascent.count) ascent(k);
}

template <typename T>
cudaError_t launch(const Ascent<T>& ascent, cudaStream_t stream) {
  ascent_kernel<T><<<static_cast<unsigned>((ascent.count + kThreads - 1) / kThreads), kThreads, 0, stream>>>(ascent);
  return cudaGetLastError();
}

}  // namespace

cudaError_t ascend(const Ascent<float>& ascent, cudaStream_t stream) { return launch(ascent, stream); }
cudaError_t ascend(const Ascent<double>& ascent, cudaStream_t stream) { return launch(ascent, stream); }

}  // namespace iounet::cuda
