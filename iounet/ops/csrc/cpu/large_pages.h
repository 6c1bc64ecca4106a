// Tensors in large pages of memory.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cstddef>
#include <cstdint>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace iounet::cpu {

// As at::empty. Memory that is new to the process is mapped at its first use, a page at a time, which takes longer than
// the kernels take to fill it. So this asks for large pages, where the system leaves that to the program.
inline at::Tensor empty_in_large_pages(at::IntArrayRef sizes, at::TensorOptions options, at::MemoryFormat layout) {
  at::Tensor tensor = at::empty(sizes, options, layout);
#ifdef MADV_HUGEPAGE
  constexpr size_t kPage = 4096;
  constexpr size_t kLargePage = 2 << 20;
  if (tensor.nbytes() >= 2 * kLargePage) {
    const auto start = reinterpret_cast<uintptr_t>(tensor.mutable_data_ptr());
    const uintptr_t first = (start + kPage - 1) / kPage * kPage;
    madvise(reinterpret_cast<void*>(first), start + tensor.nbytes() - first, MADV_HUGEPAGE);  // advice: it may fail
  }
#endif
  return tensor;
}

}  // namespace iounet::cpu
