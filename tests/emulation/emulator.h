// SPDX-License-Identifier: Apache-2.0
// Runs device code on the CPU: every thread of a block is a fiber, barriers and warp exchanges switch between them.
// So the very source that nvcc compiles is tested where there is no GPU, and the address sanitizer sees its accesses.
// Threads run one at a time, in an order that changes from round to round: code that needs a barrier which is not there
// reads stale values sooner or later. What cannot happen on the device either (part of a warp at a barrier, the rest
// elsewhere) ends the launch with an error. Dynamic shared memory starts as NaN.
//
// Streams are lazy: work runs when somebody waits for it, in the order of its stream, and other streams only as far as
// events demand. A missing wait, or memory that is used again too early, shows as wrong numbers.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

namespace farsight::emulation {

struct Index3 {
  unsigned x = 1, y = 1, z = 1;
};

// What device code asks about itself. Valid inside a launch only.
struct ThreadState;
const Index3& thread_index();
const Index3& block_index();
const Index3& block_extent();
const Index3& grid_extent();
void* shared_memory();

void sync_block();
void sync_warp();
// `bytes` (at most 16) of `value` from lane `source` of the same warp. All lanes take part.
void exchange(const void* value, void* result, int bytes, int source);
// body(all inputs of the warp [32][input_bytes], all results [32][output_bytes]) runs once per warp; every lane hands
// in its input and gets its result.
void warp_collective(const void* input, int input_bytes, void* output, int output_bytes,
                     void (*body)(const std::byte* inputs, std::byte* outputs));

template <class T>
T shuffle(T value, int source) {
  T result;
  exchange(&value, &result, sizeof(T), source);
  return result;
}
int lane_index();
// Bit i: what lane i of the warp says. All lanes take part.
uint32_t ballot(bool yes);

// Asynchronous copies of this thread, in groups.
void add_copy(void* to, const void* from, int bytes, bool valid);
void close_copies();
void finish_copies(int pending);

// Runs body in every thread of every block. Throws std::runtime_error naming the kernel.
void run_grid(const char* name, Index3 blocks, int threads, int64_t shared_bytes, const std::function<void()>& body);

}  // namespace farsight::emulation
