// SPDX-License-Identifier: Apache-2.0
// Where a stream of batches (reader.h) takes its samples from: token sequences of a corpus, windows of time series.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/tensor.h"

namespace farsight {

inline constexpr int64_t kNoSample = -1;

// Windows of time series: L rows of look-back and H of horizon, of C channels. Values are scaled as the source was
// told; what was not observed is 0. Channels first, so that a channel's window is one row.
struct WindowTensors {
  Tensor past;             // [b, C, L] f32
  Tensor past_observed;    // [b, C, L] u8; not defined() where everything was observed
  Tensor future;           // [b, C, H] f32: targets, and what is known of the horizon; 0 for past covariates
  Tensor future_observed;  // [b, C, H] u8, 1 = a target that counts
  Tensor calendar;         // [b, F, L + H] f32; not defined() without calendar features
  Tensor statics;          // [b, K] f32; not defined() without static numbers
};

// Row j belongs to sample number sample_ids[j]. When the stream ends inside a step, the rows beyond the end are
// padding: sample_ids = kNoSample and no target, so that all ranks still run the same number of micro-steps.
struct MicroBatch {
  Tensor inputs;                    // tokens: [b, n] i32
  Tensor labels;                    // tokens: [b, n] i32, -1 = no target
  Tensor documents;                 // tokens: [b, T] i32 of all positions of the row; undefined unless pack = documents
  WindowTensors windows;            // time series
  std::vector<int64_t> sample_ids;  // [b] global sample numbers g (not permuted)
  int64_t valid_labels = 0;         // targets: token labels, or observed values of target channels in the horizon
};

class SampleSource {
 public:
  virtual ~SampleSource() = default;
  virtual int64_t samples() const = 0;
  // Tensors for `rows` samples, on the host.
  virtual MicroBatch make_batch(int64_t rows) const = 0;
  // Reads a sample into row j and returns its targets. Error{data}, Error{io} naming the sample.
  virtual int64_t read(int64_t sample, int64_t j, const MicroBatch& batch) = 0;
  // Makes row j padding.
  virtual void pad(int64_t j, const MicroBatch& batch) = 0;
  // Asks the operating system for a sample that will be read soon. Never fails.
  virtual void prefetch(int64_t sample) = 0;
};

}  // namespace farsight
