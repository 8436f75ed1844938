// SPDX-License-Identifier: Apache-2.0
#include "kernels/sgd.h"

#include "kernels/error.h"
#include "kernels/parallel_for.h"
#include "kernels/sgd_cpu.h"

namespace farsight {

void sgd(std::span<float> values, std::span<const float> gradients, std::span<float> momentum_buffer,
         std::span<const OptimizerRange> ranges, const SgdStep& step) {
  const bool buffer_fits = momentum_buffer.size() == values.size() || (step.momentum == 0.0 && momentum_buffer.empty());
  if (gradients.size() != values.size() || !buffer_fits) {
    fail(ErrorKind::internal, "sgd: {} values, {} gradients, momentum buffer of {}", values.size(), gradients.size(),
         momentum_buffer.size());
  }
  check_optimizer_ranges("sgd", ranges, values.size());
  const auto pieces = optimizer_pieces(ranges);
  float* buffer = step.momentum == 0.0 ? nullptr : momentum_buffer.data();
  parallel_for(static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto& piece = pieces[static_cast<size_t>(i)];
      const double rate = step.rate * static_cast<double>(piece.rate);
      const SgdFactors factors{static_cast<float>(step.gradient_scale), static_cast<float>(step.momentum),
                               static_cast<float>(piece.decay ? 1.0 - rate * step.weight_decay : 1.0),
                               static_cast<float>(rate)};
      sgd_cpu(factors, piece.count, gradients.data() + piece.begin, values.data() + piece.begin,
              buffer == nullptr ? nullptr : buffer + piece.begin);
    }
  });
}

}  // namespace farsight
