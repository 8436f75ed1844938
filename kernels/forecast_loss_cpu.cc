// SPDX-License-Identifier: Apache-2.0
#include "kernels/forecast_loss_cpu.h"

#include <algorithm>
#include <vector>

#include "kernels/forecast_terms-inl.h"
#include "kernels/parallel_for.h"

namespace farsight {
namespace {

using forecast::RowSums;
using forecast::Undo;

Undo undo_of(const ForecastRows& a, int64_t row) {
  const auto at = [row](const float* values, int64_t i, double missing) {
    return values == nullptr ? missing : static_cast<double>(values[i < 0 ? row : i]);
  };
  const int64_t channel = row % a.channels;
  return {at(a.mean, -1, 0.0), at(a.std, -1, 1.0) / at(a.gamma, channel, 1.0), at(a.beta, channel, 0.0)};
}

template <ForecastLossKind kKind>
RowSums run_row(const ForecastTerms& terms, const ForecastRows& a, int64_t row, const Undo& undo) {
  RowSums sums;
  const int64_t outputs = kKind < ForecastLossKind::quantile ? 1 : terms.outputs;
  const float* head = a.head + row * a.head_stride;
  float* dhead = a.dhead == nullptr ? nullptr : a.dhead + row * a.horizon * outputs;
  for (int64_t h = 0; h < a.horizon; ++h) {
    const int64_t at = row * a.horizon + h;
    const auto write = [&](int k, double derivative) {
      if (dhead != nullptr) dhead[h * outputs + k] = static_cast<float>(a.scale * derivative);
    };
    if (a.observed != nullptr && a.observed[at] == 0) {
      for (int k = 0; k < terms.outputs; ++k) write(k, 0.0);
      continue;
    }
    const auto read = [&](int k) { return static_cast<double>(head[h * outputs + k]); };
    const auto target = static_cast<double>(a.targets[at]);
    forecast::element_of<kKind>(terms, undo, target, dhead != nullptr, read, write, sums);
  }
  return sums;
}

}  // namespace

void forecast_loss_cpu(const ForecastTerms& terms, const ForecastRows& a, double* sums) {
  std::vector<RowSums> rows(static_cast<size_t>(a.rows));
  parallel_for(a.rows, 1024 / (a.horizon + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const Undo undo = undo_of(a, r);
      RowSums s;
      forecast::with_kind(terms.kind, [&](auto kind) { s = run_row<kind.value>(terms, a, r, undo); });
      rows[static_cast<size_t>(r)] = s;
      if (a.dgamma == nullptr) continue;
      // d slope / d gamma = -slope / gamma, d log width / d gamma = -1 / gamma, d location / d beta = -slope.
      const auto gamma = static_cast<double>(a.gamma[r % a.channels]);
      const double pull = undo.slope * (s.raw_location - undo.beta * s.location);
      a.dgamma[r] = static_cast<float>(-a.scale * (pull + s.log_width) / gamma);
      a.dbeta[r] = static_cast<float>(-a.scale * undo.slope * s.location);
    }
  });
  std::fill_n(sums, 3, 0.0);
  for (const RowSums& s : rows) {
    sums[0] += s.loss;
    sums[1] += s.square;
    sums[2] += s.absolute;
  }
}

}  // namespace farsight
