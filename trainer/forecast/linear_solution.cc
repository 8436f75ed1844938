// SPDX-License-Identifier: Apache-2.0
#include "trainer/forecast/linear_solution.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"
#include "kernels/parallel_for.h"

namespace farsight {
namespace {

constexpr double kRidge = 1e-6;

// Sums over windows and channels: [A B] with A [L+1, L+1] (upper triangle) and B [L+1, H].
class NormalEquations {
 public:
  NormalEquations(int64_t lookback, int64_t horizon)
      : lookback_(lookback),
        span_(lookback + horizon),
        columns_(lookback + 1 + horizon),
        sums_(static_cast<size_t>((lookback + 1) * columns_ + 1)),
        products_(static_cast<size_t>(lookback * span_)) {}

  // One channel's values without a gap.
  void add(std::span<const double> x) {
    const int64_t windows = static_cast<int64_t>(x.size()) - span_ + 1;
    if (windows < 1) return;
    sum_products(x, windows);
    const std::vector<double> totals = sum_values(x, windows);
    const int64_t last = lookback_ - 1;
    const double last_last = product(last, last);
    for (int64_t i = 0; i < lookback_; ++i) {
      double* row = sums_.data() + i * columns_;
      const double i_last = product(i, last);
      for (int64_t j = i; j < span_; ++j) {
        const double j_last = j < lookback_ ? product(j, last) : product(last, j);
        row[j < lookback_ ? j : j + 1] += product(i, j) - i_last - j_last + last_last;
      }
      row[lookback_] += totals[static_cast<size_t>(i)] - totals[static_cast<size_t>(last)];
    }
    double* row = sums_.data() + lookback_ * columns_;
    row[lookback_] += static_cast<double>(windows);
    for (int64_t j = lookback_; j < span_; ++j) {
      row[j + 1] += totals[static_cast<size_t>(j)] - totals[static_cast<size_t>(last)];
    }
    sums_.back() += static_cast<double>(windows);
  }

  std::span<double> sums() { return sums_; }

  LinearSolution solve() {
    const int64_t n = lookback_ + 1, horizon = span_ - lookback_;
    const double ridge = kRidge * sums_.back();
    for (int64_t i = 0; i < n; ++i) at(i, i) += ridge;
    factor(n);
    LinearSolution solution{lookback_, horizon, std::vector<double>(static_cast<size_t>(n * horizon))};
    // U^T z = B downwards, U w = z upwards, all right-hand sides at once.
    for (int64_t i = 0; i < n; ++i) {
      double* z = &at(i, n);
      for (int64_t k = 0; k < i; ++k) subtract(at(k, i), &at(k, n), z, horizon);
      scale(1.0 / at(i, i), z, horizon);
    }
    for (int64_t i = n - 1; i >= 0; --i) {
      double* z = &at(i, n);
      for (int64_t k = i + 1; k < n; ++k) subtract(at(i, k), &at(k, n), z, horizon);
      scale(1.0 / at(i, i), z, horizon);
      std::copy_n(z, horizon, solution.weights.begin() + i * horizon);
    }
    return solution;
  }

 private:
  // sum over windows of x[w + i] x[w + j]; j >= i.
  double product(int64_t i, int64_t j) const {
    return products_[static_cast<size_t>(std::min(i, j) * span_ + std::max(i, j))];
  }

  void sum_products(std::span<const double> x, int64_t windows) {
    const double* values = x.data();
    parallel_for(span_, 16, [&](int64_t begin, int64_t end) {
      // Diagonal `lag`: products of x[i] and x[i + lag].
      for (int64_t lag = begin; lag < end; ++lag) {
        double sum = 0.0;
        for (int64_t w = 0; w < windows; ++w) sum += values[w] * values[w + lag];
        const int64_t count = std::min(lookback_, span_ - lag);
        for (int64_t i = 0; i < count; ++i) {
          products_[static_cast<size_t>(i * span_ + i + lag)] = sum;
          if (i + 1 == count) break;  // what would follow lies behind the last row
          sum += values[windows + i] * values[windows + i + lag] - values[i] * values[i + lag];
        }
      }
    });
  }

  std::vector<double> sum_values(std::span<const double> x, int64_t windows) const {
    std::vector<double> totals(static_cast<size_t>(span_));
    double sum = 0.0;
    for (int64_t w = 0; w < windows; ++w) sum += x[static_cast<size_t>(w)];
    for (int64_t i = 0; i < span_; ++i) {
      totals[static_cast<size_t>(i)] = sum;
      if (i + 1 < span_) sum += x[static_cast<size_t>(windows + i)] - x[static_cast<size_t>(i)];
    }
    return totals;
  }

  double& at(int64_t i, int64_t j) { return sums_[static_cast<size_t>(i * columns_ + j)]; }
  static void subtract(double factor, const double* from, double* to, int64_t count) {
    for (int64_t h = 0; h < count; ++h) to[h] -= factor * from[h];
  }
  static void scale(double factor, double* values, int64_t count) {
    for (int64_t h = 0; h < count; ++h) values[h] *= factor;
  }

  // A = U^T U in place, upper triangle.
  void factor(int64_t n) {
    for (int64_t k = 0; k < n; ++k) {
      if (!(at(k, k) > 0.0)) {
        fail(ErrorKind::data, "the linear least-squares problem is singular at row {}: {}", k, at(k, k));
      }
      scale(1.0 / std::sqrt(at(k, k)), &at(k, k), n - k);
      parallel_for(n - k - 1, 64, [&](int64_t begin, int64_t end) {
        for (int64_t i = k + 1 + begin; i < k + 1 + end; ++i) subtract(at(k, i), &at(k, i), &at(i, i), n - i);
      });
    }
  }

  int64_t lookback_, span_, columns_;
  std::vector<double> sums_;      // [L + 1, L + 1 + H], then the number of windows
  std::vector<double> products_;  // [L, L + H] of one channel
};

// The stretches of one channel in a range of training rows that were all observed, scaled.
void add_channel(SeriesFiles& files, const SplitRange& range, int64_t channel, const ChannelScale& scale,
                 NormalEquations& equations) {
  const int64_t channels = files.channel_count(), count = range.end - range.begin;
  const float* values = files.values(range.series, range.begin, count);
  const uint8_t* mask = files.mask(range.series, range.begin, count);
  std::vector<double> stretch;
  for (int64_t t = 0; t <= count; ++t) {
    if (t < count && (mask == nullptr || mask[t * channels + channel] != 0)) {
      stretch.push_back((static_cast<double>(values[t * channels + channel]) - scale.mean) / scale.scale);
      continue;
    }
    equations.add(stretch);
    stretch.clear();
  }
}

}  // namespace

void LinearSolution::forecast(std::span<const double> past, int64_t n, std::span<double> out) const {
  constexpr int64_t kTogether = 4;  // look-backs for which a row of weights is read once
  parallel_for((n + kTogether - 1) / kTogether, 1, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; ++group) {
      const int64_t first = group * kTogether, count = std::min(kTogether, n - first);
      for (int64_t r = first; r < first + count; ++r) {
        const double last = past[static_cast<size_t>((r + 1) * lookback - 1)];
        for (int64_t h = 0; h < horizon; ++h) {
          out[static_cast<size_t>(r * horizon + h)] = last + weights[static_cast<size_t>(lookback * horizon + h)];
        }
      }
      for (int64_t i = 0; i < lookback; ++i) {
        const double* row = weights.data() + i * horizon;
        for (int64_t r = first; r < first + count; ++r) {
          const double* x = past.data() + r * lookback;
          const double v = x[i] - x[lookback - 1];
          double* y = out.data() + r * horizon;
          for (int64_t h = 0; h < horizon; ++h) y[h] += v * row[h];
        }
      }
    }
  });
}

LinearSolution solve_linear(SeriesWindows& train, Communicator& world) {
  const WindowOptions& options = train.options();
  if (options.lookback > kMostLinearLookback) {
    fail(ErrorKind::config, "the linear least-squares forecaster takes a look-back of at most {}, not {}",
         kMostLinearLookback, options.lookback);
  }
  NormalEquations equations(options.lookback, options.horizon);
  int64_t turn = 0;
  for (SplitRange range : train.files().split(options.split)) {
    // Look-back may lie before the range, as in every window.
    range.begin = std::max<int64_t>(0, range.begin - options.lookback);
    for (const int64_t channel : options.targets) {
      if (turn++ % world.size() != world.rank()) continue;
      add_channel(train.files(), range, channel, options.scale[static_cast<size_t>(channel)], equations);
    }
  }
  world.all_reduce(equations.sums(), ReduceOp::sum);
  if (equations.sums().back() == 0.0) {
    fail(ErrorKind::data, "split '{}' holds no window of {} rows without a gap for the linear least-squares forecaster",
         options.split, options.lookback + options.horizon);
  }
  return equations.solve();
}

}  // namespace farsight
