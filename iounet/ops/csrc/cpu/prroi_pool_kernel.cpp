// CPU kernels of Precise RoI Pooling.
//
// They are separable: a RoI's window is read once, row by row. A row is first summed into the columns of bins (weights
// along x), then into the rows of bins that it belongs to (weights along y). All arithmetic on features is vectorized
// over channels, in blocks small enough for a RoI's P x P x block values to stay in the first-level cache.
#include "prroi_pool_kernel.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "../prroi_pool_math.h"
#include "threads.h"
#include "transpose.h"
#include "vectors.h"

namespace iounet::cpu {
namespace {

// The bins of one RoI along one axis, with the weights of the cells that they touch.
template <typename T>
struct Axis {
  std::vector<int> begins, ends;  // bin p touches the cells begins[p] ... ends[p] - 1; both never decrease with p
  std::vector<int> offsets;       // values[offsets[p] + i], for any of the three below, is that of bin p and cell i
  std::vector<T> weights, by_start, by_end;
  int begin, end;  // the window: the cells of all bins
  int64_t count;

  // Returns whether any cell of the map is touched by a RoI of non-zero extent.
  bool set(const Bins& bins, int size, bool derivatives = false) {
    count = bins.count;
    begins.resize(count);
    ends.resize(count);
    offsets.resize(count);
    weights.clear();
    by_start.clear();
    by_end.clear();
    for (int p = 0; p < count; ++p) {
      if (bins.empty(p)) return false;
      begins[p] = bins.begin(p, size);
      ends[p] = bins.end(p, size);
      offsets[p] = static_cast<int>(weights.size()) - begins[p];
      for (int i = begins[p]; i < ends[p]; ++i) {
        const Weight weight = bins.weight(p, i);
        weights.push_back(static_cast<T>(weight.mean));
        if (!derivatives) continue;
        by_start.push_back(static_cast<T>(weight.by_start));
        by_end.push_back(static_cast<T>(weight.by_end));
      }
    }
    begin = begins.front();
    end = ends.back();
    return begin < end;
  }

  const T* weights_of(int64_t p) const { return weights.data() + offsets[p]; }
  const T* by_start_of(int p) const { return by_start.data() + offsets[p]; }
  const T* by_end_of(int p) const { return by_end.data() + offsets[p]; }
};

// The rows of bins that a row of cells belongs to: first ... last - 1. Rows are visited in ascending order.
struct BinsOfCell {
  int first = 0;
  int last = 0;

  template <typename T>
  void advance(const Axis<T>& axis, int cell) {
    while (axis.ends[first] <= cell) ++first;
    last = std::max(first, last);
    while (last < axis.count && axis.begins[last] <= cell) ++last;
  }
};

// A RoI in the cells of its level.
template <typename T>
struct Roi {
  int64_t level;
  int64_t image;
  Bins bins_y, bins_x;

  Roi(const Rois& rois, const std::vector<Level<T>>& levels, int64_t k)
      : level(rois.levels ? rois.levels[k] : 0),
        image(static_cast<int64_t>(rois.rows[5 * k])),
        bins_y(rois.rows[5 * k + 2] * levels[level].scale, rois.rows[5 * k + 4] * levels[level].scale,
               rois.pooled_height),
        bins_x(rois.rows[5 * k + 1] * levels[level].scale, rois.rows[5 * k + 3] * levels[level].scale,
               rois.pooled_width) {}

  T* image_data(const std::vector<Level<T>>& levels, int64_t channels) const {
    const Level<T>& map = levels[level];
    return map.data + image * map.height * map.width * channels;
  }
};

// RoIs that are worth handing to another thread.
int64_t grain_size(const Rois& rois) {
  const int64_t values = rois.channels * rois.pooled_height * rois.pooled_width;
  return std::max<int64_t>(1, 32768 / std::max<int64_t>(1, values));
}

constexpr int kLine = 64;  // bytes of the cache's lines

// Where a block's result is going to be written, fetched a share at a time while it is computed.
struct Destination {
  const char* next;
  const char* end;
  int64_t share;  // bytes

  template <typename T>
  Destination(const T* data, int64_t count, int64_t shares)
      : next(reinterpret_cast<const char*>(data)),
        end(reinterpret_cast<const char*>(data + count)),
        share((end - next) / shares + kLine) {}

  void fetch_share() {
    for (const char* stop = next + std::min(share, end - next); next < stop; next += kLine) __builtin_prefetch(next, 1);
  }
};

// R rows of cells summed into the column of bins q. Here and below what comes `ahead` is fetched: a block of channels
// is a short piece of each cell, so that the processor does not see by itself what comes next.
template <int R, typename V, int N, typename T>
void sum_column(const T* row, int64_t row_size, int64_t ahead, int64_t channels, const Axis<T>& x, int q,
                V (&sums)[R][N]) {
  constexpr int lanes = sizeof(V) / sizeof(T);
  const T* weights = x.weights_of(q);
  for (int j = x.begins[q]; j < x.ends[q]; ++j) {
    for (int r = 0; r < R; ++r) {
      const T* cell = row + r * row_size + j * channels;
      for (int n = 0; n < N; ++n) {
        if (n * sizeof(V) % kLine == 0) __builtin_prefetch(cell + ahead + n * lanes);
        sums[r][n] += weights[j] * load<V>(cell + n * lanes);
      }
    }
  }
}

template <typename V, int N, typename T>
void forward_block(const T* image, int64_t width, int64_t channels, const Axis<T>& y, const Axis<T>& x, V* output,
                   Destination destination) {
  std::fill(output, output + y.count * x.count * N, V{});
  const int64_t row_size = width * channels;
  BinsOfCell rows;
  int i = y.begin;
  // Two rows at a time, as far as registers go: most bins that one belongs to are the other's too, and are then read
  // and written once for both.
  for (; N <= 8 && i + 1 < y.end; i += 2) {
    destination.fetch_share();
    rows.advance(y, i);
    BinsOfCell next = rows;
    next.advance(y, i + 1);
    for (int q = 0; q < x.count; ++q) {
      V sums[2][N] = {};
      sum_column(image + i * row_size, row_size, i + 3 < y.end ? 2 * row_size : 0, channels, x, q, sums);
      for (int p = rows.first; p < next.last; ++p) {
        V* bin = output + (p * x.count + q) * N;
        const bool in_first = p < rows.last;
        const bool in_second = p >= next.first;
        if (in_first && in_second) {
          const T first = y.weights_of(p)[i];
          const T second = y.weights_of(p)[i + 1];
          for (int n = 0; n < N; ++n) bin[n] += first * sums[0][n] + second * sums[1][n];
        } else if (in_first || in_second) {
          const T weight = y.weights_of(p)[in_first ? i : i + 1];
          for (int n = 0; n < N; ++n) bin[n] += weight * (in_first ? sums[0][n] : sums[1][n]);
        }
      }
    }
    rows = next;
  }
  for (; i < y.end; ++i) {
    destination.fetch_share();
    rows.advance(y, i);
    for (int q = 0; q < x.count; ++q) {
      V sums[1][N] = {};
      sum_column(image + i * row_size, row_size, i + 1 < y.end ? row_size : 0, channels, x, q, sums);
      for (int p = rows.first; p < rows.last; ++p) {
        const T weight = y.weights_of(p)[i];
        V* bin = output + (p * x.count + q) * N;
        for (int n = 0; n < N; ++n) bin[n] += weight * sums[0][n];
      }
    }
  }
}

// Rows row_begin ... row_end - 1 only.
template <typename V, int N, typename T>
void feature_gradient_block(const V* grad_output, int row_begin, int row_end, int64_t width, int64_t channels,
                            const Axis<T>& y, const Axis<T>& x, V* row_gradient, T* image) {
  constexpr int lanes = sizeof(V) / sizeof(T);
  BinsOfCell rows;
  for (int i = std::max(y.begin, row_begin); i < std::min(y.end, row_end); ++i) {
    rows.advance(y, i);
    for (int64_t q = 0; q < x.count; ++q) {
      V sum[N] = {};
      for (int p = rows.first; p < rows.last; ++p) {
        const T weight = y.weights_of(p)[i];
        for (int n = 0; n < N; ++n) sum[n] += weight * grad_output[(p * x.count + q) * N + n];
      }
      for (int n = 0; n < N; ++n) row_gradient[q * N + n] = sum[n];
    }
    T* row = image + i * width * channels;
    const int64_t next_row = i + 1 < std::min(y.end, row_end) ? width * channels : 0;
    BinsOfCell columns;
    for (int j = x.begin; j < x.end; ++j) {
      columns.advance(x, j);
      T* cell = row + j * channels;
      V sum[N];
      for (int n = 0; n < N; ++n) {
        __builtin_prefetch(cell + next_row + n * lanes, 1);
        sum[n] = load<V>(cell + n * lanes);
      }
      for (int64_t q = columns.first; q < columns.last; ++q) {
        const T weight = x.weights_of(q)[j];
        for (int n = 0; n < N; ++n) sum[n] += weight * row_gradient[q * N + n];
      }
      for (int n = 0; n < N; ++n) store(cell + n * lanes, sum[n]);
    }
  }
}

// result: the derivatives with regard to x1, y1, x2, y2, in cells, not yet summed over the lanes of V. Each is the same
// sum as the forward pass, with the weights along one axis replaced by their derivatives.
template <typename V, int N, typename T>
void coordinate_gradient_block(const T* image, int64_t width, int64_t channels, const Axis<T>& y, const Axis<T>& x,
                               const V* grad_output, V* result) {
  constexpr int lanes = sizeof(V) / sizeof(T);
  V by_x1 = {}, by_y1 = {}, by_x2 = {}, by_y2 = {};
  BinsOfCell rows;
  for (int i = y.begin; i < y.end; ++i) {
    rows.advance(y, i);
    const T* row = image + i * width * channels;
    const int64_t next_row = i + 1 < y.end ? width * channels : 0;
    for (int q = 0; q < x.count; ++q) {
      V grad[N] = {};  // to the column q of the row
      for (int p = rows.first; p < rows.last; ++p) {
        const T weight = y.weights_of(p)[i];
        for (int n = 0; n < N; ++n) grad[n] += weight * grad_output[(p * x.count + q) * N + n];
      }
      V sum[N] = {};  // the column q of the row
      const T* weights = x.weights_of(q);
      const T* by_start = x.by_start_of(q);
      const T* by_end = x.by_end_of(q);
      for (int j = x.begins[q]; j < x.ends[q]; ++j) {
        V product = {};
        for (int n = 0; n < N; ++n) {
          const T* data = row + j * channels + n * lanes;
          __builtin_prefetch(data + next_row);
          const V cell = load<V>(data);
          sum[n] += weights[j] * cell;
          product += grad[n] * cell;
        }
        by_x1 += by_start[j] * product;
        by_x2 += by_end[j] * product;
      }
      for (int p = rows.first; p < rows.last; ++p) {
        V product = {};
        for (int n = 0; n < N; ++n) product += grad_output[(p * x.count + q) * N + n] * sum[n];
        by_y1 += y.by_start_of(p)[i] * product;
        by_y2 += y.by_end_of(p)[i] * product;
      }
    }
  }
  result[0] = by_x1;
  result[1] = by_y1;
  result[2] = by_x2;
  result[3] = by_y2;
}

// RoIs whose cells lie together, one after the other: the next finds in the cache what the last one read.
std::vector<int64_t> in_order_of_cells(const Rois& rois) {
  std::vector<int64_t> order(rois.count);
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto place = [&](int64_t k) {
    const double* row = rois.rows + 5 * k;
    return std::make_tuple(rois.levels ? rois.levels[k] : 0, row[0], row[2] + row[4]);
  };
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return place(a) < place(b); });
  return order;
}

}  // namespace

template <typename T>
void forward(const Rois& rois, const std::vector<Level<const T>>& levels, T* output) {
  const int64_t bins = int64_t{rois.pooled_height} * rois.pooled_width;
  const std::vector<int64_t> order = in_order_of_cells(rois);
  parallel_for(rois.threads, rois.count, grain_size(rois), [&](int64_t first, int64_t last) {
    Axis<T> y, x;
    std::vector<Vector<T>> scratch = scratch_memory<T>(rois.channels, bins);
    for (int64_t turn = first; turn < last; ++turn) {
      const int64_t k = order[turn];
      const Roi<const T> roi(rois, levels, k);
      const Level<const T>& map = levels[roi.level];
      T* result = output + k * rois.channels * bins;
      if (!y.set(roi.bins_y, map.height) || !x.set(roi.bins_x, map.width)) {
        std::fill(result, result + rois.channels * bins, T(0));
        continue;
      }
      const T* image = roi.image_data(levels, rois.channels);
      for_each_channel_block<T>(rois.channels, [&](auto block, int64_t c) {
        using V = typename decltype(block)::V;
        constexpr int N = decltype(block)::N;
        V* sums = reinterpret_cast<V*>(scratch.data());
        constexpr int size = N * sizeof(V) / sizeof(T);
        const Destination destination(result + c * bins, size * bins, (y.end - y.begin + 1) / 2);
        forward_block<V, N>(image + c, map.width, rois.channels, y, x, sums, destination);
        transpose_block(reinterpret_cast<const T*>(sums), bins, size, size, result + c * bins, bins);
      });
    }
  });
}

template <typename T>
void feature_gradient(const Rois& rois, const T* grad_output, int64_t batch_size, const std::vector<Level<T>>& levels) {
  const int64_t bins = int64_t{rois.pooled_height} * rois.pooled_width;
  // All rows of all maps in one list, divided among the threads by the number of cells to be written. A cell is only
  // ever written by the owner of its row, which takes the RoIs in their order: hence the same sum for any division.
  std::vector<int64_t> first_row(levels.size() + 1, 0);
  for (size_t level = 0; level < levels.size(); ++level) {
    first_row[level + 1] = first_row[level] + batch_size * levels[level].height;
  }
  const int64_t total_rows = first_row.back();
  std::vector<int64_t> work(total_rows + 1, 0);
  std::vector<int64_t> map_row(rois.count), row_begin(rois.count), row_end(rois.count);
  for (int64_t k = 0; k < rois.count; ++k) {
    const Roi<T> roi(rois, levels, k);
    const Level<T>& map = levels[roi.level];
    map_row[k] = first_row[roi.level] + roi.image * map.height;
    row_begin[k] = map_row[k] + roi.bins_y.begin(0, map.height);
    row_end[k] = map_row[k] + roi.bins_y.end(rois.pooled_height - 1, map.height);
    const int columns = roi.bins_x.end(rois.pooled_width - 1, map.width) - roi.bins_x.begin(0, map.width);
    if (row_begin[k] >= row_end[k] || columns <= 0) {
      row_end[k] = row_begin[k];
      continue;
    }
    work[row_begin[k]] += columns;
    work[row_end[k]] -= columns;
  }
  int64_t running = 0;
  int64_t total_work = 0;
  for (int64_t& value : work) {
    running += value;
    total_work += running;
    value = total_work;
  }
  const int64_t shares = std::min<int64_t>(rois.threads, std::max<int64_t>(1, total_rows));
  auto share_begin = [&](int64_t share) -> int64_t {
    if (share == shares) return total_rows;
    return std::lower_bound(work.begin(), work.end() - 1, total_work * share / shares) - work.begin();
  };

  parallel_for(rois.threads, shares, 1, [&](int64_t first, int64_t last) {
    const int64_t owned_begin = first == 0 ? 0 : share_begin(first);
    const int64_t owned_end = share_begin(last);
    Axis<T> y, x;
    std::vector<Vector<T>> scratch = scratch_memory<T>(rois.channels, bins + rois.pooled_width);
    for (int64_t k = 0; k < rois.count; ++k) {
      if (std::max(row_begin[k], owned_begin) >= std::min(row_end[k], owned_end)) continue;
      const Roi<T> roi(rois, levels, k);
      const Level<T>& map = levels[roi.level];
      if (!y.set(roi.bins_y, map.height) || !x.set(roi.bins_x, map.width)) continue;
      T* image = roi.image_data(levels, rois.channels);
      const T* grad = grad_output + k * rois.channels * bins;
      const int begin = static_cast<int>(std::max(row_begin[k], owned_begin) - map_row[k]);
      const int end = static_cast<int>(std::min(row_end[k], owned_end) - map_row[k]);
      for_each_channel_block<T>(rois.channels, [&](auto block, int64_t c) {
        using V = typename decltype(block)::V;
        constexpr int N = decltype(block)::N;
        V* grads = reinterpret_cast<V*>(scratch.data());
        constexpr int size = N * sizeof(V) / sizeof(T);
        transpose_block(grad + c * bins, size, bins, bins, reinterpret_cast<T*>(grads), size);
        feature_gradient_block<V, N>(grads, begin, end, map.width, rois.channels, y, x, grads + bins * N, image + c);
      });
    }
  });
}

template <typename T>
void coordinate_gradient(const Rois& rois, const std::vector<Level<const T>>& levels, const T* grad_output,
                         double* grad_rois) {
  const int64_t bins = int64_t{rois.pooled_height} * rois.pooled_width;
  const std::vector<int64_t> order = in_order_of_cells(rois);
  parallel_for(rois.threads, rois.count, grain_size(rois), [&](int64_t first, int64_t last) {
    Axis<T> y, x;
    std::vector<Vector<T>> scratch = scratch_memory<T>(rois.channels, bins);
    for (int64_t turn = first; turn < last; ++turn) {
      const int64_t k = order[turn];
      double* result = grad_rois + 5 * k;
      std::fill(result, result + 5, 0.0);
      const Roi<const T> roi(rois, levels, k);
      const Level<const T>& map = levels[roi.level];
      if (!y.set(roi.bins_y, map.height, true) || !x.set(roi.bins_x, map.width, true)) continue;
      const T* image = roi.image_data(levels, rois.channels);
      const T* grad = grad_output + k * rois.channels * bins;
      for_each_channel_block<T>(rois.channels, [&](auto block, int64_t c) {
        using V = typename decltype(block)::V;
        constexpr int N = decltype(block)::N;
        V* grads = reinterpret_cast<V*>(scratch.data());
        constexpr int size = N * sizeof(V) / sizeof(T);
        transpose_block(grad + c * bins, size, bins, bins, reinterpret_cast<T*>(grads), size);
        for (int q = 0; q < rois.pooled_width; ++q) {
          if (x.begins[q] < x.ends[q]) continue;
          // A bin without a cell has no influence, even if its gradient is NaN.
          for (int p = 0; p < rois.pooled_height; ++p) std::fill_n(grads + (p * x.count + q) * N, N, V{});
        }
        V sums[4];
        coordinate_gradient_block<V, N>(image + c, map.width, rois.channels, y, x, grads, sums);
        for (int n = 0; n < 4; ++n) result[n + 1] += map.scale * sum_of_lanes<T>(sums[n]);
      });
    }
  });
}

#define INSTANTIATE(T)                                                                             \
  template void forward<T>(const Rois&, const std::vector<Level<const T>>&, T*);                   \
  template void feature_gradient<T>(const Rois&, const T*, int64_t, const std::vector<Level<T>>&); \
  template void coordinate_gradient<T>(const Rois&, const std::vector<Level<const T>>&, const T*, double*);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace iounet::cpu
