// CPU kernels of Precise RoI Pooling, on raw pointers. Instantiated for float and double.
#pragma once

#include <cstdint>
#include <vector>

namespace iounet::cpu {

// One level of the feature pyramid (or of its gradient): N x height x width x channels, channels innermost.
template <typename T>
struct Level {
  T* data;
  int height;
  int width;
  double scale;  // cells per image pixel
};

struct Rois {
  const double* rows;     // K x 5: batch index, x1, y1, x2, y2 in image pixels; finite, the batch index checked
  const int64_t* levels;  // K, checked; null: all are of level 0
  int64_t count;
  int64_t channels;
  int pooled_height;
  int pooled_width;
  int threads;  // at most
};

// output: K x channels x pooled_height x pooled_width.
template <typename T>
void forward(const Rois& rois, const std::vector<Level<const T>>& levels, T* output);

// Adds to `levels`, in the order of the RoIs whatever the number of threads. batch_size is N.
template <typename T>
void feature_gradient(const Rois& rois, const T* grad_output, int64_t batch_size, const std::vector<Level<T>>& levels);

// grad_rois: K x 5, for the batch index (always 0), x1, y1, x2, y2.
template <typename T>
void coordinate_gradient(const Rois& rois, const std::vector<Level<const T>>& levels, const T* grad_output,
                         double* grad_rois);

}  // namespace iounet::cpu
