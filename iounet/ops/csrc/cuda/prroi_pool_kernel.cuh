// CUDA kernels of Precise RoI Pooling.
//
// A block first writes the weights of its RoI to shared memory; then each thread works on channels of its own, so that
// neighbouring threads read neighbouring addresses.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../prroi_pool_math.h"
#include "../roi_level.h"
#include "prroi_pool_kernel.h"

namespace iounet::cuda {

constexpr int kThreads = 128;        // of the forward pass and the feature gradient
constexpr int kRowBlocks = 8;        // blocks that share the rows of one RoI in the feature gradient
constexpr int kChannelThreads = 32;  // of the coordinate gradient
constexpr int kBinThreads = 8;       // likewise; a power of two
constexpr int kReductionThreads = kChannelThreads * kBinThreads;

// Upper bound on the (bin, cell) pairs that touch: every cell once, and up to three more at the ends of each bin.
inline int64_t max_pairs(int64_t bins, int64_t size) { return size + 3 * bins + 1; }

inline int64_t max_pairs_y(const Problem& problem) {
  int height = 0;
  for (int level = 0; level < problem.num_levels; ++level) height = std::max(height, problem.levels[level].height);
  return max_pairs(problem.pooled_height, height);
}

inline int64_t max_pairs_x(const Problem& problem) {
  int width = 0;
  for (int level = 0; level < problem.num_levels; ++level) width = std::max(width, problem.levels[level].width);
  return max_pairs(problem.pooled_width, width);
}

// Shared memory in bytes, where the kernel's numbers have number_size bytes.
inline size_t weight_bytes(const Problem& problem, size_t number_size, bool derivatives) {
  const size_t pairs = max_pairs_y(problem) + max_pairs_x(problem);
  const size_t bins = size_t{0} + problem.pooled_height + problem.pooled_width;
  return (derivatives ? 3 : 1) * pairs * number_size + 3 * bins * sizeof(int);
}

inline size_t coordinate_bytes(const Problem& problem, size_t number_size) {
  return weight_bytes(problem, number_size, true) + 4 * kReductionThreads * number_size;
}

// The bins first ... last - 1 of a RoI along one axis, as cpu/prroi_pool_kernel.cpp has them.
template <typename A>
struct Axis {
  int first, last;
  int* begins;
  int* ends;
  int* offsets;
  A* weights;
  A* by_start;
  A* by_end;

  __device__ const A* weights_of(int p) const { return weights + offsets[p - first]; }
  __device__ const A* by_start_of(int p) const { return by_start + offsets[p - first]; }
  __device__ const A* by_end_of(int p) const { return by_end + offsets[p - first]; }
  __device__ int begin(int p) const { return begins[p - first]; }
  __device__ int end(int p) const { return ends[p - first]; }
};

// Hands out shared memory: numbers of type A first, then integers, so that all are aligned.
template <typename A>
struct SharedMemory {
  A* numbers;
  int* integers;

  __device__ Axis<A> axis(int first, int last, int pairs, bool derivatives) {
    Axis<A> axis;
    axis.first = first;
    axis.last = last;
    axis.weights = numbers;
    axis.by_start = numbers + pairs;
    axis.by_end = numbers + 2 * pairs;
    numbers += derivatives ? 3 * pairs : pairs;
    axis.begins = integers;
    axis.ends = integers + (last - first);
    axis.offsets = integers + 2 * (last - first);
    integers += 3 * (last - first);
    return axis;
  }
};

// Called by all threads of a block, which must be synchronized afterwards.
template <typename A>
__device__ void fill_axis(const Axis<A>& axis, const Bins& bins, int size, bool derivatives, int thread, int threads) {
  for (int p = axis.first + thread; p < axis.last; p += threads) {
    axis.begins[p - axis.first] = bins.begin(p, size);
    axis.ends[p - axis.first] = bins.end(p, size);
  }
  __syncthreads();
  if (thread == 0) {
    int total = 0;
    for (int p = axis.first; p < axis.last; ++p) {
      axis.offsets[p - axis.first] = total - axis.begin(p);
      total += axis.end(p) - axis.begin(p);
    }
  }
  __syncthreads();
  for (int p = axis.first; p < axis.last; ++p) {
    const int offset = axis.offsets[p - axis.first];
    for (int i = axis.begin(p) + thread; i < axis.end(p); i += threads) {
      const Weight weight = bins.weight(p, i);
      axis.weights[offset + i] = static_cast<A>(weight.mean);
      if (derivatives) {
        axis.by_start[offset + i] = static_cast<A>(weight.by_start);
        axis.by_end[offset + i] = static_cast<A>(weight.by_end);
      }
    }
  }
}

// A RoI in the cells of its level. Made by all threads of a block together: `usable` is the same for all.
struct Roi {
  double x1, y1, x2, y2;
  int level, image;
  bool usable;

  __device__ Roi(const Problem& problem, int64_t k, int thread, int threads) {
    double row[5];
    bool finite = true;
    for (int n = 0; n < 5; ++n) {
      row[n] = problem.double_rois ? static_cast<const double*>(problem.rois)[5 * k + n]
                                   : static_cast<const float*>(problem.rois)[5 * k + n];
      finite = finite && row[n] - row[n] == 0.0;
    }
    int64_t roi_level = problem.roi_level ? problem.roi_level[k] : 0;
    if (problem.by_area) {
      roi_level = problem.double_rois ? level_of<double>(row, problem.level_areas, problem.num_levels - 1)
                                      : level_of<float>(row, problem.level_areas, problem.num_levels - 1);
    }
    usable = finite && roi_level >= 0 && roi_level < problem.num_levels && row[0] >= 0.0 &&
             row[0] < problem.batch_size && row[0] == floor(row[0]);
    bool empty = false;
    if (usable) {
      level = static_cast<int>(roi_level);
      image = static_cast<int>(row[0]);
      const double scale = problem.levels[level].scale;
      x1 = row[1] * scale;
      y1 = row[2] * scale;
      x2 = row[3] * scale;
      y2 = row[4] * scale;
      const Bins y(y1, y2, problem.pooled_height);
      const Bins x(x1, x2, problem.pooled_width);
      for (int p = thread; p < y.count; p += threads) empty = empty || y.empty(p);
      for (int q = thread; q < x.count; q += threads) empty = empty || x.empty(q);
    }
    usable = !__syncthreads_or(!usable || empty);
  }

  template <typename T>
  __device__ T* image_data(const Problem& problem) const {
    const Level& map = problem.levels[level];
    return static_cast<T*>(map.data) + static_cast<int64_t>(image) * map.height * map.width * problem.channels;
  }
};

// One block per RoI and row of bins.
template <typename T, typename A>
__global__ void forward_kernel(Problem problem, T* output, int pairs_y, int pairs_x) {
  extern __shared__ double shared_memory[];
  const int height = problem.pooled_height;
  const int width = problem.pooled_width;
  const int channels = problem.channels;
  const int64_t k = blockIdx.x / height;
  const int p = blockIdx.x % height;
  const int thread = threadIdx.x;
  const int threads = blockDim.x;
  T* result = output + (k * channels * height + p) * width;
  const Roi roi(problem, k, thread, threads);
  if (!roi.usable) {
    for (int c = thread; c < channels; c += threads) {
      for (int q = 0; q < width; ++q) result[static_cast<int64_t>(c) * height * width + q] = static_cast<T>(A(0));
    }
    return;
  }
  SharedMemory<A> memory{reinterpret_cast<A*>(shared_memory),
                         reinterpret_cast<int*>(reinterpret_cast<A*>(shared_memory) + pairs_y + pairs_x)};
  const Axis<A> y = memory.axis(p, p + 1, pairs_y, false);
  const Axis<A> x = memory.axis(0, width, pairs_x, false);
  const Level& map = problem.levels[roi.level];
  fill_axis(y, Bins(roi.y1, roi.y2, height), map.height, false, thread, threads);
  fill_axis(x, Bins(roi.x1, roi.x2, width), map.width, false, thread, threads);
  __syncthreads();

  const T* image = roi.image_data<const T>(problem);
  const int64_t row_size = static_cast<int64_t>(map.width) * channels;
  const A* weights_y = y.weights_of(p);
  for (int c = thread; c < channels; c += threads) {
    for (int q = 0; q < width; ++q) {
      const A* weights_x = x.weights_of(q);
      A sum = 0;
      for (int i = y.begin(p); i < y.end(p); ++i) {
        const T* row = image + i * row_size + c;
        A row_sum = 0;
        for (int j = x.begin(q); j < x.end(q); ++j) {
          row_sum += weights_x[j] * static_cast<A>(row[static_cast<int64_t>(j) * channels]);
        }
        sum += weights_y[i] * row_sum;
      }
      result[static_cast<int64_t>(c) * height * width + q] = static_cast<T>(sum);
    }
  }
}

// kRowBlocks blocks per RoI (blockIdx.y): one atomic addition for each cell and channel of the RoI's window.
template <typename T, typename A>
__global__ void feature_gradient_kernel(Problem problem, const T* grad_output, int pairs_y, int pairs_x) {
  extern __shared__ double shared_memory[];
  const int height = problem.pooled_height;
  const int width = problem.pooled_width;
  const int channels = problem.channels;
  const int64_t k = blockIdx.x;
  const int thread = threadIdx.x;
  const int threads = blockDim.x;
  const Roi roi(problem, k, thread, threads);
  if (!roi.usable) return;
  SharedMemory<A> memory{reinterpret_cast<A*>(shared_memory),
                         reinterpret_cast<int*>(reinterpret_cast<A*>(shared_memory) + pairs_y + pairs_x)};
  const Axis<A> y = memory.axis(0, height, pairs_y, false);
  const Axis<A> x = memory.axis(0, width, pairs_x, false);
  const Level& map = problem.levels[roi.level];
  fill_axis(y, Bins(roi.y1, roi.y2, height), map.height, false, thread, threads);
  fill_axis(x, Bins(roi.x1, roi.x2, width), map.width, false, thread, threads);
  __syncthreads();

  A* image = roi.image_data<A>(problem);
  const T* grad = grad_output + k * height * width * channels;
  int first_p = 0;
  for (int i = y.begin(0) + blockIdx.y; i < y.end(height - 1); i += gridDim.y) {
    while (y.end(first_p) <= i) ++first_p;
    int first_q = 0;
    for (int j = x.begin(0); j < x.end(width - 1); ++j) {
      while (x.end(first_q) <= j) ++first_q;
      A* cell = image + (static_cast<int64_t>(i) * map.width + j) * channels;
      for (int c = thread; c < channels; c += threads) {
        A sum = 0;
        for (int p = first_p; p < height && y.begin(p) <= i; ++p) {
          A row_sum = 0;
          for (int q = first_q; q < width && x.begin(q) <= j; ++q) {
            row_sum += x.weights_of(q)[j] * static_cast<A>(grad[(p * width + q) * static_cast<int64_t>(channels) + c]);
          }
          sum += y.weights_of(p)[i] * row_sum;
        }
        atomicAdd(cell + c, sum);
      }
    }
  }
}

// One block per RoI, of kChannelThreads x kBinThreads. The forward sum with the weights along one axis replaced by
// their derivatives, times the gradient; then summed over the block in a fixed order.
template <typename T, typename A>
__global__ void coordinate_gradient_kernel(Problem problem, const T* grad_output, void* grad_rois, int pairs_y,
                                           int pairs_x) {
  extern __shared__ double shared_memory[];
  const int height = problem.pooled_height;
  const int width = problem.pooled_width;
  const int channels = problem.channels;
  const int64_t k = blockIdx.x;
  const int thread = threadIdx.y * kChannelThreads + threadIdx.x;
  const Roi roi(problem, k, thread, kReductionThreads);
  A* partial = reinterpret_cast<A*>(shared_memory);  // 4 x kReductionThreads
  A sums[4] = {0, 0, 0, 0};                          // for x1, y1, x2, y2
  if (roi.usable) {                                  // for all threads of the block or for none
    A* numbers = partial + 4 * kReductionThreads;
    SharedMemory<A> memory{numbers, reinterpret_cast<int*>(numbers + 3 * (pairs_y + pairs_x))};
    const Axis<A> y = memory.axis(0, height, pairs_y, true);
    const Axis<A> x = memory.axis(0, width, pairs_x, true);
    const Level& map = problem.levels[roi.level];
    fill_axis(y, Bins(roi.y1, roi.y2, height), map.height, true, thread, kReductionThreads);
    fill_axis(x, Bins(roi.x1, roi.x2, width), map.width, true, thread, kReductionThreads);
    __syncthreads();

    const T* image = roi.image_data<const T>(problem);
    const int64_t row_size = static_cast<int64_t>(map.width) * channels;
    for (int p = threadIdx.y; p < height; p += kBinThreads) {
      for (int q = 0; q < width; ++q) {
        // No cell: no influence, even if the gradient is NaN.
        if (y.begin(p) >= y.end(p) || x.begin(q) >= x.end(q)) continue;
        const T* grad = grad_output + ((k * height + p) * width + q) * channels;
        for (int c = threadIdx.x; c < channels; c += kChannelThreads) {
          A bin[4] = {0, 0, 0, 0};
          for (int i = y.begin(p); i < y.end(p); ++i) {
            const T* row = image + i * row_size + c;
            A row_sum = 0, by_start = 0, by_end = 0;
            for (int j = x.begin(q); j < x.end(q); ++j) {
              const A value = static_cast<A>(row[static_cast<int64_t>(j) * channels]);
              row_sum += x.weights_of(q)[j] * value;
              by_start += x.by_start_of(q)[j] * value;
              by_end += x.by_end_of(q)[j] * value;
            }
            bin[0] += y.weights_of(p)[i] * by_start;
            bin[1] += y.by_start_of(p)[i] * row_sum;
            bin[2] += y.weights_of(p)[i] * by_end;
            bin[3] += y.by_end_of(p)[i] * row_sum;
          }
          for (int n = 0; n < 4; ++n) sums[n] += static_cast<A>(grad[c]) * bin[n];
        }
      }
    }
  }

  for (int n = 0; n < 4; ++n) partial[n * kReductionThreads + thread] = sums[n];
  for (int half = kReductionThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) {
      for (int n = 0; n < 4; ++n) {
        partial[n * kReductionThreads + thread] += partial[n * kReductionThreads + thread + half];
      }
    }
  }
  if (thread > 0) return;
  for (int n = 0; n < 5; ++n) {
    double value = 0.0;
    if (n > 0 && roi.usable) value = problem.levels[roi.level].scale * partial[(n - 1) * kReductionThreads];
    if (problem.double_rois) {
      static_cast<double*>(grad_rois)[5 * k + n] = value;
    } else {
      static_cast<float*>(grad_rois)[5 * k + n] = static_cast<float>(value);
    }
  }
}

}  // namespace iounet::cuda
