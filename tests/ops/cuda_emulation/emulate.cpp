// Runs the CUDA kernels of Precise RoI Pooling on the CPU. Each CUDA thread is a coroutine that runs up to the next
// __syncthreads(). Within such a phase the threads run in ascending or, if asked, descending order: a kernel that lacks
// a barrier gives different results. Threads of a block that do not all meet at a barrier are an error, and so is a
// write beyond the shared memory that the launch asks for.
#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "cuda/prroi_pool_kernel.cuh"

Index threadIdx, blockIdx, blockDim, gridDim;

namespace iounet::cuda {
constexpr size_t kGuardBytes = 4096;
double shared_memory[(kMaxSharedBytes + kGuardBytes) / sizeof(double)];
}  // namespace iounet::cuda

namespace {

constexpr size_t kStackBytes = 64 * 1024;
constexpr unsigned char kGuard = 0xA5;

ucontext_t scheduler, *running;
std::function<void()> kernel;
bool finished;
int any_pending, any;  // of the predicates given to __syncthreads_or() in this phase, and in the last one

void thread_main() {
  kernel();
  finished = true;
}

// Returns 0, 1 if threads parted at a barrier, or 2 if shared memory was overrun.
int run_block(bool descending, size_t shared_bytes) {
  const unsigned count = blockDim.x * blockDim.y;
  static std::vector<std::vector<char>> stacks;
  stacks.resize(count, std::vector<char>(kStackBytes));
  std::vector<ucontext_t> threads(count);
  for (unsigned t = 0; t < count; ++t) {
    getcontext(&threads[t]);
    threads[t].uc_stack.ss_sp = stacks[t].data();
    threads[t].uc_stack.ss_size = kStackBytes;
    threads[t].uc_link = &scheduler;
    makecontext(&threads[t], thread_main, 0);
  }
  auto* bytes = reinterpret_cast<unsigned char*>(iounet::cuda::shared_memory);
  std::memset(bytes, 0xFF, shared_bytes);  // NaN, should it be read before it is written
  std::memset(bytes + shared_bytes, kGuard, iounet::cuda::kGuardBytes);
  for (unsigned num_finished = 0; num_finished == 0;) {
    for (unsigned n = 0; n < count; ++n) {
      const unsigned t = descending ? count - 1 - n : n;
      threadIdx = {t % blockDim.x, t / blockDim.x, 0};
      running = &threads[t];
      finished = false;
      swapcontext(&scheduler, running);
      num_finished += finished;
    }
    if (num_finished != 0 && num_finished != count) return 1;
    any = any_pending;
    any_pending = 0;
  }
  for (size_t i = 0; i < iounet::cuda::kGuardBytes; ++i) {
    if (bytes[shared_bytes + i] != kGuard) return 2;
  }
  return 0;
}

int launch(Index grid, Index block, size_t shared_bytes, bool descending) {
  gridDim = grid;
  blockDim = block;
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      blockIdx = {x, y, 0};
      if (const int error = run_block(descending, shared_bytes)) return error;
    }
  }
  return 0;
}

// As prroi_pool_kernel.cu does.
template <typename T>
int run(int which, const iounet::cuda::Problem& problem, const void* grad_output, void* result, bool descending) {
  using namespace iounet::cuda;
  const int pairs_y = max_pairs_y(problem);
  const int pairs_x = max_pairs_x(problem);
  const auto num_rois = static_cast<unsigned>(problem.num_rois);
  const T* grad = static_cast<const T*>(grad_output);
  if (which == 0) {
    kernel = [&] { forward_kernel<T, T>(problem, static_cast<T*>(result), pairs_y, pairs_x); };
    return launch({num_rois * problem.pooled_height, 1, 1}, {kThreads, 1, 1}, weight_bytes(problem, sizeof(T), false),
                  descending);
  }
  if (which == 1) {
    kernel = [&] { feature_gradient_kernel<T, T>(problem, grad, pairs_y, pairs_x); };
    return launch({num_rois, kRowBlocks, 1}, {kThreads, 1, 1}, weight_bytes(problem, sizeof(T), false), descending);
  }
  kernel = [&] { coordinate_gradient_kernel<T, T>(problem, grad, result, pairs_y, pairs_x); };
  return launch({num_rois, 1, 1}, {kChannelThreads, kBinThreads, 1}, coordinate_bytes(problem, sizeof(T)), descending);
}

}  // namespace

void __syncthreads() {
  // threadIdx is restored for a thread that goes on, as others have run in the meantime.
  const Index own = threadIdx;
  ucontext_t* const self = running;
  swapcontext(self, &scheduler);
  threadIdx = own;
}

int __syncthreads_or(int predicate) {
  any_pending |= predicate;
  __syncthreads();
  return any;
}

// which: 0 forward (writes result), 1 feature gradient (adds to the levels), 2 coordinate gradient (writes result).
// roi_level or level_areas is null.
extern "C" int emulate(int which, int is_double, int descending, int num_levels, void** data, const int* heights,
                       const int* widths, const double* scales, int batch_size, int channels, int pooled_height,
                       int pooled_width, const void* rois, const int64_t* roi_level, const double* level_areas,
                       int64_t num_rois, const void* grad_output, void* result) {
  iounet::cuda::Problem problem{};
  for (int i = 0; i < num_levels; ++i) problem.levels[i] = {data[i], heights[i], widths[i], scales[i]};
  problem.num_levels = num_levels;
  problem.batch_size = batch_size;
  problem.channels = channels;
  problem.pooled_height = pooled_height;
  problem.pooled_width = pooled_width;
  problem.rois = rois;
  problem.roi_level = roi_level;
  problem.by_area = level_areas != nullptr;
  if (problem.by_area) std::copy_n(level_areas, num_levels - 1, problem.level_areas);
  problem.num_rois = num_rois;
  problem.double_rois = is_double;
  return is_double ? run<double>(which, problem, grad_output, result, descending)
                   : run<float>(which, problem, grad_output, result, descending);
}
