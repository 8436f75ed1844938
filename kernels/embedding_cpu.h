// SPDX-License-Identifier: Apache-2.0
// Loops behind embedding.h. `ids` select rows of a table [.., cols]; a negative id is a row of zeros that has no
// gradient.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/dropout_cpu.h"

namespace farsight {

// y[n] = (table[ids[n]] (+ positional[position_ids[n]])) * dropout factors. positional may be null.
void gather_rows_cpu(const float* table, std::span<const int32_t> ids, const float* positional,
                     std::span<const int32_t> position_ids, int64_t cols, const DropoutDraw& draw, float* y);

// gradient[ids[n]] += dy[n] * dropout factors, n ascending.
void scatter_rows_cpu(const float* dy, int64_t stride, std::span<const int32_t> ids, int64_t cols,
                      const DropoutDraw& draw, float* gradient);

}  // namespace farsight
