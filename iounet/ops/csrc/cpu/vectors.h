// Vectors of numbers as wide as the machine's, and the blocks of channels that a kernel works on at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace iounet::cpu {

// The widest vector of the machine: the compiler takes wider ones apart. The tests ask for any width on any machine.
#if defined(IOUNET_VECTOR_BYTES)
constexpr int kVectorBytes = IOUNET_VECTOR_BYTES;
#elif defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kVectors = 256 / kVectorBytes;  // in the largest block of channels

template <typename T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};

template <typename T>
using Vector = typename VectorOf<T>::type;

// A block of channels: N values of type V, which is a vector or, for the last few channels, a single number.
template <typename V_, int N_>
struct Block {
  using V = V_;
  static constexpr int N = N_;
};

template <typename T, typename Body>
void for_each_channel_block(int64_t channels, const Body& body) {
  constexpr int lanes = sizeof(Vector<T>) / sizeof(T);
  int64_t c = 0;
  for (; c + kVectors * lanes <= channels; c += kVectors * lanes) body(Block<Vector<T>, kVectors>{}, c);
  for (; c + kVectors / 2 * lanes <= channels; c += kVectors / 2 * lanes) body(Block<Vector<T>, kVectors / 2>{}, c);
  for (; c + lanes <= channels; c += lanes) body(Block<Vector<T>, 1>{}, c);
  for (; c < channels; ++c) body(Block<T, 1>{}, c);
}

// Memory for `values` values of each channel of a block.
template <typename T>
std::vector<Vector<T>> scratch_memory(int64_t channels, int64_t values) {
  constexpr int lanes = sizeof(Vector<T>) / sizeof(T);
  int64_t block = channels > 0 ? 1 : 0;
  for (int size : {lanes, kVectors / 2 * lanes, kVectors * lanes}) {
    if (size <= channels) block = size;
  }
  return std::vector<Vector<T>>((block * values + lanes - 1) / lanes);
}

// The map's cells need not be aligned as a vector is: C is any number.
template <typename V, typename T>
V load(const T* data) {
  V value;
  std::memcpy(&value, data, sizeof(V));
  return value;
}

template <typename V, typename T>
void store(T* data, const V& value) {
  std::memcpy(data, &value, sizeof(V));
}

template <typename T, typename V>
double sum_of_lanes(const V& value) {
  T lanes[sizeof(V) / sizeof(T)];
  std::memcpy(lanes, &value, sizeof(V));
  for (size_t half = sizeof(V) / sizeof(T) / 2; half > 0; half /= 2) {
    for (size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

}  // namespace iounet::cpu
