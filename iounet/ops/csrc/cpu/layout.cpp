// Conversion between NCHW and NHWC by a blocked transposition.
#include "layout.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>

#include "large_pages.h"
#include "transpose.h"

namespace iounet::cpu {
namespace {

// result[n][j][i] = values[n][i][j], for `count` matrices of height x width.
template <typename T>
void transpose_matrices(const T* values, int64_t count, int64_t height, int64_t width, T* result) {
  // Along the longer side, which is that of the cells, in blocks; all channels of a block of cells then fit the cache.
  constexpr int64_t kSide = 64;
  const bool tall = height > width;
  const int64_t blocks = ((tall ? height : width) + kSide - 1) / kSide;
  at::parallel_for(0, count * blocks, 1, [&](int64_t first, int64_t last) {
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

// A float or double tensor, of which `from` is the layout, in the other one; several times faster than contiguous().
at::Tensor convert(const at::Tensor& tensor, at::MemoryFormat from, at::MemoryFormat to) {
  const at::Tensor result = empty_in_large_pages(tensor.sizes(), tensor.options(), to);
  if (tensor.numel() == 0) return result;
  const int64_t cells = tensor.size(2) * tensor.size(3);
  const bool planar = from == at::MemoryFormat::Contiguous;
  const int64_t height = planar ? tensor.size(1) : cells;
  const int64_t width = planar ? cells : tensor.size(1);
  if (tensor.scalar_type() == at::kDouble) {
    transpose_matrices(tensor.const_data_ptr<double>(), tensor.size(0), height, width,
                       result.mutable_data_ptr<double>());
  } else {
    transpose_matrices(tensor.const_data_ptr<float>(), tensor.size(0), height, width, result.mutable_data_ptr<float>());
  }
  return result;
}

}  // namespace

at::Tensor to_channels_last(const at::Tensor& map) {
  constexpr auto kLast = at::MemoryFormat::ChannelsLast;
  if (map.is_contiguous(kLast) || !map.is_contiguous()) return map.contiguous(kLast);
  return convert(map, at::MemoryFormat::Contiguous, kLast);
}

at::Tensor as_input(const at::Tensor& gradient, const at::Tensor& input) {
  constexpr auto kLast = at::MemoryFormat::ChannelsLast;
  if (input.is_contiguous(kLast)) return gradient.to(input.scalar_type());
  return convert(gradient, kLast, at::MemoryFormat::Contiguous).to(input.scalar_type());
}

}  // namespace iounet::cpu
