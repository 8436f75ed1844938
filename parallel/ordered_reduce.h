// SPDX-License-Identifier: Apache-2.0
// The element-wise arithmetic of reductions: contributions are combined in the order in which they are given, so that
// the result does not depend on who computes it, in what pieces or with which vector instructions.
#pragma once

#include <cstdint>
#include <span>

#include "parallel/comm.h"

namespace farsight {

template <typename T>
T reduce_pair(T a, T b, ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      return a + b;
    case ReduceOp::max:
      return a > b || a != a ? a : b;  // NaN on either side stays NaN
    case ReduceOp::min:
      return a < b || a != a ? a : b;
  }
  return a;
}

// out[i] = contributions[0][i] op contributions[1][i] op ... in that order, the same in every `outs`. An out may be one
// of the contributions; other overlaps are not allowed. T is float, double or int64_t.
template <typename T>
void reduce_in_order(std::span<const T* const> contributions, std::span<T* const> outs, int64_t count, ReduceOp op,
                     bool with_team);

// By this rank's threads.

template <typename T>
void reduce_in_order(std::span<const T* const> contributions, T* out, int64_t count, ReduceOp op) {
  T* const outs[] = {out};
  reduce_in_order<T>(contributions, std::span<T* const>(outs), count, op, /*with_team=*/true);
}

}  // namespace farsight
