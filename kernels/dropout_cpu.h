// SPDX-License-Identifier: Apache-2.0
// The multipliers of token dropout, drawn on the fly; shared by every operation with a dropout site (see dropout.h).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/dropout.h"
#include "kernels/dropout_cuda.h"

namespace farsight {

// A site with its keys copied, as closures hold it.
class DropoutDraw {
 public:
  DropoutDraw() = default;  // not active
  // Throws Error{internal} if the site does not describe `rows` rows.
  DropoutDraw(const char* op, const DropoutSite* site, int64_t rows);

  bool active() const { return p_ > 0.0; }
  // For operations of the device; no keys when not active.
  CudaDropout cuda() const;
  // factors[i] = 0 or 1 / (1 - p) for channels [begin, begin + count) of a row; begin is a multiple of 4.
  void factors(int64_t row, int64_t begin, int64_t count, float* factors) const;
  // The same for channels [0, count) of the rows [row, row + rows), one row after the other.
  void factors_of_rows(int64_t row, int64_t rows, int64_t count, float* factors) const;
  int64_t rows() const { return static_cast<int64_t>(keys_.size()) * tokens_ - first_row_; }  // that can be asked for

 private:
  double p_ = 0.0;
  std::vector<uint64_t> keys_;
  Tensor device_keys_;  // where the rows are on a device
  Tensor positions_;
  int64_t tokens_ = 1;
  int64_t first_row_ = 0;
  int64_t first_channel_ = 0;
};

// Factors row by row for loops that walk through rows; of narrow rows several are drawn at once.
class DropoutRows {
 public:
  DropoutRows(const DropoutDraw& draw, int64_t cols);
  // [cols], until the next call; null when the site is not active.
  const float* row(int64_t r);

 private:
  const DropoutDraw& draw_;
  int64_t cols_, together_;
  int64_t begin_ = 0, end_ = 0;  // rows that are drawn
  std::vector<float> factors_;
};

// y = x * factors, rows [N, C]; y may have a stride, and is added to when add. On the device of x.
void dropout_rows(const DropoutDraw& draw, const Tensor& x, const Tensor& y, bool add);

// Philox-based multipliers of channels [channel, channel + count) at a position; channel is a multiple of 4.
void dropout_factors_cpu(uint64_t key, int32_t position, int64_t channel, int64_t count, uint32_t threshold, float keep,
                         float* factors);

// The same for `rows` positions, one row of multipliers after the other.
void dropout_factors_cpu(uint64_t key, const int32_t* positions, int64_t rows, int64_t channel, int64_t count,
                         uint32_t threshold, float keep, float* factors);

// y = v * factors, rows [N, C]; y contiguous or strided, added to when add.
void dropout_rows_cpu(const DropoutDraw& draw, const float* x, int64_t x_stride, int64_t rows, int64_t cols, bool add,
                      float* y, int64_t y_stride);

}  // namespace farsight
