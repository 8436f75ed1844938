// SPDX-License-Identifier: Apache-2.0
#include "tests/emulation/emulator.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <stdexcept>
#include <vector>

#include <boost/context/detail/fcontext.hpp>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace farsight::emulation {
namespace {

namespace fibers = boost::context::detail;

constexpr int kLanes = 32;
constexpr size_t kStack = size_t{128} << 10;

enum class Wait : uint8_t { none, warp, block, finished };

}  // namespace

struct PendingCopy {
  void* to;
  const void* from;
  int bytes;
  bool valid;
};

struct ThreadState {
  std::vector<PendingCopy> open;                 // not committed yet
  std::deque<std::vector<PendingCopy>> pending;  // groups under way
  Index3 index;
  Wait wait = Wait::none;
  fibers::fcontext_t context = nullptr;
  std::unique_ptr<char[]> stack;
  void* fake_stack = nullptr;  // of the address sanitizer
};

namespace {

// One warp's mailbox.
struct WarpState {
  std::byte inputs[kLanes][64];
  std::byte outputs[kLanes][64];
};

struct BlockState {
  Index3 block, threads, grid;
  std::vector<ThreadState> fibers;
  std::vector<WarpState> warps;
  const std::function<void()>* body = nullptr;
  std::unique_ptr<std::byte, void (*)(void*)> shared{nullptr, std::free};
  std::byte* shared_base = nullptr;
  ThreadState* current = nullptr;
  fibers::fcontext_t scheduler = nullptr;
  const void* scheduler_stack = nullptr;
  size_t scheduler_stack_size = 0;
  void* scheduler_fake_stack = nullptr;
  std::minstd_rand order;
};

BlockState& here() {
  thread_local BlockState state;
  return state;
}

void before_switch([[maybe_unused]] void** fake, [[maybe_unused]] const void* stack, [[maybe_unused]] size_t size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fake, stack, size);
#endif
}

void after_switch([[maybe_unused]] void* fake, [[maybe_unused]] const void** stack, [[maybe_unused]] size_t* size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, stack, size);
#endif
}

// Back to the scheduler; returns when it resumes this fiber.
void yield(Wait wait) {
  BlockState& block = here();
  ThreadState& self = *block.current;
  self.wait = wait;
  before_switch(wait == Wait::finished ? nullptr : &self.fake_stack, block.scheduler_stack, block.scheduler_stack_size);
  const fibers::transfer_t from = fibers::jump_fcontext(block.scheduler, nullptr);
  after_switch(self.fake_stack, nullptr, nullptr);
  here().scheduler = from.fctx;
}

void fiber_main(fibers::transfer_t from) {
  BlockState& block = here();
  after_switch(nullptr, &block.scheduler_stack, &block.scheduler_stack_size);
  block.scheduler = from.fctx;
  (*block.body)();
  yield(Wait::finished);
}

void resume(BlockState& block, ThreadState& fiber) {
  block.current = &fiber;
  before_switch(&block.scheduler_fake_stack, fiber.stack.get(), kStack);
  const fibers::transfer_t from = fibers::jump_fcontext(fiber.context, nullptr);
  after_switch(block.scheduler_fake_stack, nullptr, nullptr);
  fiber.context = from.fctx;
}

[[noreturn]] void stuck(const char* what) { throw std::runtime_error(what); }

// Runs the lanes of a warp until all have finished or wait for the block. True when all have finished.
bool run_warp(BlockState& block, size_t first, size_t last) {
  for (;;) {
    const size_t count = last - first;
    const size_t start = block.order() % count;
    for (size_t i = 0; i < count; ++i) {
      ThreadState& fiber = block.fibers[first + (start + i) % count];
      if (fiber.wait == Wait::none) resume(block, fiber);
    }
    const auto waiting = [&](Wait wait) {
      return static_cast<size_t>(std::count_if(block.fibers.begin() + static_cast<int64_t>(first),
                                               block.fibers.begin() + static_cast<int64_t>(last),
                                               [wait](const ThreadState& f) { return f.wait == wait; }));
    };
    if (waiting(Wait::finished) == count) return true;
    if (waiting(Wait::block) == count) return false;
    if (waiting(Wait::warp) != count) stuck("lanes of one warp are at different barriers");
    for (size_t i = first; i < last; ++i) block.fibers[i].wait = Wait::none;
  }
}

void run_block(BlockState& block, int threads) {
  for (int i = 0; i < threads; ++i) {
    ThreadState& fiber = block.fibers[static_cast<size_t>(i)];
    fiber.wait = Wait::none;
    fiber.open.clear();
    fiber.pending.clear();
    fiber.index = {static_cast<unsigned>(i), 0, 0};
    fiber.context = fibers::make_fcontext(fiber.stack.get() + kStack, kStack, fiber_main);
  }
  const auto warps = static_cast<size_t>(threads / kLanes);
  for (;;) {
    size_t finished = 0;
    const size_t start = block.order() % warps;
    for (size_t i = 0; i < warps; ++i) {
      const size_t first = (start + i) % warps * kLanes;
      if (block.fibers[first].wait == Wait::finished || run_warp(block, first, first + kLanes)) ++finished;
    }
    if (finished == warps) return;
    if (finished != 0) stuck("some threads have ended while others wait at a block barrier");
    for (auto& fiber : block.fibers) fiber.wait = fiber.wait == Wait::block ? Wait::none : fiber.wait;
  }
}

uint64_t seed() {
  const char* text = std::getenv("FARSIGHT_EMULATION_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

}  // namespace

const Index3& thread_index() { return here().current->index; }
const Index3& block_index() { return here().block; }
const Index3& block_extent() { return here().threads; }
const Index3& grid_extent() { return here().grid; }
void* shared_memory() { return here().shared_base; }
int lane_index() { return static_cast<int>(thread_index().x % kLanes); }

void sync_block() { yield(Wait::block); }
void sync_warp() { yield(Wait::warp); }

void exchange(const void* value, void* result, int bytes, int source) {
  WarpState& warp = here().warps[thread_index().x / kLanes];
  std::memcpy(warp.inputs[lane_index()], value, static_cast<size_t>(bytes));
  sync_warp();
  std::memcpy(result, warp.inputs[source], static_cast<size_t>(bytes));
  sync_warp();
}

void warp_collective(const void* input, int input_bytes, void* output, int output_bytes,
                     void (*body)(const std::byte* inputs, std::byte* outputs)) {
  WarpState& warp = here().warps[thread_index().x / kLanes];
  const int lane = lane_index();
  std::memcpy(&warp.inputs[0][0] + lane * input_bytes, input, static_cast<size_t>(input_bytes));
  sync_warp();
  if (lane == 0) body(&warp.inputs[0][0], &warp.outputs[0][0]);
  sync_warp();
  std::memcpy(output, &warp.outputs[0][0] + lane * output_bytes, static_cast<size_t>(output_bytes));
  sync_warp();
}

uint32_t ballot(bool yes) {
  uint32_t votes = 0;
  warp_collective(&yes, sizeof(yes), &votes, sizeof(votes), [](const std::byte* inputs, std::byte* outputs) {
    uint32_t all = 0;
    for (int lane = 0; lane < kLanes; ++lane) all |= std::to_integer<uint32_t>(inputs[lane]) << lane;
    for (int lane = 0; lane < kLanes; ++lane) std::memcpy(outputs + sizeof(all) * lane, &all, sizeof(all));
  });
  return votes;
}

void add_copy(void* to, const void* from, int bytes, bool valid) {
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) {
    std::fprintf(stderr, "an asynchronous copy is not aligned\n");
    std::abort();  // as the device would: there is no way out of a fiber
  }
  here().current->open.push_back({to, from, bytes, valid});
}

void close_copies() {
  ThreadState& self = *here().current;
  self.pending.push_back(std::move(self.open));
  self.open.clear();
}

void finish_copies(int pending) {
  ThreadState& self = *here().current;
  while (self.pending.size() > static_cast<size_t>(pending)) {
    for (const auto& copy : self.pending.front()) {
      if (copy.valid) {
        std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
      } else {
        std::memset(copy.to, 0, static_cast<size_t>(copy.bytes));
      }
    }
    self.pending.pop_front();
  }
}

void run_grid(const char* name, Index3 blocks, int threads, int64_t shared_bytes, const std::function<void()>& body) {
  BlockState& block = here();
  const std::string where = std::string(name) + ": ";
  if (threads < kLanes || threads > 1024 || threads % kLanes != 0) {
    throw std::runtime_error(where + std::to_string(threads) + " threads in a block");
  }
  if (shared_bytes > 227 * 1024)
    throw std::runtime_error(where + std::to_string(shared_bytes) + " bytes of shared memory");
  block.threads = {static_cast<unsigned>(threads), 1, 1};
  block.grid = blocks;
  block.body = &body;
  block.order.seed(static_cast<unsigned>(seed()));
  while (block.fibers.size() < static_cast<size_t>(threads)) {
    block.fibers.emplace_back().stack = std::make_unique<char[]>(kStack);
  }
  std::vector<ThreadState> rest;  // of a larger launch before
  while (block.fibers.size() > static_cast<size_t>(threads)) {
    rest.push_back(std::move(block.fibers.back()));
    block.fibers.pop_back();
  }
  block.warps.resize(static_cast<size_t>(threads / kLanes));
  try {
    for (unsigned z = 0; z < blocks.z; ++z) {
      for (unsigned y = 0; y < blocks.y; ++y) {
        for (unsigned x = 0; x < blocks.x; ++x) {
          block.block = {x, y, z};
          // A new piece of exactly this size for each block, ending where the allocation ends.
          const auto bytes = static_cast<size_t>((shared_bytes + 127) / 128 * 128);
          block.shared.reset(static_cast<std::byte*>(std::aligned_alloc(128, std::max<size_t>(128, bytes))));
          block.shared_base = block.shared.get();
          std::memset(block.shared_base, 0xFF, bytes);
          run_block(block, threads);
        }
      }
    }
  } catch (const std::runtime_error& error) {
    block.fibers.clear();
    throw std::runtime_error(where + error.what());
  }
  for (auto& fiber : rest) block.fibers.push_back(std::move(fiber));
}

}  // namespace farsight::emulation
