// Marks a function that is compiled for the CPU and for CUDA devices alike.
#pragma once

#ifdef __CUDACC__
#define IOUNET_HOST_DEVICE __host__ __device__ inline
#else
#define IOUNET_HOST_DEVICE inline
#endif
