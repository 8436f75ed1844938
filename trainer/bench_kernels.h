// SPDX-License-Identifier: Apache-2.0
// `farsight bench kernels`: the rates of this machine's arithmetic in the form the planner calculates with, measured in
// a second or two: products of several shapes, attention of several lengths, elementwise operations; on one rank alone
// and on as many at once as the machine has cores for.
#pragma once

#include <cstdint>
#include <iosfwd>

#include "trainer/calibration.h"

namespace farsight {

struct BenchKernelsOptions {
  double seconds = 0.03;  // of each measurement, at least one run
  int ranks = 0;          // at once; 0 = cores / threads of a rank
};

// Everything of a calibration but communication. Threads as ranks, each with the threads that parallel_for uses here.
Calibration measure_kernels(const BenchKernelsOptions& options);

// Prints the table, or JSON for `farsight plan --calibration`; returns the exit code 0.
int bench_kernels(const BenchKernelsOptions& options, bool json, std::ostream& out);

}  // namespace farsight
