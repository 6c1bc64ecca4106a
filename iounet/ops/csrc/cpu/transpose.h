// Transposition of a block of a matrix, a square of vectors at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "vectors.h"

namespace iounet::cpu {

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define IOUNET_SHUFFLES 1
#endif
#endif

#ifdef IOUNET_SHUFFLES
// Exchanges, between the two vectors, the lanes that differ from their places in bit S.
template <size_t S, typename V, size_t... lane>
[[gnu::always_inline]] inline void exchange(V& a, V& b, std::index_sequence<lane...>) {
  constexpr size_t L = sizeof...(lane);
  const V low = __builtin_shufflevector(a, b, ((lane & S) ? L + lane - S : lane)...);
  b = __builtin_shufflevector(a, b, ((lane & S) ? L + lane : lane + S)...);
  a = low;
}

template <size_t S, typename V, size_t L>
[[gnu::always_inline]] inline void transpose(V (&rows)[L]) {
#pragma GCC unroll 16
  for (size_t i = 0; i < L; ++i) {
    if ((i & S) == 0) exchange<S>(rows[i], rows[i | S], std::make_index_sequence<L>{});
  }
  if constexpr (S > 1) transpose<S / 2>(rows);
}

// One square of as many rows and columns as a vector has lanes.
template <typename T>
void transpose_tile(const T* values, int64_t stride, T* result, int64_t result_stride) {
  constexpr size_t lanes = sizeof(Vector<T>) / sizeof(T);
  Vector<T> rows[lanes];
#pragma GCC unroll 16
  for (size_t i = 0; i < lanes; ++i) rows[i] = load<Vector<T>>(values + i * stride);
  transpose<lanes / 2>(rows);
#pragma GCC unroll 16
  for (size_t i = 0; i < lanes; ++i) store(result + i * result_stride, rows[i]);
}
#endif

// result[j * result_stride + i] = values[i * stride + j] for i < height, j < width: between C x PP (a RoI's output) and
// PP x block of channels (what the kernels work on). Element by element it would take longer than the pooling.
template <typename T>
void transpose_block(const T* values, int height, int width, int64_t stride, T* result, int64_t result_stride) {
  int tiled_height = 0;
  int tiled_width = 0;
#ifdef IOUNET_SHUFFLES
  constexpr int lanes = sizeof(Vector<T>) / sizeof(T);
  tiled_height = height / lanes * lanes;
  tiled_width = width / lanes * lanes;
  for (int i = 0; i < tiled_height; i += lanes) {
    for (int j = 0; j < tiled_width; j += lanes) {
      transpose_tile(values + i * stride + j, stride, result + j * result_stride + i, result_stride);
    }
  }
#endif
  for (int i = 0; i < height; ++i) {
    for (int j = i < tiled_height ? tiled_width : 0; j < width; ++j) {
      result[j * result_stride + i] = values[i * stride + j];
    }
  }
}

}  // namespace iounet::cpu
