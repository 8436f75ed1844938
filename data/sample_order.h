// SPDX-License-Identifier: Apache-2.0
// The order in which samples are visited: a keyed permutation of the sample numbers, computed and never stored. It
// depends on (seed, global sample number, number of samples) only: not on ranks, workers or restarts, so the whole
// position in the data is one integer g, the number of samples consumed, which never restarts at an epoch.
//
//   SampleOrder order(corpus.samples(), seed, Shuffle::samples);
//   int64_t sample = order.sample(g);   // g = 0, 1, 2, ...
//
// Method: balanced Feistel network of 8 rounds on the smallest 4^h >= n with h >= 3, with cycle walking. Fewer rounds
// or h = 2 leave neighbouring pairs visibly non-uniform for small n.
#pragma once

#include <cstdint>

namespace farsight {

// Key of permutation number `stream` in `epoch`.
uint64_t permutation_key(uint64_t seed, uint64_t stream, uint64_t epoch);

// Image of i under the permutation of [0, n) with this key. Throws Error{internal} unless 0 <= i < n.
int64_t permute(int64_t n, uint64_t key, int64_t i);

enum class Shuffle : uint8_t { none, samples };

class SampleOrder {
 public:
  // n samples an epoch; throws Error{data} when n < 1.
  SampleOrder(int64_t n, uint64_t seed, Shuffle shuffle);

  int64_t epoch(int64_t g) const { return g / n_; }
  // Sample visited as number g >= 0 (epoch g div n). Thread safe.
  int64_t sample(int64_t g) const;

 private:
  int64_t n_;
  uint64_t seed_;
  Shuffle shuffle_;
};

}  // namespace farsight
