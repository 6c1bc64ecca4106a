// CUDA kernels of Precise RoI Pooling, on raw pointers: what includes this needs no nvcc, what implements it no torch
// headers.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace iounet::cuda {

constexpr int kMaxLevels = 16;
constexpr size_t kMaxSharedBytes = 48 * 1024;

enum class Type { kFloat, kDouble, kHalf, kBFloat16 };

// One level of the feature pyramid (or of its gradient): N x height x width x channels, channels innermost.
struct Level {
  void* data;
  int height;
  int width;
  double scale;  // cells per image pixel
};

// Passed to the kernels by value. A RoI that is not finite, or whose batch index or level is out of range, gives 0.
struct Problem {
  Level levels[kMaxLevels];
  int num_levels;
  int batch_size;
  int channels;
  int pooled_height;
  int pooled_width;
  const void* rois;          // K x 5, float or double: batch index, x1, y1, x2, y2 in image pixels
  const int64_t* roi_level;  // K; null: by area, or all are of level 0
  int64_t num_rois;
  bool double_rois;
  bool by_area;
  double level_areas[kMaxLevels - 1];  // smallest area, in square pixels, on each level but the first
};

// Shared memory that the hungriest kernel needs; beyond kMaxSharedBytes there is no launch.
size_t shared_bytes(const Problem& problem, Type type);

// output: K x channels x pooled_height x pooled_width.
cudaError_t forward(const Problem& problem, Type type, void* output, cudaStream_t stream);

// grad_output: K x pooled_height x pooled_width x channels, of `type`. Adds to the levels, which are of type double for
// kDouble and float for all others.
cudaError_t feature_gradient(const Problem& problem, Type type, const void* grad_output, cudaStream_t stream);

// grad_output: as above. grad_rois: K x 5, of the type of the rois.
cudaError_t coordinate_gradient(const Problem& problem, Type type, const void* grad_output, void* grad_rois,
                                cudaStream_t stream);

}  // namespace iounet::cuda
