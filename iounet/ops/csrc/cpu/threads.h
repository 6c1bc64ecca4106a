// Threads for the CPU kernels: those of the OpenMP runtime that torch has loaded. So torch.set_num_threads() governs
// them, and no second pool of threads competes with torch's. The library is not linked to a runtime, since another
// torch brings another one: it is handed the entry points of the one that is there.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>

namespace iounet::cpu {

// The names are those of the OpenMP runtimes of GCC, LLVM and Intel, which all have them.
struct Runtime {
  void (*GOMP_parallel)(void (*body)(void*), void* data, unsigned threads, unsigned flags);
  int (*omp_get_thread_num)();
  int (*omp_get_num_threads)();
};

// All null: the kernels run on one thread.
extern Runtime runtime;

// Calls body(first, last) for shares of 0 ... count - 1, none smaller than `grain` where there are several; on as many
// threads as `threads` says, at most. Raises std::bad_alloc if a share did.
template <typename Body>
void parallel_for(int threads, int64_t count, int64_t grain, const Body& body) {
  const int64_t shares = std::min<int64_t>(threads, (count + grain - 1) / grain);
  if (shares <= 1 || runtime.GOMP_parallel == nullptr) {
    if (count > 0) body(int64_t{0}, count);
    return;
  }
  struct Work {
    const Body& body;
    int64_t count;
    std::atomic<bool> failed{false};
  } work{body, count};
  const auto run_share = [](void* data) {
    Work& work = *static_cast<Work*>(data);
    const int64_t share = runtime.omp_get_thread_num();
    const int64_t shares = runtime.omp_get_num_threads();  // may be fewer than were asked for
    const int64_t first = work.count * share / shares;
    const int64_t last = work.count * (share + 1) / shares;
    try {
      if (first < last) work.body(first, last);
    } catch (...) {  // an exception must not leave the runtime's frames; all there can be is a want of memory
      work.failed = true;
    }
  };
  runtime.GOMP_parallel(run_share, &work, static_cast<unsigned>(shares), 0);
  if (work.failed) throw std::bad_alloc();
}

}  // namespace iounet::cpu
