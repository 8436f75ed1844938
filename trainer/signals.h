// SPDX-License-Identifier: Apache-2.0
// Requests from outside: a scheduler or a user asks the run to save and stop. A thread waits for the signals and sets a
// flag; the loop reads it once per step and lets the ranks agree.
#pragma once

#include <cstdint>

namespace farsight {

enum class StopRequest : int64_t {
  none = 0,
  save = 1,      // USR1, USR2, time limit: save, then exit 85
  terminate = 2  // TERM, INT, HUP: save if there is time within train.grace, else exit 143
};

// Blocks the signals in this thread, and so in every thread started later, and receives them in a thread of their own.
// No handler ever interrupts a computation. Measured: with ordinary handlers about half of the runs that got SIGUSR1
// died of a corrupted heap inside oneDNN 2.6's SGEMM, with this thread 0 of 9. The likely reason is a GEMM kernel that
// points the stack pointer into a work buffer on the heap, where a handler's frame overwrites what lies below. Call at
// the start of a training command, before MPI and before any other thread. A second TERM, INT or HUP ends the process
// at once with 143.
void watch_stop_signals();

// Highest request seen so far; any thread.
StopRequest stop_request();
// For the time limit and for tests.
void raise_stop_request(StopRequest request);
void clear_stop_request();

}  // namespace farsight
