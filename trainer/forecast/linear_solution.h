// SPDX-License-Identifier: Apache-2.0
// The closed-form linear forecaster: the least-squares solution of the NLinear form, one matrix for all channels.
//   v = [x[w .. w+L) - last, 1],  y = x[w+L .. w+L+H) - last,  last = x[w+L-1]      per training window and channel
//   A = sum v v^T,  B = sum v y^T,  W = (A + lambda I)^-1 B,  lambda = 1e-6 N,  N = windows x channels
// Solved in double by Cholesky. The products of a stretch of rows come from one pass and a recurrence: with
// S(i, j) = sum over windows of x[w+i] x[w+j], S(i+1, j+1) = S(i, j) - x[i] x[j] + x[n+i] x[n+j] for n windows, so the
// cost is O(rows (L+H) + (L+H)^2) a channel instead of O(rows L (L+H)).
// Source: forecasting specification, section 3.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/series_windows.h"
#include "parallel/comm.h"

namespace farsight {

inline constexpr int64_t kMostLinearLookback = 4096;  // the solution takes L^3 / 3 operations and 8 L^2 bytes

struct LinearSolution {
  int64_t lookback = 0, horizon = 0;
  std::vector<double> weights;  // [L + 1, H], the last row is the constant

  // forecasts [n, H] of n look-backs [n, L].
  void forecast(std::span<const double> past, int64_t n, std::span<double> out) const;
};

// Of the target channels over all windows of `train`; those that reach over rows that were not observed are left out
// channel by channel. Ranks share the channels and get the same solution. Collective. Error{config} for a look-back
// above kMostLinearLookback, Error{data} when there is no window without a gap.
LinearSolution solve_linear(SeriesWindows& train, Communicator& world);

}  // namespace farsight
