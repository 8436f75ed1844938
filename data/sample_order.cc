// SPDX-License-Identifier: Apache-2.0
#include "data/sample_order.h"

#include "kernels/error.h"

namespace farsight {

namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;
constexpr uint64_t kHalfStep = 0xD1342543DE82EF95;
constexpr uint64_t kSampleStream = 0;
constexpr int kRounds = 8;

uint64_t mix64(uint64_t z) {
  z ^= z >> 30;
  z *= 0xBF58476D1CE4E5B9;
  z ^= z >> 27;
  z *= 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

int half_bits(uint64_t n) {
  int h = 3;
  while (h < 31 && (uint64_t{1} << (2 * h)) < n) ++h;
  return h;
}

uint64_t feistel(uint64_t x, uint64_t key, int h) {
  uint64_t left = x >> h;
  uint64_t right = x & ((uint64_t{1} << h) - 1);
  for (uint64_t q = 1; q <= kRounds; ++q) {
    const uint64_t next = left ^ (mix64((key + q * kGolden) ^ (right * kHalfStep)) >> (64 - h));
    left = right;
    right = next;
  }
  return (left << h) | right;
}

}  // namespace

uint64_t permutation_key(uint64_t seed, uint64_t stream, uint64_t epoch) {
  const uint64_t of_seed = mix64(seed + kGolden);
  return mix64(mix64(of_seed ^ ((stream + 1) * kGolden)) + (epoch + 1) * kGolden);
}

int64_t permute(int64_t n, uint64_t key, int64_t i) {
  if (i < 0 || i >= n || n > (int64_t{1} << 62)) fail(ErrorKind::internal, "permute: index {} outside [0, {})", i, n);
  const auto size = static_cast<uint64_t>(n);
  const int h = half_bits(size);
  auto x = static_cast<uint64_t>(i);
  do {
    x = feistel(x, key, h);
  } while (x >= size);
  return static_cast<int64_t>(x);
}

SampleOrder::SampleOrder(int64_t n, uint64_t seed, Shuffle shuffle) : n_(n), seed_(seed), shuffle_(shuffle) {
  if (n < 1) fail(ErrorKind::data, "the data set has no sample");
}

int64_t SampleOrder::sample(int64_t g) const {
  if (g < 0) fail(ErrorKind::internal, "sample number {} is negative", g);
  if (shuffle_ == Shuffle::none) return g % n_;
  return permute(n_, permutation_key(seed_, kSampleStream, static_cast<uint64_t>(g / n_)), g % n_);
}

}  // namespace farsight
