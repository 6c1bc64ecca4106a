// One step of IoU-Net's algorithm 2 (box refinement), shared by the CPU and CUDA kernels.
#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace iounet {

template <typename T>
struct Ascent {
  T* boxes;           // K x columns; the last four are x1, y1, x2, y2
  bool* stopped;      // K
  const T* gradient;  // as boxes
  const T* ious;      // K
  const T* previous;  // K; null in the first step
  int64_t count;      // K
  int64_t columns;
  T step_size, omega_1, omega_2;

  IOUNET_HOST_DEVICE void operator()(int64_t k) const {
    if (previous != nullptr) {
      const T change = ious[k] - previous[k];
      // NaN does not stop a box.
      if (std::abs(change) < omega_1 || change < omega_2) stopped[k] = true;
    }
    if (stopped[k]) return;
    T* box = boxes + k * columns + columns - 4;
    const T* slope = gradient + k * columns + columns - 4;
    const T size[2] = {box[2] - box[0], box[3] - box[1]};
    for (int i = 0; i < 4; ++i) box[i] += step_size * (slope[i] * size[i % 2]);
  }
};

}  // namespace iounet
