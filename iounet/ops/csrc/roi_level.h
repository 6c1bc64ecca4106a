// The choice of a RoI's pyramid level by its area, shared by the CPU and CUDA kernels.
#pragma once

#include "host_device.h"

namespace iounet {

// Level of a RoI by its area: how many of the ascending bounds it reaches. `row` is (batch index, x1, y1, x2, y2), and
// T the type that these were given in, so that the area and the bounds round as they would in a tensor of it. NaN is of
// level 0.
template <typename T>
IOUNET_HOST_DEVICE int level_of(const double* row, const double* bounds, int count) {
  const T area = (static_cast<T>(row[3]) - static_cast<T>(row[1])) * (static_cast<T>(row[4]) - static_cast<T>(row[2]));
  int level = 0;
  while (level < count && area >= static_cast<T>(bounds[level])) ++level;
  return level;
}

}  // namespace iounet
