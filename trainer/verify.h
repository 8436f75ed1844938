// SPDX-License-Identifier: Apache-2.0
// Proof, before a job starts and without a cluster, that a configuration trains with right numbers in its layout: the
// gradients of its model against central differences of the loss on one rank, then a few steps in its layout and in
// each axis alone, on threads as ranks, against one rank.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "trainer/config.h"
#include "trainer/dataset.h"
#include "trainer/layout_run.h"
#include "trainer/verify_gradients.h"

namespace farsight {

struct LayoutVerdict;

struct VerifyRequest {
  Config config;
  int64_t ranks = 0;        // 0 = as few as its extents fit on
  int64_t steps = 3;        // in every layout
  int64_t sequence = 0;     // shorter samples; 0 = those of the configuration
  int64_t directions = -1;  // of the gradient check, per tensor; -1 = by the size of the model, 0 leaves it out
  bool only_own = false;    // no other layout than the configuration's
  int64_t memory = 0;       // bytes it may take; 0 = what the machine has
  Progress progress = [](const std::string&) {};
  // Called once all that can be said before computing is in the report: layouts, memory, notes.
  std::function<void(const LayoutVerdict& report)> announce = [](const LayoutVerdict&) {};
  // For tests of the verdicts: faults to be found. Nothing on the command line sets them.
  std::function<void(NamedTensors& gradients)> spoil_gradients;
  std::function<void(const std::string& layout, Config& config)> spoil_layout;
};

struct LayoutReport {
  std::string name;
  int64_t ranks = 1;
  bool own = false;
  std::string refusal;  // why it was not run; empty = it was
  Agreement agreement;
  std::string mismatch;  // what does not agree, replicas included; empty = all agrees
  double seconds = 0.0;
};

struct LayoutVerdict {
  Config config;  // as it was run
  int64_t ranks = 1, steps = 0, directions = 0;
  int64_t memory = 0, memory_limit = 0;  // bytes: needed at most (estimate), and available
  int64_t parameters = 0;
  std::vector<std::string> notes;  // what was changed, and where the data come from
  GradientReport gradients;
  std::vector<LayoutReport> layouts;
  // What is wrong, worst first, in one or several lines with what to do; empty = nothing.
  std::string verdict(const std::string& config_path) const;
};

// Throws Error{config} for a configuration or a layout of its own that cannot be, Error{data} for data that cannot be
// read, Error{environment} when memory does not suffice, Error{diverged} when the numbers of one rank are not finite.
// What does not agree is in the report.
LayoutVerdict verify(const VerifyRequest& request);

std::string verify_header(const LayoutVerdict& report);  // what was announced
std::string verify_text(const LayoutVerdict& report);    // what was found
std::string verify_json(const LayoutVerdict& report, const std::string& config_path);

}  // namespace farsight
