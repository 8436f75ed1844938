// SPDX-License-Identifier: Apache-2.0
// How long the patterns of communication take on a communicator, and the line time = alpha + beta * bytes through the
// measurements: what `farsight bench comm` prints and the planner calculates with. All ranks of the communicator call
// these functions together and get the same numbers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "kernels/tensor.h"
#include "parallel/comm.h"

namespace farsight {

// What `bytes` counts, on each rank:
//   all_reduce      the buffer, fp32, summed in place
//   reduce_scatter  the input, fp32; 1/n of it is the result
//   all_gather      the result; 1/n of it is the input
//   all_to_all      the input, 1/n of it for every rank; as much comes in
//   ring            the message to the right neighbour; as much comes from the left one
enum class CommPattern : uint8_t { all_reduce, reduce_scatter, all_gather, all_to_all, ring };
inline constexpr std::array kCommPatterns{CommPattern::all_reduce, CommPattern::reduce_scatter, CommPattern::all_gather,
                                          CommPattern::all_to_all, CommPattern::ring};
const char* to_string(CommPattern pattern);

// A pattern of one size with its buffers, which are zero at first. Several ranks; the ring needs them too.
class CommProbe {
 public:
  // `bytes` is rounded up to whole floats for every rank: see bytes().
  CommProbe(Communicator& comm, CommPattern pattern, int64_t bytes);
  int64_t bytes() const { return bytes_; }
  // Once, blocking.
  void run();
  std::span<std::byte> input();   // ring, all_to_all, reduce_scatter: what is sent
  std::span<std::byte> output();  // what comes out; of all_reduce, the buffer
  // What all_gather gives lies in its output already.
  int64_t piece_bytes() const { return bytes_ / comm_.size(); }

 private:
  Communicator& comm_;
  CommPattern pattern_;
  int64_t bytes_;
  Tensor input_, output_;
};

// Time from a barrier to the end of body() on the slowest rank.
double slowest_seconds(Communicator& comm, const std::function<void()>& body);

// Median of `repeats` (>= 1) runs after one that is not counted.
double measure_seconds(Communicator& comm, CommPattern pattern, int64_t bytes, int repeats);

struct CommSample {
  int64_t bytes;
  double seconds;
};
struct CommCost {
  double alpha_s = 0.0;  // a call of no bytes
  double beta_s_per_byte = 0.0;
  double seconds(int64_t bytes) const { return alpha_s + beta_s_per_byte * static_cast<double>(bytes); }
};

// The line with the least sum of squared relative errors, alpha and beta not negative. Needs a sample of positive time.
CommCost fit_cost(std::span<const CommSample> samples);

// Measures `pattern` at several sizes up to `largest` bytes and fits the line.
CommCost measure_cost(Communicator& comm, CommPattern pattern, int64_t largest, int repeats);

}  // namespace farsight
