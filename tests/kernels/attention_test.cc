// SPDX-License-Identifier: Apache-2.0
// Properties of the attention blocks beyond their numbers: tiles, threads, randomness, memory, refusals.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <thread>

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include "kernels/attention/block.h"
#include "kernels/attention/tile_job.h"
#include "kernels/error.h"
#include "kernels/parallel_for.h"
#include "kernels/rows.h"
#include "tests/kernels/attention_case.h"

namespace farsight::testing {
namespace {

// One sequence attending to itself, positions 0 .. tokens - 1 in order.
DenseAttention self_attention(int64_t tokens, int64_t heads, int64_t kv_heads, int64_t width) {
  DenseAttention a;
  a.queries = a.keys = tokens;
  a.heads = heads;
  a.kv_heads = kv_heads;
  a.width = a.value_width = width;
  a.query_positions.resize(static_cast<size_t>(tokens));
  std::iota(a.query_positions.begin(), a.query_positions.end(), 0);
  a.key_positions = a.query_positions;
  a.query_documents.assign(static_cast<size_t>(tokens), 0);
  a.key_documents = a.query_documents;
  return a;
}

class ThreadCount {  // for the duration of a scope
 public:
  explicit ThreadCount(int threads) : before_(thread_count()) { set_thread_count(threads); }
  ~ThreadCount() { set_thread_count(before_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int before_;
};

class CountedTiles {
 public:
  CountedTiles() { set_attention_tile_count(&count_); }
  ~CountedTiles() { set_attention_tile_count(nullptr); }
  CountedTiles(const CountedTiles&) = delete;
  CountedTiles& operator=(const CountedTiles&) = delete;
  int64_t full() const { return count_.full; }
  int64_t all() const { return count_.full + count_.partial; }

 private:
  AttentionTileCount count_;
};

// Tiles of the forward pass that hold at least one visible pair, by looking at every pair.
int64_t tiles_with_visible_pairs(const DenseAttention& a) {
  int64_t count = 0;
  for (int64_t i0 = 0; i0 < a.queries; i0 += kForwardRows) {
    for (int64_t j0 = 0; j0 < a.keys; j0 += kForwardKeys) {
      bool any = false;
      for (int64_t i = i0; i < std::min(i0 + kForwardRows, a.queries); ++i) {
        for (int64_t j = j0; j < std::min(j0 + kForwardKeys, a.keys); ++j) any = any || dense_visible(a, 0, i, j);
      }
      count += any ? 1 : 0;
    }
  }
  return count;
}

int64_t counted_forward_tiles(const AttentionCase& c, int64_t* full) {
  const DenseAttention& a = c.dense;
  const Tensor x = device_copy(std::vector<float>(a.q.begin(), a.q.end())).view({a.queries, a.heads * a.width});
  const AttentionQueries queries{x,
                                 1,
                                 a.queries,
                                 a.heads,
                                 a.width,
                                 device_copy(a.query_positions),
                                 device_copy(a.query_documents),
                                 Tensor::zeros({1}, DType::i64),
                                 {},
                                 0};
  const AttentionKeys keys{
      x, x, a.keys, a.kv_heads, a.width, a.value_width, device_copy(a.key_positions), device_copy(a.key_documents)};
  auto state = AttentionState::create(1, a.queries, a.heads, a.value_width, false);
  state.reset();
  const CountedTiles counted;
  attention_forward_block(a.spec, queries, keys, state);
  *full = counted.full();
  return counted.all();
}

TEST(AttentionTiles, EmptyTilesAreNotComputed) {
  for (int mask = 0; mask < 4; ++mask) {
    auto a = self_attention(700, 2, 2, 8);
    if (mask == 1) a.spec.window_left = 100;
    if (mask == 2) {
      a.spec.documents = true;
      for (size_t t = 0; t < 700; ++t) a.query_documents[t] = t < 90 ? 0 : t < 500 ? 1 : 2;
      a.key_documents = a.query_documents;
    }
    if (mask == 3) {
      a.spec.causal = false;
      a.spec.window_left = 60;
      a.spec.window_right = 10;
    }
    int64_t full = 0;
    EXPECT_EQ(counted_forward_tiles(filled_case(a, 5), &full), 2 * tiles_with_visible_pairs(a)) << "mask " << mask;
  }
}

TEST(AttentionTiles, TilesBelowTheDiagonalDoNotEvaluateTheMask) {
  const int64_t blocks = 10, tokens = blocks * kForwardKeys;
  int64_t full = 0;
  const int64_t all = counted_forward_tiles(filled_case(self_attention(tokens, 1, 1, 8), 6), &full);
  const int64_t rows_per_tile = kForwardKeys / kForwardRows;
  // Of the tiles on the diagonal every row block evaluates the mask, all others are full.
  EXPECT_EQ(all, rows_per_tile * blocks * (blocks + 1) / 2);
  EXPECT_EQ(all - full, rows_per_tile * blocks);
}

TEST(AttentionTiles, BackwardComputesTheSameTilesAsForward) {
  auto c = filled_case(self_attention(500, 2, 1, 8), 7);
  c.dense.spec.window_left = 130;
  const CountedTiles counted;
  run_blocks(c);
  EXPECT_EQ(counted.all(), 2 * 2 * tiles_with_visible_pairs(c.dense));
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void expect_same_bits(const AttentionNumbers& a, const AttentionNumbers& b, const std::string& what) {
  EXPECT_TRUE(same_bits(a.out, b.out) && same_bits(a.lse, b.lse) && same_bits(a.entropy, b.entropy)) << what;
  EXPECT_TRUE(same_bits(a.dq, b.dq) && same_bits(a.dk, b.dk)) << what;
  EXPECT_TRUE(same_bits(a.dv, b.dv) && same_bits(a.dy, b.dy)) << what;
}

AttentionNumbers run_with_threads(const AttentionCase& c, int threads) {
  const ThreadCount scope(threads);
  return run_blocks(c);
}

TEST(AttentionThreads, ThreadCountDoesNotChangeABit) {
  for (uint64_t seed = 300; seed < 312; ++seed) {
    const auto c = random_case(seed, 300);
    expect_same_bits(run_with_threads(c, 1), run_with_threads(c, 4), describe(c));
  }
}

// One key head: all threads add to the same query gradients, in the order of the key tiles.
TEST(AttentionThreads, OneKeyHeadIsSharedWithoutChangingABit) {
  for (const bool causal : {true, false}) {
    auto a = self_attention(1000, 2, 1, 16);
    a.spec.causal = causal;
    const auto c = filled_case(a, 11);
    const auto once = run_with_threads(c, 1);
    for (int repeat = 0; repeat < 3; ++repeat) expect_same_bits(once, run_with_threads(c, 4), "one key head");
  }
}

struct HookCalls {
  std::thread::id caller = std::this_thread::get_id();
  int calls = 0;
  bool elsewhere = false;
};

TEST(AttentionThreads, ProgressIsPolledOnTheCallingThreadOnly) {
  HookCalls calls;
  set_attention_progress(
      [](void* context) {
        auto& seen = *static_cast<HookCalls*>(context);
        ++seen.calls;
        seen.elsewhere = seen.elsewhere || std::this_thread::get_id() != seen.caller;
      },
      &calls);
  run_with_threads(filled_case(self_attention(600, 2, 2, 8), 12), 3);
  run_with_threads(filled_case(self_attention(600, 2, 2, 8), 12), 1);
  set_attention_progress(nullptr, nullptr);
  EXPECT_FALSE(calls.elsewhere);
  EXPECT_GE(calls.calls, 2 * 2 * tiles_with_visible_pairs(self_attention(600, 2, 2, 8)));  // the serial run alone
}

TEST(AttentionRows, ARowThatSeesNothingIsZeroAndTakesNoGradient) {
  auto a = self_attention(70, 2, 1, 12);
  a.spec.entropy = true;
  std::fill(a.key_positions.begin(), a.key_positions.end(), 40);  // rows 0 .. 39 see no key
  const auto c = filled_case(a, 13);
  const auto n = run_blocks(c);
  const auto dense = dense_forward(c.dense);
  for (size_t i = 0; i < 40; ++i) {
    EXPECT_EQ(n.lse[i], -std::numeric_limits<float>::infinity());
    EXPECT_EQ(n.entropy[i], 0.0F);
    for (size_t x = i * 24; x < (i + 1) * 24; ++x) {
      EXPECT_EQ(n.out[x], 0.0F);
      EXPECT_EQ(n.dq[x], 0.0F);
    }
  }
  EXPECT_LE(compare_with_oracle(c, n).backward, 1e-5);
}

// With a key channel that is 1 everywhere, the query gradient of that channel is the sum of the row's score gradients,
// which the row identity says is the upstream gradient of the LSE.
TEST(AttentionRows, ScoreGradientsSumToTheLseGradient) {
  for (uint64_t seed = 20; seed < 40; ++seed) {
    auto c = random_case(seed, 150);
    c.dense.spec.score = AttentionScore::scaled_dot;
    c.dense.spec.scale = 0.25F;
    const auto width = static_cast<size_t>(c.dense.width);
    for (size_t i = 0; i < c.dense.k.size(); i += width) c.dense.k[i] = 1.0;
    const auto n = run_blocks(c);
    const auto forward = dense_forward(c.dense);
    for (int64_t row = 0; row < c.dense.rows(); ++row) {
      const int64_t i = row % c.dense.queries, h = row / c.dense.queries % c.dense.heads;
      const int64_t b = row / c.dense.queries / c.dense.heads;
      const bool visible = std::isfinite(forward.lse[static_cast<size_t>(row)]);
      const double expected = visible ? 0.25 * c.grad_lse[static_cast<size_t>(row)] : 0.0;
      const auto at = static_cast<size_t>((b * c.dense.queries + i) * c.dense.heads + h) * width;
      ASSERT_NEAR(n.dq[at], expected, 2e-5) << "seed " << seed << " " << describe(c);
    }
  }
}

// Values are unit vectors, so that the output is the multiplied weights themselves.
TEST(AttentionDropout, IsTheCounterBasedMaskHoweverKeysAreCut) {
  auto a = self_attention(64, 2, 2, 64);
  a.spec.causal = false;
  a.spec.dropout = 0.3;
  a.first_head = 3;
  for (auto& p : a.key_positions) p = 2 * p + 1;
  auto c = filled_case(a, 14);
  for (size_t i = 0; i < c.dense.v.size(); ++i) c.dense.v[i] = i % 64 == i / 128 ? 1.0 : 0.0;
  for (int cut = 0; cut < 3; ++cut) {
    c.blocks.assign(static_cast<size_t>(1 + cut * 2), {});
    for (int64_t j = 0; j < 64; ++j) c.blocks[static_cast<size_t>(j * 7 % (1 + cut * 2))].push_back(63 - j);
    const auto n = run_blocks(c);
    for (int64_t i = 0; i < 64; ++i) {
      for (int64_t h = 0; h < 2; ++h) {
        for (int64_t j = 0; j < 64; ++j) {
          const bool kept = n.out[static_cast<size_t>((i * 2 + h) * 64 + j)] != 0.0F;
          ASSERT_EQ(kept, dense_multiplier(c.dense, 0, h, i, j) != 0.0) << "cut " << cut << " " << i << " " << j;
        }
      }
    }
  }
}

TEST(AttentionMemory, SteadyStateAsksTheSystemForNothing) {
  const auto c = filled_case(self_attention(400, 4, 2, 32), 15);
  run_blocks(c);
  const auto before = host_allocator().stats().system_calls;
  run_blocks(c);
  EXPECT_EQ(host_allocator().stats().system_calls, before);
}

TEST(AttentionMemory, NoBufferGrowsWithTheSquareOfTheLength) {
  const auto largest = [](int64_t tokens) {
    host_allocator().reset_peak();
    run_blocks(filled_case(self_attention(tokens, 1, 1, 8), 16));
    return host_allocator().stats().largest_by_tag[MemoryTag::attention];
  };
  const int64_t small = largest(1024), large = largest(4096);
  EXPECT_LE(large, 5 * small);
  EXPECT_LE(large, int64_t{4096} * 4096);  // a quarter of one fp32 T x T buffer
}

TEST(AttentionValues, NotANumberIsNotSwallowed) {
  auto c = filled_case(self_attention(60, 1, 1, 8), 17);
  c.dense.q[59 * 8] = std::numeric_limits<double>::quiet_NaN();
  const auto n = run_blocks(c);
  EXPECT_TRUE(std::isnan(n.out[59 * 8]));
  EXPECT_FALSE(std::isnan(n.out[58 * 8]));
}

TEST(AttentionValues, LargeScoresNeitherOverflowNorLoseTheMaximum) {
  auto c = filled_case(self_attention(130, 1, 1, 16), 18);
  for (double& q : c.dense.q) q *= 64.0;  // scores up to about 700: e^s is beyond fp32
  const auto n = run_blocks(c);
  EXPECT_LE(compare_with_oracle(c, n).forward, 3e-5);  // |s| 2^-24 of the weights
}

TEST(AttentionErrors, RefusesWhatContradictsItself) {
  const auto error_of = [](auto change) {
    auto c = filled_case(self_attention(4, 2, 2, 4), 19);
    change(c.dense);
    try {
      run_blocks(c);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::usage;
  };
  EXPECT_EQ(error_of([](DenseAttention& a) { a.spec.dropout = 1.0; }), ErrorKind::config);
  EXPECT_EQ(error_of([](DenseAttention& a) { a.spec.window_left = -1; }), ErrorKind::config);
  EXPECT_EQ(error_of([](DenseAttention& a) { a.spec.alibi_slopes = {0.5F}; }), ErrorKind::internal);
  EXPECT_EQ(error_of([](DenseAttention& a) { a.heads = 1; }), ErrorKind::internal);
}

class EveryTarget : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { choose(GetParam()); }
  void TearDown() override { choose(0); }
  static void choose(int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

TEST_P(EveryTarget, EqualsTheOracle) {
  for (uint64_t seed = 500; seed < 540; ++seed) {
    const auto c = random_case(seed, seed % 8 == 0 ? 130 : 30);
    const auto errors = compare_with_oracle(c, run_blocks(c));
    EXPECT_LE(errors.forward, 2e-6) << "seed " << seed << " " << describe(c);
    EXPECT_LE(errors.backward, 1e-5) << "seed " << seed << " " << describe(c);
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, EveryTarget, ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& info) { return std::string(hwy::TargetName(info.param)); });

}  // namespace
}  // namespace farsight::testing
