// Conversion of feature maps between NCHW and NHWC: a blocked transposition.
#pragma once

#include <algorithm>
#include <cstdint>

#include "threads.h"
#include "transpose.h"

namespace iounet::cpu {

// result[n][j][i] = values[n][i][j], for `count` matrices of height x width; several times faster than contiguous().
template <typename T>
void transpose_matrices(const T* values, int64_t count, int64_t height, int64_t width, T* result, int threads) {
  // Along the longer side, which is that of the cells, in blocks; all channels of a block of cells then fit the cache.
  constexpr int64_t kSide = 64;
  const bool tall = height > width;
  const int64_t blocks = ((tall ? height : width) + kSide - 1) / kSide;
  parallel_for(threads, count * blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      const int64_t matrix = block / blocks * height * width;
      const int64_t start = block % blocks * kSide;
      for (int64_t other = 0; other < (tall ? width : height); other += kSide) {
        const int64_t i = tall ? start : other;
        const int64_t j = tall ? other : start;
        transpose_block(values + matrix + i * width + j, static_cast<int>(std::min(kSide, height - i)),
                        static_cast<int>(std::min(kSide, width - j)), width, result + matrix + j * height + i, height);
      }
    }
  });
}

}  // namespace iounet::cpu
