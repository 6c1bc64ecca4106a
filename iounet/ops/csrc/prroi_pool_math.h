// The integrals of Precise RoI Pooling along one axis, shared by the CPU and CUDA kernels.
//
// A RoI is divided into `count` bins along the axis. The cells of the map sit at 0 ... size-1, and cell i has the hat
// function h(t) = max(0, 1 - |t|) around it. A bin's weight of cell i is the mean of h(x - i) over the bin.
#pragma once

#include <cmath>

#include "host_device.h"

namespace iounet {

IOUNET_HOST_DEVICE double hat(double t) {
  const double rest = 1.0 - fabs(t);
  return rest > 0.0 ? rest : 0.0;
}

IOUNET_HOST_DEVICE double clamp(double value, double low, double high) {
  return value < low ? low : (value > high ? high : value);
}

// Mean of the hat from lower to upper, where width = upper - lower. The terms of the integral are divided one by one:
// their difference would lose the digits of a bin much smaller than a cell.
IOUNET_HOST_DEVICE double mean_hat(double lower, double upper, double width) {
  const double low = clamp(lower, -1.0, 1.0);
  const double high = clamp(upper, -1.0, 1.0);
  const double share = lower > -1.0 && upper < 1.0 ? 1.0 : (high - low) / width;  // of the bin, within reach
  const double below = low * high >= 0.0 ? share * fabs(high + low) : (high * high + low * low) / width;
  return share - 0.5 * below;
}

// A bin's weight of a cell, and its derivatives with regard to the RoI's start and end.
struct Weight {
  double mean;
  double by_start;
  double by_end;
};

// Positions are relative to floor(start), so that they keep their digits however far the RoI lies from the origin.
struct Bins {
  double origin;
  double fraction;
  double length;
  int count;

  IOUNET_HOST_DEVICE Bins(double start, double end, int count)
      : origin(floor(start)), fraction(start - origin), length(end - start), count(count) {}

  IOUNET_HOST_DEVICE double edge(int k) const { return fraction + length * k / count; }

  // Whether bin p has no extent. True also for NaN, which compares as not greater.
  IOUNET_HOST_DEVICE bool empty(int p) const { return !(edge(p + 1) > edge(p)); }

  // The cells that bin p touches are begin(p) ... end(p) - 1, clipped to the map. They are clamped before the
  // conversion, as the position may be beyond any integer.
  IOUNET_HOST_DEVICE int begin(int p, int size) const {
    return static_cast<int>(clamp(floor(edge(p)) + origin, 0.0, size));
  }
  IOUNET_HOST_DEVICE int end(int p, int size) const {
    return static_cast<int>(clamp(ceil(edge(p + 1)) + 1.0 + origin, 0.0, size));
  }

  IOUNET_HOST_DEVICE Weight weight(int p, int cell) const {
    const double lower = edge(p);
    const double upper = edge(p + 1);
    const double width = upper - lower;
    const double relative = cell - origin;
    const double mean = mean_hat(lower - relative, upper - relative, width);
    double by_lower = (mean - hat(lower - relative)) / width;
    double by_upper = (hat(upper - relative) - mean) / width;
    if (relative - 1.0 < lower && upper < relative + 1.0 && (upper <= relative || lower >= relative)) {
      // Within one straight piece of the hat; the differences above would lose the digits of a small bin.
      by_lower = by_upper = upper <= relative ? 0.5 : -0.5;
    }
    // Edge k moves by 1 - k / count with the start of the RoI and by k / count with its end.
    return {mean, ((count - p) * by_lower + (count - p - 1) * by_upper) / count,
            (p * by_lower + (p + 1) * by_upper) / count};
  }
};

}  // namespace iounet
