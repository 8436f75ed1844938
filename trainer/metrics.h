// SPDX-License-Identifier: Apache-2.0
// What a run reports: metrics.jsonl (the truth, one object per line, flushed), metrics.csv with the same columns, and
// the step line on the terminal. Rank 0 only.
#pragma once

#include <cstdint>
#include <fstream>
#include <iosfwd>
#include <optional>
#include <string>

namespace farsight {

struct StepMetrics {
  int64_t step = 0;             // steps done
  std::string split = "train";  // train | valid | test
  double loss = 0.0;            // per target: nats, or what loss.kind says; mse, mae: of point forecasts, normalised
  // Per step: data_wait_ms until the batch was there, comm_exposed_ms in which this rank waited for the others
  // (transfers that no arithmetic covered, and slower ranks).
  std::optional<double> grad_norm, lr, tokens_per_s, flops_per_s, fraction_of_ceiling, data_wait_ms, comm_exposed_ms,
      checkpoint_stall_ms, entropy, bits_per_byte, mse, mae;
  int64_t tokens = 0;             // seen so far
  int64_t memory_peak = 0;        // bytes of this rank's allocator
  int64_t offloaded_peak = 0;     // bytes of activations that waited in host memory; metrics.jsonl only, if any
  std::string checkpoint_failed;  // why the save of this step was dropped; empty = no failure
};

class MetricsLog {
 public:
  // Opens DIR/metrics.jsonl and metrics.csv for appending. Lines of steps beyond `resumed_step` are cut off first, so
  // that no step appears twice. Throws Error{io}.
  MetricsLog(const std::string& directory, int64_t resumed_step);
  void write(const StepMetrics& metrics);

 private:
  std::ofstream json_, csv_;
};

// "step 120/2000  loss 2.413  |g| 0.84  lr 9.7e-04  38.2k tok/s (61% of ceiling)  mem 412 MiB  eta 1m42s"
std::string step_line(const StepMetrics& metrics, int64_t total_steps, double eta_s);
std::string show_duration(double seconds);
std::string show_bytes(int64_t bytes);

// Console of rank 0: plain lines into a file, on a terminal also a progress bar that the next line replaces.
// NO_COLOR is respected (the bar is the only thing that uses control sequences).
class Console {
 public:
  Console(std::ostream& out, bool terminal, const std::string& log_path);
  void line(const std::string& text);
  void progress(int64_t done, int64_t total, double eta_s);

 private:
  void clear_bar();
  std::ostream& out_;
  bool terminal_;
  bool bar_ = false;
  std::ofstream log_;
};

}  // namespace farsight
