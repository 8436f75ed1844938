// SPDX-License-Identifier: Apache-2.0
// Every way to spread a configuration over a number of ranks, with what each would need and how fast it would be. The
// same on all ranks and machines: a pure function of its arguments.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/calibration.h"
#include "trainer/config.h"
#include "trainer/cost_model.h"
#include "trainer/step_time.h"

namespace farsight {

// Which keys may take other values than the configuration says.
struct PlanFreedom {
  bool data = true;  // otherwise parallel.data stays as it is
  bool tensor = true, sequence_parallel = true, ring = true, ulysses = true;
  bool zero = true, recompute = true, micro_batch = true;
};

struct CandidateRequest {
  int64_t ranks = 1;
  int64_t vocab = 0;
  int64_t memory_limit = 0;    // bytes of a rank; 0 = none
  int64_t ranks_per_node = 0;  // 0 = all
  PlanFreedom freedom;
};

struct LayoutCandidate {
  Config config;
  RunLayout layout;
  MemoryPlan memory;
  StepTime time;
  std::string rejected;  // empty: it can run. Otherwise the message with which training or planning would refuse it
};

// Those that can run first, fastest first; among equals the one that cuts least. Rejected ones follow.
std::vector<LayoutCandidate> plan_candidates(const Config& config, const CandidateRequest& request,
                                             const Calibration& calibration);
// "data 2 x ring 2 zigzag, zero 1, recompute layer, micro-batch 4"
std::string candidate_name(const LayoutCandidate& candidate);
// The message for a plan that does not fit, empty when it does; limit 0 = none.
std::string memory_problem(const Config& config, const MemoryPlan& memory, int64_t limit);

// The `most` best rows, then as many of the rejected with different reasons.
std::string candidates_text(const std::vector<LayoutCandidate>& candidates, size_t most);
std::string candidates_json(const std::vector<LayoutCandidate>& candidates, size_t most);

}  // namespace farsight
