// The speed peer: Precise RoI Pooling as the published CUDA kernels do it, one output cell after the other. For every
// output all unit cells of its bin are visited, with four bounds-checked loads and four weights each. NCHW, float32.
#include <algorithm>
#include <cmath>

namespace {

struct Map {
  const float* data;
  int height, width;

  float at(int y, int x) const { return y < 0 || x < 0 || y >= height || x >= width ? 0.0f : data[y * width + x]; }
};

// Integrals of 1 - t and of t over [low, high] in [0, 1].
float falling(float low, float high) { return (high - 0.5f * high * high) - (low - 0.5f * low * low); }
float rising(float low, float high) { return 0.5f * high * high - 0.5f * low * low; }

struct Bin {
  float x1, y1, x2, y2, area;
};

Bin bin_of(const float* roi, int p, int q, int height, int width, float scale) {
  const float x1 = roi[1] * scale, y1 = roi[2] * scale;
  const float w = std::max(roi[3] * scale - x1, 0.0f) / width, h = std::max(roi[4] * scale - y1, 0.0f) / height;
  return {x1 + w * q, y1 + h * p, x1 + w * (q + 1), y1 + h * (p + 1), w * h};
}

// Calls body(y, x, a, b, c, d) for every unit cell: the integrals that its four corners are weighed with, row by row.
template <typename Body>
void for_each_cell(const Bin& bin, const Body& body) {
  for (int y = std::floor(bin.y1); y < std::ceil(bin.y2); ++y) {
    const float y_low = std::max(bin.y1, float(y)) - y, y_high = std::min(bin.y2, float(y + 1)) - y;
    for (int x = std::floor(bin.x1); x < std::ceil(bin.x2); ++x) {
      const float x_low = std::max(bin.x1, float(x)) - x, x_high = std::min(bin.x2, float(x + 1)) - x;
      const float top = falling(y_low, y_high), bottom = rising(y_low, y_high);
      const float left = falling(x_low, x_high), right = rising(x_low, x_high);
      body(y, x, top * left, top * right, bottom * left, bottom * right);
    }
  }
}

// Integral of the map along the vertical line at x, and the horizontal line at y.
float line_x(const Map& map, float x, float y1, float y2) {
  const int column = std::floor(x);
  const float fraction = x - column;
  float sum = 0;
  for (int y = std::floor(y1); y < std::ceil(y2); ++y) {
    const float low = std::max(y1, float(y)) - y, high = std::min(y2, float(y + 1)) - y;
    sum += falling(low, high) * ((1 - fraction) * map.at(y, column) + fraction * map.at(y, column + 1)) +
           rising(low, high) * ((1 - fraction) * map.at(y + 1, column) + fraction * map.at(y + 1, column + 1));
  }
  return sum;
}

float line_y(const Map& map, float y, float x1, float x2) {
  const int row = std::floor(y);
  const float fraction = y - row;
  float sum = 0;
  for (int x = std::floor(x1); x < std::ceil(x2); ++x) {
    const float low = std::max(x1, float(x)) - x, high = std::min(x2, float(x + 1)) - x;
    sum += falling(low, high) * ((1 - fraction) * map.at(row, x) + fraction * map.at(row + 1, x)) +
           rising(low, high) * ((1 - fraction) * map.at(row, x + 1) + fraction * map.at(row + 1, x + 1));
  }
  return sum;
}

template <typename Body>
void for_each_output(const float* rois, int num_rois, int channels, int height, int width, float scale,
                     const Body& body) {
  int index = 0;
  for (int k = 0; k < num_rois; ++k) {
    for (int c = 0; c < channels; ++c) {
      for (int p = 0; p < height; ++p) {
        for (int q = 0; q < width; ++q, ++index)
          body(k, c, p, q, index, bin_of(rois + 5 * k, p, q, height, width, scale));
      }
    }
  }
}

}  // namespace

extern "C" {

void forward(const float* input, int channels, int map_height, int map_width, const float* rois, int num_rois,
             int height, int width, float scale, float* output) {
  for_each_output(rois, num_rois, channels, height, width, scale, [&](int k, int c, int, int, int index, Bin bin) {
    const int image = rois[5 * k];
    const Map map{input + (image * channels + c) * map_height * map_width, map_height, map_width};
    float sum = 0;
    for_each_cell(bin, [&](int y, int x, float tl, float tr, float bl, float br) {
      sum += tl * map.at(y, x) + tr * map.at(y, x + 1) + bl * map.at(y + 1, x) + br * map.at(y + 1, x + 1);
    });
    output[index] = bin.area > 0 ? sum / bin.area : 0;
  });
}

// grad_input is added to.
void feature_gradient(const float* grad_output, int channels, int map_height, int map_width, const float* rois,
                      int num_rois, int height, int width, float scale, float* grad_input) {
  for_each_output(rois, num_rois, channels, height, width, scale, [&](int k, int c, int, int, int index, Bin bin) {
    if (!(bin.area > 0)) return;
    const int image = rois[5 * k];
    float* map = grad_input + (image * channels + c) * map_height * map_width;
    const float grad = grad_output[index] / bin.area;
    auto add = [&](int y, int x, float value) {
      if (y >= 0 && x >= 0 && y < map_height && x < map_width) map[y * map_width + x] += value;
    };
    for_each_cell(bin, [&](int y, int x, float tl, float tr, float bl, float br) {
      add(y, x, tl * grad);
      add(y, x + 1, tr * grad);
      add(y + 1, x, bl * grad);
      add(y + 1, x + 1, br * grad);
    });
  });
}

// grad_rois (K x 5) is added to.
void coordinate_gradient(const float* grad_output, const float* input, const float* output, int channels,
                         int map_height, int map_width, const float* rois, int num_rois, int height, int width,
                         float scale, float* grad_rois) {
  for_each_output(rois, num_rois, channels, height, width, scale, [&](int k, int c, int p, int q, int index, Bin bin) {
    if (!(bin.area > 0)) return;
    const int image = rois[5 * k];
    const Map map{input + (image * channels + c) * map_height * map_width, map_height, map_width};
    const float w = bin.x2 - bin.x1, h = bin.y2 - bin.y1;
    const float by_x1 = (output[index] - line_x(map, bin.x1, bin.y1, bin.y2) / h) / w;
    const float by_x2 = (line_x(map, bin.x2, bin.y1, bin.y2) / h - output[index]) / w;
    const float by_y1 = (output[index] - line_y(map, bin.y1, bin.x1, bin.x2) / w) / h;
    const float by_y2 = (line_y(map, bin.y2, bin.x1, bin.x2) / w - output[index]) / h;
    const float grad = grad_output[index] * scale;
    float* result = grad_rois + 5 * k;
    result[1] += grad * (by_x1 * (width - q) + by_x2 * (width - q - 1)) / width;
    result[2] += grad * (by_y1 * (height - p) + by_y2 * (height - p - 1)) / height;
    result[3] += grad * (by_x1 * q + by_x2 * (q + 1)) / width;
    result[4] += grad * (by_y1 * p + by_y2 * (p + 1)) / height;
  });
}

}  // extern "C"
