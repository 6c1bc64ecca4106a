// Launches of the CUDA kernels of Precise RoI Pooling.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "prroi_pool_kernel.cuh"

namespace iounet::cuda {
namespace {

// Calls body with a value of the features' type and one of the type that sums are computed in.
template <typename Body>
cudaError_t dispatch(Type type, const Body& body) {
  switch (type) {
    case Type::kFloat:
      body(float{}, float{});
      break;
    case Type::kDouble:
      body(double{}, double{});
      break;
    case Type::kHalf:
      body(__half{}, float{});
      break;
    case Type::kBFloat16:
      body(__nv_bfloat16{}, float{});
      break;
  }
  return cudaGetLastError();
}

}  // namespace

size_t shared_bytes(const Problem& problem, Type type) {
  return coordinate_bytes(problem, type == Type::kDouble ? sizeof(double) : sizeof(float));
}

cudaError_t forward(const Problem& problem, Type type, void* output, cudaStream_t stream) {
  return dispatch(type, [&](auto feature, auto sum) {
    using T = decltype(feature);
    using A = decltype(sum);
    const dim3 grid(static_cast<unsigned>(problem.num_rois * problem.pooled_height));
    forward_kernel<T, A><<<grid, kThreads, weight_bytes(problem, sizeof(A), false), stream>>>(
        problem, static_cast<T*>(output), max_pairs_y(problem), max_pairs_x(problem));
  });
}

cudaError_t feature_gradient(const Problem& problem, Type type, const void* grad_output, cudaStream_t stream) {
  return dispatch(type, [&](auto feature, auto sum) {
    using T = decltype(feature);
    using A = decltype(sum);
    const dim3 grid(static_cast<unsigned>(problem.num_rois), kRowBlocks);
    feature_gradient_kernel<T, A><<<grid, kThreads, weight_bytes(problem, sizeof(A), false), stream>>>(
        problem, static_cast<const T*>(grad_output), max_pairs_y(problem), max_pairs_x(problem));
  });
}

cudaError_t coordinate_gradient(const Problem& problem, Type type, const void* grad_output, void* grad_rois,
                                cudaStream_t stream) {
  return dispatch(type, [&](auto feature, auto sum) {
    using T = decltype(feature);
    using A = decltype(sum);
    const dim3 grid(static_cast<unsigned>(problem.num_rois));
    const dim3 block(kChannelThreads, kBinThreads);
    coordinate_gradient_kernel<T, A><<<grid, block, coordinate_bytes(problem, sizeof(A)), stream>>>(
        problem, static_cast<const T*>(grad_output), grad_rois, max_pairs_y(problem), max_pairs_x(problem));
  });
}

}  // namespace iounet::cuda
