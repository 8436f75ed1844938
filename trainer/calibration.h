// SPDX-License-Identifier: Apache-2.0
// How fast a machine is: what the planner turns bytes and FLOPs into seconds with. Measured by `farsight bench kernels`
// and `farsight bench comm`, kept in JSON files, or a built-in table of public numbers.
//
//   product [m,k] x [k,n]   2mkn / product_flops + bytes of the three matrices / product_bytes
//   attention               FLOPs (4 D forward, 10 D backward per visible pair and head) / rate(tokens)
//   everything else         bytes read and written / memory_bytes
//   communication           alpha + beta * bytes, per pattern and number of ranks; `bytes` as in comm_measure.h
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/comm_measure.h"
#include "trainer/cost_model.h"

namespace farsight {

struct CommRate {
  CommPattern pattern = CommPattern::all_reduce;
  int64_t ranks = 2;
  bool across = false;  // ranks on several nodes
  CommCost cost;
};

struct Calibration {
  std::string device = "cpu";
  Precision precision;
  double peak_flops = 0.0;  // of a rank: the denominator of MFU
  double product_flops = 0.0, product_bytes = 0.0;
  double attention_forward = 0.0, attention_backward = 0.0;  // FLOP/s for long rows
  double attention_half = 0.0;  // keys a query sees at which half of that is reached; once per border
  double memory_bytes = 0.0;    // per second
  double operation_s = 0.0;     // of one operation, whatever its size
  double overlap = 0.0;         // share of a transfer that can hide behind arithmetic that runs meanwhile
  double tensor_overlap = 0.0;  // share of a tensor transfer that hides behind its own product, cut into pieces
  int64_t concurrency = 0;      // ranks of a node that have cores of their own; 0: all
  double slowdown = 1.0;        // of each when `concurrency` of them run
  int64_t ranks_per_node = 0;   // what the device comes with; 0: unknown
  std::vector<CommRate> comm;
};

// Public numbers of an H100 SXM with NVLink inside a node of 8 and 400 Gb/s of network per GPU: 989 TFLOP/s dense bf16,
// 3.35 TB/s, 450 and 50 GB/s one way. The shares of these that software reaches are stated in calibration.cc.
Calibration h100_calibration();
// What a core of a current server reaches, for predictions without a measurement.
Calibration default_cpu_calibration();
// Of the device that a run of this configuration computes on: `cuda` like an H100 in the precision of the run, else the
// CPU.
Calibration run_calibration(const Config& config, bool cuda);
// "h100" or "cpu" (default_cpu_calibration). Throws Error{usage} listing the names.
Calibration named_calibration(std::string_view device);

// Values that a file holds replace those of `into`; measurements of communication are added, and replace those of the
// same pattern, ranks and reach. Throws Error{io} for a file that cannot be read, Error{config} for one that is not a
// calibration, naming file and key.
void read_calibration(const std::string& path, Calibration& into);
void parse_calibration(std::string_view text, const std::string& name, Calibration& into);
std::string calibration_json(const Calibration& calibration);

// Seconds of one call on `ranks` ranks. From the entry with the nearest number of ranks, scaled as a ring of messages
// scales: alpha with n - 1, beta with (n - 1) / n. 0 for one rank. Across nodes without such an entry: the one inside.
double comm_seconds(const Calibration& calibration, CommPattern pattern, int64_t ranks, bool across, double bytes);
double product_seconds(const Calibration& calibration, double m, double n, double k);
double memory_seconds(const Calibration& calibration, double bytes);
// keys: that a query sees on average. borders: places where the mask cuts through a query's tiles, which are computed
// whole; 1 where the keys lie in the order of their positions.
double attention_seconds(const Calibration& calibration, double flops, double keys, double borders, bool backward);

}  // namespace farsight
