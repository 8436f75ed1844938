// SPDX-License-Identifier: Apache-2.0
// Cuts one attention call into tasks whose results do not depend on the thread that runs them.
#include "kernels/attention/block.h"

#include <algorithm>
#include <thread>

#include "kernels/attention/backward_cpu.h"
#include "kernels/attention/block_device.h"
#include "kernels/attention/check.h"
#include "kernels/attention/forward_cpu.h"
#include "kernels/attention/sdpa_device.h"
#include "kernels/attention/tile_job.h"
#include "kernels/parallel_for.h"

namespace farsight {
namespace {

// Packed keys and values held at once; more heads than fit are processed in turns, so that a long sequence does not
// need a second copy of all its keys and values.
constexpr int64_t kPanelBudgetFloats = int64_t{16} << 20;

constexpr int kSpinsBeforeYield = 256;

// Below this many multiply-adds (about 20 us of one core) waking the team costs more than it saves.
constexpr int64_t kParallelWork = int64_t{1} << 20;

Tensor scratch_floats(int64_t floats) { return Tensor::empty({floats}, DType::f32, MemoryTag::attention); }

// Working memory for each thread of the calling thread's team.
class ThreadScratch {
 public:
  explicit ThreadScratch(int64_t floats)
      : serial_(thread_count() == 1),
        floats_(round_up(floats, kMaxLanes)),
        memory_(scratch_floats(floats_ * thread_count())) {}
  float* mine() const { return memory_.data<float>() + (serial_ ? 0 : thread_index()) * floats_; }

 private:
  bool serial_;
  int64_t floats_;
  Tensor memory_;
};

void run_tasks(const TileJob& job, int64_t tasks, RangeFunction body) {
  const int64_t pairs = job.queries.batch * job.queries.heads * job.queries.tokens * job.keys.tokens;
  if (pairs * (job.queries.width + job.keys.value_width) >= kParallelWork) {
    parallel_tasks(tasks, body);
  } else {
    for (int64_t task = 0; task < tasks; ++task) body(task, task + 1);
  }
}

struct ForwardWave {  // the (sample, key head) units [first, first + units)
  int64_t first, units;
};

void run_forward_wave(const TileJob& job, AttentionState& state, const ForwardWave& wave, const Tensor& panels,
                      const ThreadScratch& scratch) {
  const int64_t kv_heads = job.keys.heads, unit_floats = ForwardPanels(job).floats(job);
  const auto panel = [&](int64_t unit) { return panels.data<float>() + unit * unit_floats; };
  run_tasks(job, wave.units * job.key_tiles, [&](int64_t task, int64_t) {
    const int64_t unit = task / job.key_tiles, at = wave.first + unit;
    forward_pack(job, at / kv_heads, at % kv_heads, task % job.key_tiles, panel(unit));
  });
  // Last query blocks first: under a causal mask they are the long ones, and the short ones fill the gaps at the end.
  const int64_t heads = wave.units * job.group();
  run_tasks(job, heads * job.query_blocks, [&](int64_t task, int64_t) {
    const int64_t unit = task % heads / job.group(), at = wave.first + unit;
    const int64_t h = at % kv_heads * job.group() + task % job.group();
    forward_rows(job, state, at / kv_heads, h, job.query_blocks - 1 - task / heads, panel(unit), scratch.mine());
  });
}

// Sums the partial gradients of the score vectors of all tasks in a fixed order.
void add_score_vectors(const TileJob& job, const Tensor& sums, float* dscore_vectors) {
  const int64_t width = job.queries.width, padded = padded_width(width), units = job.queries.batch * job.keys.heads;
  parallel_for(job.queries.heads * width, 64, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t h = at / width, kh = h / job.group();
      double total = 0.0;
      for (int64_t task = 0; task < units * job.key_tiles; ++task) {
        if (task % job.keys.heads != kh) continue;
        total += static_cast<double>(sums.data<float>()[(task * job.group() + h % job.group()) * padded + at % width]);
      }
      dscore_vectors[at] += static_cast<float>(total);
    }
  });
}

}  // namespace

void attention_forward_block(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                             AttentionState& state) {
  check_attention(spec, queries, keys);
  check_state(spec, queries, keys, state);
  const int64_t units = queries.batch * keys.heads;
  if (units * queries.tokens * keys.tokens == 0) return;
  if (queries.q.device() == Device::cuda) {
    if (!sdpa_forward(spec, queries, keys, state)) attention_forward_cuda(spec, queries, keys, state);
    return;
  }
  const TileJob job(spec, queries, keys, kForwardRows, kForwardKeys);
  const int64_t unit_floats = ForwardPanels(job).floats(job);
  const int64_t at_once = std::clamp<int64_t>(kPanelBudgetFloats / unit_floats, 1, units);
  const Tensor panels = scratch_floats(at_once * unit_floats);
  const ThreadScratch scratch(forward_scratch_floats(job));
  for (int64_t first = 0; first < units; first += at_once) {
    run_forward_wave(job, state, {first, std::min(at_once, units - first)}, panels, scratch);
  }
}

void attention_forward(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                       const Tensor& out, const Tensor& lse, const Tensor& entropy) {
  const int64_t work = queries.batch * queries.tokens * keys.tokens;
  if (work > 0 && queries.q.device() == Device::cuda) {
    check_attention(spec, queries, keys);
    if (!sdpa_forward(spec, queries, keys, out, lse)) {
      attention_forward_cuda(spec, queries, keys, out, lse, entropy);
    }
    return;
  }
  auto state = AttentionState::create(queries.batch, queries.tokens, queries.heads, keys.value_width, spec.entropy);
  state.reset();
  attention_forward_block(spec, queries, keys, state);
  attention_finish(state, out, lse, entropy);
}

TurnOrder::TurnOrder(const TileJob& job)
    : job_(job),
      turns_(
          Tensor::empty({job.queries.batch, job.queries.heads, job.query_blocks}, DType::i32, MemoryTag::attention)) {
  for (int64_t b = 0; b < job.queries.batch; ++b) {
    for (int64_t block = 0; block < job.query_blocks; ++block) {
      const auto first = static_cast<int32_t>(job.next_tile(b, block, 0));
      for (int64_t h = 0; h < job.queries.heads; ++h) turn(b, h, block).store(first, std::memory_order_relaxed);
    }
  }
}

std::atomic_ref<int32_t> TurnOrder::turn(int64_t b, int64_t h, int64_t q_block) const {
  return std::atomic_ref(turns_.data<int32_t>()[(b * job_.queries.heads + h) * job_.query_blocks + q_block]);
}

void TurnOrder::wait(int64_t b, int64_t h, int64_t q_block, int64_t tile) const {
  const auto mine = turn(b, h, q_block);
  for (int spins = 0; mine.load(std::memory_order_acquire) != tile; ++spins) {
    if (spins > kSpinsBeforeYield) std::this_thread::yield();
  }
}

void TurnOrder::pass_on(int64_t b, int64_t h, int64_t q_block, int64_t tile) const {
  turn(b, h, q_block).store(static_cast<int32_t>(job_.next_tile(b, q_block, tile + 1)), std::memory_order_release);
}

void attention_backward_block(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                              const AttentionRowSaved& saved, const AttentionGradients& gradients) {
  check_attention(spec, queries, keys);
  check_gradients(spec, queries, keys, saved, gradients);
  const int64_t units = queries.batch * keys.heads;
  const bool nothing = units * queries.tokens * keys.tokens == 0;
  if (!nothing && queries.q.device() == Device::cuda) {
    if (!sdpa_backward(spec, queries, keys, saved, gradients)) {
      attention_backward_cuda(spec, queries, keys, saved, gradients);
    }
    return;
  }
  if (!gradients.add_q) gradients.dq.fill_zero();
  if (!gradients.add_kv) gradients.dk.fill_zero();
  if (!gradients.add_kv) gradients.dv.fill_zero();
  if (nothing) return;
  const SavedView saved_rows(saved);
  const GradientView to(gradients);
  const TileJob job(spec, queries, keys, kBackwardRows, kBackwardKeys);
  const TurnOrder turns(job);
  const ThreadScratch scratch(backward_scratch_floats(job));
  const bool additive = spec.score == AttentionScore::additive;
  const int64_t sums_of_task = job.group() * padded_width(queries.width);
  const Tensor sums = additive ? scratch_floats(units * job.key_tiles * sums_of_task) : Tensor();
  // All heads of one key tile before the next tile: threads wait for turns only where there are fewer heads than
  // threads.
  run_tasks(job, units * job.key_tiles, [&](int64_t task, int64_t) {
    const int64_t unit = task % units;
    float* sum = additive ? sums.data<float>() + task * sums_of_task : nullptr;
    backward_tile_column(job, saved_rows, to, turns, unit / keys.heads, unit % keys.heads, task / units, sum,
                         scratch.mine());
  });
  if (additive) add_score_vectors(job, sums, gradients.dscore_vectors.data<float>());
}

}  // namespace farsight
