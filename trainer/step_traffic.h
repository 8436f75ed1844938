// SPDX-License-Identifier: Apache-2.0
// What the ranks send each other in an optimizer step: every collective and every hop of a ring, with its size, how
// often it happens, and what the ranks compute meanwhile.
// Source: parallelism specification, section 12; sizes as the operations of parallel/ send them.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/comm_measure.h"
#include "trainer/cost_model.h"

namespace farsight {

enum class TrafficKind : uint8_t { gradients, weights, tensor, keys, heads, loss };
const char* to_string(TrafficKind kind);

// The arithmetic behind which a transfer can hide.
enum class Behind : uint8_t {
  nothing,
  attention_forward,   // one block of keys
  attention_backward,  // one block of keys
  input_gradient,      // of the product whose input or gradient travels
  weight_gradient,
  layer_forward,  // all of a layer
  layer_backward,
  backward,      // a whole pass
  next_forward,  // a whole pass
};

// Ranks `stride` apart in the numbering of the ranks.
struct RankGroup {
  int64_t ranks = 1, stride = 1;
};

struct Transfer {
  TrafficKind kind;
  CommPattern pattern;
  RankGroup group;
  double bytes;  // of a call, as comm_measure.h counts them
  double calls;  // per optimizer step
  Behind behind = Behind::nothing;
  double blocks = 1.0;  // behind attention: into how many blocks of keys it is cut
};

// A rank's transfers in one optimizer step, of the rank that has most.
std::vector<Transfer> step_transfers(const Config& config, const RunLayout& layout, int64_t vocab,
                                     const Precision& precision, const RankParameters& parameters);
// Bytes that a rank sends in one call: 2 (n - 1) / n of an all-reduce, (n - 1) / n of the others, all of a ring hop.
double sent_bytes(const Transfer& transfer);

// Bytes that one rank sends per optimizer step, by what they are for.
struct TrafficPlan {
  int64_t gradients = 0, weights = 0, tensor = 0, keys = 0, heads = 0, loss = 0;
  int64_t total() const { return gradients + weights + tensor + keys + heads + loss; }
};
TrafficPlan traffic_plan(const Config& config, const RunLayout& layout, int64_t vocab,
                         const Precision& precision = kSinglePrecision);
TrafficPlan sum_traffic(const std::vector<Transfer>& transfers);

}  // namespace farsight
