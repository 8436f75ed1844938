// SPDX-License-Identifier: Apache-2.0
// What a configuration costs and every problem it has, from the formulas of cost_model.h. Needs no MPI and no device,
// so that `farsight plan` can answer before a job is submitted.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/calibration.h"
#include "trainer/config.h"
#include "trainer/cost_model.h"
#include "trainer/plan_dry_run.h"
#include "trainer/step_time.h"
#include "trainer/step_traffic.h"

namespace farsight {

// What is known about the training data.
struct DatasetFacts {
  bool present = false;  // every train file exists
  int64_t vocab = 0;     // ids of the tokeniser
  int64_t epoch_samples = 0;
  std::vector<std::string> notes;     // "corpus.h5 does not exist yet"
  std::vector<std::string> problems;  // errors that training would meet
};

// What the configuration would run on.
struct PlanMachine {
  Calibration calibration = default_cpu_calibration();
  int64_t ranks_per_node = 0;  // 0 = what the calibration says, or all
  int64_t node() const { return ranks_per_node > 0 ? ranks_per_node : calibration.ranks_per_node; }
};

struct Plan {
  RunLayout layout;
  DatasetFacts data;
  int64_t vocab = 0;  // 0 = not known yet
  ModelSize size;
  double visible_keys = 0.0;
  double flops_per_token = 0.0, flops_per_step = 0.0;
  MemoryPlan memory;
  TrafficPlan traffic;
  PlanMachine machine;
  StepTime time;
  DryRun dry_run;
  int64_t memory_limit = 0;  // 0 = none given
  std::vector<std::string> notes;
};
// Throws Error{config} with every problem found: layout, dataset, memory, ranks whose slices do not fit together.
Plan make_plan(const Config& config, int64_t ranks, int64_t memory_limit, const DatasetFacts& data,
               const PlanMachine& machine = {});
std::string plan_text(const Config& config, const Plan& plan);
std::string plan_json(const Config& config, const Plan& plan);

}  // namespace farsight
