// What Python calls, by ctypes: plain C functions on raw pointers, which need neither torch's headers nor Python's. So
// one compiled library serves every version of both. iounet/ops/_cpu.py, their only caller, has checked the shapes,
// dtypes, devices and layouts.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "../ascent_math.h"
#include "../roi_level.h"
#include "layout.h"
#include "prroi_pool_kernel.h"
#include "threads.h"

#define IOUNET_EXPORT extern "C" __attribute__((visibility("default")))

namespace iounet::cpu {

Runtime runtime{};

namespace {

// A type for whatever is float or double: with(is_double, [&](auto number) { using T = decltype(number); ... }).
template <typename Body>
void with_type(bool is_double, const Body& body) {
  if (is_double) {
    body(double{});
  } else {
    body(float{});
  }
}

template <typename T>
std::vector<Level<T>> levels_of(void* const* maps, const int* sizes, const double* scales, int count) {
  std::vector<Level<T>> levels;
  for (int i = 0; i < count; ++i) {
    levels.push_back({static_cast<T*>(maps[i]), sizes[2 * i], sizes[2 * i + 1], scales[i]});
  }
  return levels;
}

// Whether there was memory enough.
template <typename Body>
bool succeeds(const Body& body) {
  try {
    body();
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace
}  // namespace iounet::cpu

using namespace iounet;

// See threads.h.
IOUNET_EXPORT void iounet_use_threads_of(void (*GOMP_parallel)(void (*)(void*), void*, unsigned, unsigned),
                                         int (*omp_get_thread_num)(), int (*omp_get_num_threads)()) {
  cpu::runtime = {GOMP_parallel, omp_get_thread_num, omp_get_num_threads};
}

// The first row of RoIs, K x 5, that is not finite, of no image or of no level; -1 if there is none.
// level: K, read, or with `areas` (null: none) written; null: all are of level 0. used: which levels have a RoI.
IOUNET_EXPORT int64_t iounet_check_rois(const double* rois, int64_t count, int64_t batch_size, int64_t* level,
                                        int num_levels, const double* areas, int rois_were_double, bool* used) {
  for (int64_t k = 0; k < count; ++k) {
    const double* row = rois + 5 * k;
    if (!std::all_of(row, row + 5, [](double value) { return std::isfinite(value); })) return k;
    if (!(row[0] >= 0 && row[0] < batch_size && row[0] == std::floor(row[0]))) return k;
    if (areas != nullptr) {
      level[k] =
          rois_were_double ? level_of<double>(row, areas, num_levels - 1) : level_of<float>(row, areas, num_levels - 1);
    }
    const int64_t found = level != nullptr ? level[k] : 0;
    if (!(found >= 0 && found < num_levels)) return k;
    used[found] = true;
  }
  return -1;
}

// Memory that is new to the process is mapped at its first use, a page at a time, which takes longer than the kernels
// take to fill it. So this asks for large pages, where the system leaves that to the program. Advice: it may fail.
IOUNET_EXPORT void iounet_ask_for_large_pages(void* data, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kPage = 4096;
  const auto start = reinterpret_cast<uintptr_t>(data);
  const uintptr_t first = (start + kPage - 1) / kPage * kPage;
  madvise(reinterpret_cast<void*>(first), start + bytes - first, MADV_HUGEPAGE);
#else
  (void)data, (void)bytes;
#endif
}

// result[n][j][i] = values[n][i][j], for `count` matrices of height x width.
IOUNET_EXPORT int iounet_transpose(int is_double, const void* values, int64_t count, int64_t height, int64_t width,
                                   void* result, int threads) {
  return cpu::succeeds([&] {
    cpu::with_type(is_double, [&](auto number) {
      using T = decltype(number);
      cpu::transpose_matrices(static_cast<const T*>(values), count, height, width, static_cast<T*>(result), threads);
    });
  });
}

// The three kernels, see prroi_pool_kernel.h. A map may be null where it has no RoI; sizes: its height and its width.
// They return whether there was memory enough.
IOUNET_EXPORT int iounet_forward(int is_double, const double* rois, const int64_t* level, int64_t count,
                                 int64_t channels, int pooled_height, int pooled_width, void* const* maps,
                                 const int* sizes, const double* scales, int num_levels, int threads, void* output) {
  return cpu::succeeds([&] {
    cpu::with_type(is_double, [&](auto number) {
      using T = decltype(number);
      cpu::forward<T>({rois, level, count, channels, pooled_height, pooled_width, threads},
                      cpu::levels_of<const T>(maps, sizes, scales, num_levels), static_cast<T*>(output));
    });
  });
}

IOUNET_EXPORT int iounet_feature_gradient(int is_double, const double* rois, const int64_t* level, int64_t count,
                                          int64_t channels, int pooled_height, int pooled_width, void* const* maps,
                                          const int* sizes, const double* scales, int num_levels, int threads,
                                          const void* grad_output, int64_t batch_size) {
  return cpu::succeeds([&] {
    cpu::with_type(is_double, [&](auto number) {
      using T = decltype(number);
      cpu::feature_gradient<T>({rois, level, count, channels, pooled_height, pooled_width, threads},
                               static_cast<const T*>(grad_output), batch_size,
                               cpu::levels_of<T>(maps, sizes, scales, num_levels));
    });
  });
}

IOUNET_EXPORT int iounet_coordinate_gradient(int is_double, const double* rois, const int64_t* level, int64_t count,
                                             int64_t channels, int pooled_height, int pooled_width, void* const* maps,
                                             const int* sizes, const double* scales, int num_levels, int threads,
                                             const void* grad_output, double* grad_rois) {
  return cpu::succeeds([&] {
    cpu::with_type(is_double, [&](auto number) {
      using T = decltype(number);
      cpu::coordinate_gradient<T>({rois, level, count, channels, pooled_height, pooled_width, threads},
                                  cpu::levels_of<const T>(maps, sizes, scales, num_levels),
                                  static_cast<const T*>(grad_output), grad_rois);
    });
  });
}

// See ascent_math.h.
IOUNET_EXPORT void iounet_ascent_step(int is_double, void* boxes, bool* stopped, const void* gradient, const void* ious,
                                      const void* previous, int64_t count, int64_t columns, double step_size,
                                      double omega_1, double omega_2) {
  cpu::with_type(is_double, [&](auto number) {
    using T = decltype(number);
    const Ascent<T> ascent{static_cast<T*>(boxes),
                           stopped,
                           static_cast<const T*>(gradient),
                           static_cast<const T*>(ious),
                           static_cast<const T*>(previous),
                           count,
                           columns,
                           static_cast<T>(step_size),
                           static_cast<T>(omega_1),
                           static_cast<T>(omega_2)};
    for (int64_t k = 0; k < count; ++k) ascent(k);
  });
}
