// Stands in for CUDA's own header, so that the kernels compile as plain C++ and run on the CPU, thread by thread.
#pragma once

typedef int cudaError_t;
typedef void* cudaStream_t;

#define __device__
#define __global__
#define __shared__

struct Index {
  unsigned x = 0, y = 0, z = 0;
};
extern Index threadIdx, blockIdx, blockDim, gridDim;

void __syncthreads();
int __syncthreads_or(int predicate);

template <typename T>
T atomicAdd(T* address, T value) {
  const T before = *address;
  *address += value;
  return before;
}
