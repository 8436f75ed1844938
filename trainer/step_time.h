// SPDX-License-Identifier: Apache-2.0
// How long an optimizer step takes: arithmetic from the sizes of its operations, communication from its transfers, of
// which only the part counts that the arithmetic running meanwhile does not cover.
// Source: parallelism specification, section 20.
#pragma once

#include <cstdint>
#include <map>

#include "trainer/calibration.h"
#include "trainer/cost_model.h"
#include "trainer/step_traffic.h"

namespace farsight {

// Seconds of one optimizer step on the slowest rank.
struct StepTime {
  double products = 0.0;   // of the layers, forward and backward, repeated forward passes included
  double attention = 0.0;  // the same
  double elementwise = 0.0;
  double loss = 0.0;  // embedding, output projection and cross-entropy
  double optimizer = 0.0;
  double communication = 0.0;  // all transfers one after another
  double exposed = 0.0;        // what of them is not covered
  std::map<TrafficKind, double> exposed_by;
  double compute() const { return products + attention + elementwise + loss + optimizer; }
  double total() const { return compute() + exposed; }

  double tokens_per_s = 0.0;  // of all ranks
  double mfu = 0.0;           // 6 P_matmul + 12 L H D K per token, K = keys a query sees
  double mfu_full = 0.0;      // the same with K = T: causal attention counted as if all keys were seen
};

// ranks_per_node: 0 = all ranks on one node. calibration.peak_flops = 0 leaves MFU out.
StepTime step_time(const Config& config, const RunLayout& layout, int64_t vocab, const Calibration& calibration,
                   int64_t ranks_per_node, const RankParameters& parameters);

}  // namespace farsight
